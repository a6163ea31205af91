# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Firewalls: from the output of their tools to the problem of a machine, with its remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.module_utils import firewall
from ansible_collections.kubescale.fleet.plugins.plugin_utils.machines.firewall import (
    firewall_problem,
    needed_ports,
)

PODS = "10.244.0.0/16"
PEERS = ["192.0.2.12", "192.0.2.13", PODS]

FIREWALLD = """\
block
  target: %%REJECT%%
  interfaces:
  sources:

public (default, active)
  target: default
  ingress-priority: 0
  icmp-block-inversion: no
  interfaces: eth0
  sources:
  services: cockpit dhcpv6-client ssh{services}
  ports: {ports}
  protocols:
  forward: yes
  masquerade: no
  forward-ports:
  source-ports:
  icmp-blocks:
  rich rules:
{rich}
trusted{active}
  target: ACCEPT
  interfaces: {interfaces}
  sources: {sources}
  services:
  ports:
  rich rules:
"""
ALL_PORTS = "6443/tcp 2379-2380/tcp 10250/tcp 9100/tcp 8472/udp"


def firewalld(
    ports: str = "", sources: str = "", interfaces: str = "", services: str = "", rich: str = ""
) -> dict[str, Any]:
    text = FIREWALLD.format(
        ports=ports, sources=sources, interfaces=interfaces, services=services, rich=rich, active=" (active)"
    )
    known = {"kube-apiserver": [("6443", "tcp")]}
    return firewall.firewalld(text, "public", lambda name: known.get(name, []))


def problem(found: dict[str, Any], control_planes: int = 1, part: str = "control_plane") -> str:
    ports = needed_ports(part == "control_plane", control_planes, vxlan=True)
    return firewall_problem(found, "eth0", PEERS, ports, PODS)


def test_a_new_firewalld_blocks_everything() -> None:
    said = problem(firewalld(), control_planes=3)
    assert "firewall (firewalld) blocks the ports 6443/tcp, 2379-2380/tcp, 10250/tcp, 9100/tcp, 8472/udp" in said
    assert f"forwarded traffic of pods ({PODS})" in said
    assert "firewall-cmd --permanent --zone=public --add-port=6443/tcp --add-port=2379-2380/tcp" in said
    assert f"firewall-cmd --permanent --zone=trusted --add-source={PODS}; firewall-cmd --reload" in said
    assert "10256/tcp" in said


def test_open_ports_alone_are_not_enough() -> None:
    said = problem(firewalld(ALL_PORTS))
    assert "ports" not in said.partition(". ")[0]
    assert f"forwarded traffic of pods ({PODS})" in said
    assert "--add-port" not in said


@pytest.mark.parametrize(
    "settings",
    [
        {"ports": ALL_PORTS, "sources": PODS},
        {"ports": ALL_PORTS, "sources": "10.0.0.0/8 192.168.0.0/16"},
        {"ports": ALL_PORTS, "interfaces": "cni0 flannel.1"},
        {"ports": "9000-9200/tcp 10000-11000/tcp 8472/udp", "services": " kube-apiserver", "sources": PODS},
        {"sources": f"192.0.2.0/24 {PODS}"},
        {"sources": PODS, "rich": '\trule family="ipv4" source address="192.0.2.0/24" accept'},
        {
            "ports": "10250/tcp 9100/tcp 8472/udp",
            "sources": PODS,
            "rich": '\trule family="ipv4" source address="192.0.2.0/24" port port="6443" protocol="tcp" accept',
        },
    ],
)
def test_a_firewalld_that_is_right(settings: dict[str, str]) -> None:
    assert problem(firewalld(**settings)) == ""


@pytest.mark.parametrize(
    "settings",
    [
        {"ports": ALL_PORTS.replace("8472/udp", "8472/tcp"), "sources": PODS},
        {"ports": ALL_PORTS, "sources": "10.244.0.0/24"},
        {"ports": ALL_PORTS, "interfaces": "cni0"},
        {"sources": f"192.0.2.12 {PODS}"},
        {"sources": PODS, "rich": '\trule family="ipv4" source NOT address="192.0.2.0/24" accept'},
        {"sources": PODS, "rich": '\trule family="ipv4" source address="192.0.2.0/24" drop'},
        {
            "ports": "10250/tcp 9100/tcp 8472/udp",
            "sources": PODS,
            "rich": '\trule family="ipv4" source NOT address="192.0.2.0/24" port port="6443" protocol="tcp" accept',
        },
        {"sources": PODS, "rich": '\trule family="ipv4" source address="192.0.2.0/24" service name="ssh" accept'},
    ],
)
def test_a_firewalld_that_is_nearly_right(settings: dict[str, str]) -> None:
    assert problem(firewalld(**settings)) != ""


def test_a_zone_of_pods_must_accept() -> None:
    text = f"pods (active)\n  target: {{}}\n  sources: {PODS}\n  ports: {ALL_PORTS}\npublic\n  ports: {ALL_PORTS}\n"
    said = problem(firewall.firewalld(text.format("default"), "public", lambda _name: []))
    assert "forwarded traffic" in said
    assert problem(firewall.firewalld(text.format("ACCEPT"), "public", lambda _name: [])) == ""


def test_ports_of_firewallds_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewall, "SERVICES", (tmp_path / "etc", tmp_path / "usr"))
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr/etcd.xml").write_text(
        '<?xml version="1.0"?>\n<service>\n <short>etcd</short>\n <port protocol="tcp" port="2379-2380"/>\n</service>'
    )
    assert firewall.service_ports("etcd") == [("2379-2380", "tcp")]
    assert firewall.service_ports("unknown") == []


UFW = """\
Status: active
Logging: on (low)
Default: {incoming} (incoming), allow (outgoing), {routed} (routed)
New profiles: skip

To                         Action      From
--                         ------      ----
22/tcp (OpenSSH)           ALLOW IN    Anywhere
{rules}
22/tcp (v6)                ALLOW IN    Anywhere (v6)
"""
OPEN = """\
6443/tcp                   ALLOW IN    Anywhere
10250,9100/tcp             ALLOW IN    Anywhere
8472/udp                   ALLOW IN    Anywhere"""


def ufw(rules: str = "", incoming: str = "deny", routed: str = "deny", defaults: str = "") -> dict[str, Any]:
    return firewall.ufw(UFW.format(rules=rules, incoming=incoming, routed=routed), defaults)


def test_a_new_ufw_blocks_everything() -> None:
    said = problem(ufw())
    assert "firewall (ufw) blocks the ports 6443/tcp, 10250/tcp, 9100/tcp, 8472/udp and the forwarded" in said
    assert "ufw allow 6443/tcp" in said
    assert f"ufw route allow from {PODS}" in said
    assert "ufw allow 2379:2380/tcp" in problem(ufw(), control_planes=3)


@pytest.mark.parametrize(
    ("rules", "others"),
    [
        (f"{OPEN}\nAnywhere                   ALLOW FWD   10.244.0.0/16", {}),
        (OPEN, {"routed": "allow"}),
        (OPEN, {"routed": "disabled", "defaults": 'DEFAULT_FORWARD_POLICY="ACCEPT"\n'}),
        ("", {"incoming": "allow", "routed": "allow"}),
        (f"Anywhere                   ALLOW IN    192.0.2.0/24\n{OPEN}", {"routed": "allow"}),
        (
            "Anywhere on eth0           ALLOW IN    192.0.2.0/24\n"
            "Anywhere                   ALLOW IN    10.244.0.0/16\n"
            "Anywhere                   ALLOW FWD   Anywhere on cni0\n"
            "Anywhere                   ALLOW FWD   Anywhere on flannel.1",
            {},
        ),
    ],
)
def test_a_ufw_that_is_right(rules: str, others: dict[str, str]) -> None:
    assert problem(ufw(rules, **others)) == ""


@pytest.mark.parametrize(
    ("rules", "others"),
    [
        (OPEN, {}),
        (OPEN, {"routed": "disabled", "defaults": 'DEFAULT_FORWARD_POLICY="DROP"\n'}),
        (OPEN, {"routed": "reject"}),
        (OPEN.replace("8472/udp", "8473/udp"), {"routed": "allow"}),
        (OPEN.replace("ALLOW IN", "DENY IN"), {"routed": "allow"}),
        ("Anywhere on eth1           ALLOW IN    Anywhere", {"routed": "allow"}),
    ],
)
def test_a_ufw_that_is_nearly_right(rules: str, others: dict[str, str]) -> None:
    assert problem(ufw(rules, **others)) != ""


DOCKER = """\
# Generated by iptables-save v1.8.9 (nf_tables)
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
{rules}COMMIT
*nat
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
COMMIT
"""


def test_dockers_forward_policy() -> None:
    said = problem(firewall.iptables(DOCKER.format(rules="")))
    assert said.startswith(f"its firewall (Docker's rules) blocks the forwarded traffic of pods ({PODS}). ")
    assert "DOCKER-USER" in said
    assert problem(firewall.iptables(DOCKER.format(rules=f"-A DOCKER-USER -s {PODS} -j ACCEPT\n"))) == ""
    # Docker 28 and newer can leave the policy alone.
    assert problem(firewall.iptables(DOCKER.format(rules="").replace("FORWARD DROP", "FORWARD ACCEPT"))) == ""


# What several clouds put into their images.
CLOUD = """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p icmp -j ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -p tcp -m state --state NEW -m tcp --dport 22 -j ACCEPT
{rules}-A INPUT -j REJECT --reject-with icmp-host-prohibited
-A FORWARD -j REJECT --reject-with icmp-host-prohibited
COMMIT
"""


def test_a_last_rule_that_rejects() -> None:
    said = problem(firewall.iptables(CLOUD.format(rules="")))
    assert "firewall (iptables) blocks the ports 6443/tcp" in said
    assert "in the chain FORWARD" in said
    rules = (
        "-A INPUT -s 192.0.2.0/24 -j ACCEPT\n-A INPUT -s 10.244.0.0/16 -i eth0 -p tcp -m tcp --dport 6443 -j ACCEPT\n"
    )
    closed = problem(firewall.iptables(CLOUD.format(rules=rules)))
    assert "blocks the ports 10250/tcp, 9100/tcp, 8472/udp" in closed


@pytest.mark.parametrize(
    "text",
    [
        "",
        # podman, as on the controller of a sandbox, and a machine that is one of its containers.
        "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:NETAVARK_FORWARD - [0:0]\n"
        '-A FORWARD -m comment --comment "netavark firewall plugin rules" -j NETAVARK_FORWARD\n'
        "-A NETAVARK_FORWARD -d 10.89.0.0/24 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\nCOMMIT\n",
        "*nat\n:DOCKER - [0:0]\n:FORWARD DROP [0:0]\nCOMMIT\n",
    ],
)
def test_rules_that_block_nothing(text: str) -> None:
    assert problem(firewall.iptables(text)) == ""


def chains(**policies: str) -> str:
    chain = {"family": "inet", "table": "filter", "type": "filter", "prio": 0}
    entries = [{"chain": {**chain, "name": hook, "hook": hook, "policy": policy}} for hook, policy in policies.items()]
    return json.dumps({"nftables": [{"metainfo": {"version": "1.0.6"}}, *entries, {"chain": chain | {"name": "x"}}]})


def test_own_tables_of_nftables() -> None:
    assert firewall.nftables(chains(input="accept", forward="accept", output="drop")) is None
    assert firewall.nftables("") is None
    found = firewall.nftables(chains(input="drop", forward="accept"))
    assert found is not None
    said = problem(found)
    assert "inet filter input" in said
    assert "6443/tcp" in said
    assert "forwarded" not in said


class Tools:
    """Answers of a machine's commands."""

    def __init__(self, **answers: str) -> None:
        self.answers = answers
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str]) -> str:
        self.commands.append(command)
        return self.answers.get(command[0].replace("-", "_"), "")


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ({}, "iptables"),
        ({"firewall_cmd": "public\n  target: default\n", "iptables_save": DOCKER.format(rules="")}, "firewalld"),
        ({"ufw": UFW.format(rules="", incoming="deny", routed="deny")}, "ufw"),
        ({"ufw": "Status: inactive\n", "iptables_save": DOCKER.format(rules="")}, "iptables"),
        ({"nft": chains(forward="drop")}, "nftables"),
    ],
)
def test_which_firewall_is_judged(answers: dict[str, str], kind: str) -> None:
    tools = Tools(**answers)
    assert firewall.look_at_firewall(tools)["kind"] == kind
    # A look changes nothing: iptables itself would load kernel modules.
    assert {command[0] for command in tools.commands} <= {"firewall-cmd", "ufw", "iptables-save", "nft"}


def ufw_line(target: str, action: str, source: str, rest: str = "") -> str:
    """A line as ufw 0.36 prints it (get_status in backend_iptables.py)."""
    return f"{target:<26} {action:<12}{source:<26}{rest}"


@pytest.mark.parametrize(
    "line",
    [
        ufw_line("6443/tcp", "ALLOW IN", "Anywhere"),
        ufw_line("6443/tcp", "ALLOW IN", "Anywhere", " # the API"),
        ufw_line("6443/tcp", "ALLOW IN", "Anywhere", " (log)"),
        ufw_line("6443/tcp", "ALLOW IN", "Anywhere", " (log-all) # the API"),
        ufw_line("192.0.2.11 6443/tcp (kube-apiserver)", "ALLOW IN", "Anywhere"),
    ],
)
def test_lines_of_ufw_with_long_targets_logs_and_comments(line: str) -> None:
    status = f"Status: active\nDefault: deny (incoming), allow (outgoing), deny (routed)\n\n{line}\n"
    assert firewall.ufw(status, "")["allowed"] == [firewall.rule(protocol="tcp", ports="6443")]


#: As iptables-save 1.8.9 printed the rules of a network namespace.
SAVED = """\
# Generated by iptables-save v1.8.9 (nf_tables) on Tue Dec  1 13:25:14 2026
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -p tcp -m multiport --dports 6443,2379:2380,10250,9100 -j ACCEPT
-A INPUT -p udp -m udp --dport 8472 -j ACCEPT
-A FORWARD -s 10.244.0.0/16 -j ACCEPT
-A FORWARD -d 10.244.0.0/16 -j ACCEPT
COMMIT
# Completed on Tue Dec  1 13:25:14 2026
"""


def test_a_list_of_ports_opens_each_of_them() -> None:
    assert problem(firewall.iptables(SAVED), control_planes=3) == ""
    said = problem(firewall.iptables(SAVED.replace("10250,", "")), control_planes=3)
    assert "10250/tcp" in said.partition(". ")[0]
    assert "2379-2380/tcp" not in said.partition(". ")[0]
