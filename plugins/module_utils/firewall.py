# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The firewall of a machine, as data. Runs on machines: Python 3.9, standard library."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

#: Runs a command and returns its standard output, or "" if the command is missing or fails.
Run = Callable[[list[str]], str]
#: One way that the firewall leaves open: `source` and `ports` are "" for all, `interface` is "" for every interface.
Rule = dict[str, str]

SERVICES = (Path("/etc/firewalld/services"), Path("/usr/lib/firewalld/services"))
UFW_DEFAULTS = Path("/etc/default/ufw")
# One space follows a long target. A rule may log, and have a comment.
_UFW_RULE = re.compile(
    r"(?P<to>\S.*?)\s+(?P<action>ALLOW(?: IN| FWD)?)\s{2,}(?P<source>\S.*?)(?:\s+\(log(?:-all)?\))?(?:\s+# .*)?\s*"
)
_UFW_DEFAULT = re.compile(r"(\w+) \((incoming|routed)\)")
_RICH_SOURCE = re.compile(r'source address="([^"]+)"')
_RICH_PORT = re.compile(r'port port="([^"]+)" protocol="(\w+)"')
_PORT_ELEMENT = re.compile(r"<port\s[^>]*>")
_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')
_OPTION = re.compile(r"(?<=\s)(--?[\w-]+) (\S+)")
#: Options of iptables rules that narrow a rule in a way that this file does not read.
_UNREAD = {"--ctstate", "--state", "-o", "--sport", "--sports", "-d", "--icmp-type", "!", "--match-set", "--dst-type"}


def rule(source: str = "", interface: str = "", protocol: str = "", ports: str = "") -> Rule:
    """Return a rule; ``ports`` is a number or a range such as 2379-2380."""
    return {"source": source, "interface": interface, "protocol": protocol, "ports": ports}


def nothing(kind: str = "") -> dict[str, Any]:
    """Return the fact about a machine whose firewall lets everything pass."""
    return {"kind": kind, "closed": False, "allowed": [], "forward_closed": False, "forwarded": [], "docker": False}


def look_at_firewall(run: Run) -> dict[str, Any]:
    """Return what the firewall of this machine lets pass to the machine itself, and on to pods. Change nothing."""
    zones = run(["firewall-cmd", "--list-all-zones"])
    if zones:
        default = run(["firewall-cmd", "--get-default-zone"]).strip()
        return firewalld(zones, default, service_ports)
    ufw_status = run(["ufw", "status", "verbose"])
    if "Status: active" in ufw_status:
        defaults = UFW_DEFAULTS.read_text(encoding="utf-8") if UFW_DEFAULTS.exists() else ""
        return ufw(ufw_status, defaults)
    # Unlike iptables --list-rules, iptables-save loads no kernel module.
    found = iptables(run(["iptables-save"]))
    if found["closed"] or found["forward_closed"]:
        return found
    return nftables(run(["nft", "--json", "list", "chains"])) or found


# -- firewalld -----------------------------------------------------------------------------------------------------


def service_ports(name: str) -> list[tuple[str, str]]:
    """Return ports and protocols of one of firewalld's services."""
    file = next((path for folder in SERVICES if (path := folder / f"{name}.xml").exists()), None)
    if file is None:
        return []
    found = (dict(_ATTRIBUTE.findall(port)) for port in _PORT_ELEMENT.findall(file.read_text(encoding="utf-8")))
    return [(port["port"], port["protocol"]) for port in found if port.get("port") and "protocol" in port]


def firewalld(text: str, default: str, ports_of: Callable[[str], list[tuple[str, str]]]) -> dict[str, Any]:
    """Return the fact from the output of `firewall-cmd --list-all-zones` and the name of the default zone."""
    found = {**nothing("firewalld"), "closed": True, "forward_closed": True, "zones": {}}
    for name, zone in _zones(text):
        accepts = zone.get("target") == "ACCEPT"
        places = [rule(source=source) for source in zone.get("sources", "").split()]
        places += [rule(interface=interface) for interface in zone.get("interfaces", "").split()]
        found["zones"].update(dict.fromkeys(zone.get("interfaces", "").split(), name))
        if accepts:
            found["forwarded"] += places
        places += [rule()] if name == default else []
        ports = [entry.split("/") for entry in zone.get("ports", "").split()]
        ports += [list(pair) for service in zone.get("services", "").split() for pair in ports_of(service)]
        for place in places:
            found["allowed"] += [place] if accepts else []
            found["allowed"] += [{**place, "ports": number, "protocol": protocol} for number, protocol in ports]
            found["allowed"] += [{**place, **extra} for extra in map(_rich, zone["rich"]) if extra]
    found["zones"][""] = default
    return found


def _zones(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the settings of each zone; `rich` is the list of its rich rules."""
    name = ""
    zone: dict[str, Any] = {}
    for line in text.splitlines():
        if line.strip() and not line[0].isspace():
            if name:
                yield name, zone
            name, zone = line.split()[0], {"rich": []}
        elif line.strip().startswith("rule "):
            zone["rich"].append(line.strip())
        elif ":" in line:
            key, _colon, value = line.strip().partition(":")
            zone[key] = value.strip()
    if name:
        yield name, zone


def _rich(text: str) -> dict[str, str]:
    """Return what a rich rule adds to a rule, or {} if it accepts nothing or says more than a source and a port."""
    if not text.endswith(" accept") or "NOT" in text or "service name" in text:
        return {}
    source, port = _RICH_SOURCE.search(text), _RICH_PORT.search(text)
    if "destination" in text or ("port" in text and port is None):
        return {}
    extra = {"source": source.group(1)} if source else {}
    return {**extra, **({"ports": port.group(1), "protocol": port.group(2)} if port else {})}


# -- ufw -----------------------------------------------------------------------------------------------------------


def ufw(status: str, defaults: str) -> dict[str, Any]:
    """Return the fact from the output of `ufw status verbose` and the text of /etc/default/ufw."""
    policies = {direction: policy for policy, direction in _UFW_DEFAULT.findall(status)}
    routed = policies.get("routed", "deny")
    if routed == "disabled":  # the kernel does not forward yet; a node does
        routed = "allow" if re.search(r'^DEFAULT_FORWARD_POLICY="?ACCEPT', defaults, re.MULTILINE) else "deny"
    found = nothing("ufw")
    found["closed"] = policies.get("incoming") != "allow"
    found["forward_closed"] = routed != "allow"
    for line in status.splitlines():
        match = _UFW_RULE.fullmatch(line)
        if match is None:
            continue
        source, _on, from_interface = match["source"].partition(" on ")
        source = "" if source == "Anywhere" else source
        if match["action"] == "ALLOW FWD":
            found["forwarded"].append(rule(source, from_interface))
            continue
        target, _on, interface = match["to"].partition(" on ")
        port = re.sub(r" \(.*\)$", "", target).split()[-1]  # before it may be the address that is asked
        number, _slash, protocol = port.partition("/")
        if port == "Anywhere":
            found["allowed"].append(rule(source, interface))
        elif re.fullmatch(r"[\d:,]+", number):
            numbers = number.replace(":", "-").split(",")
            found["allowed"] += [rule(source, interface, protocol, one) for one in numbers]
    return found


# -- iptables and nftables -----------------------------------------------------------------------------------------


def iptables(text: str) -> dict[str, Any]:
    """Return the fact from the output of iptables-save."""
    lines = _filter_table(text)
    found = nothing("iptables")
    found["docker"] = any(line.startswith(":DOCKER") for line in lines)
    found["closed"] = _is_closed(lines, "INPUT")
    found["forward_closed"] = _is_closed(lines, "FORWARD")
    found["allowed"] = [one for line in lines for one in _accepts(line, ("INPUT",))]
    forwarded = [one for line in lines for one in _accepts(line, ("FORWARD", "DOCKER-USER"))]
    found["forwarded"] = [one for one in forwarded if not one["ports"] and not one["protocol"]]
    return found


def _filter_table(text: str) -> list[str]:
    inside, lines = False, []
    for line in text.splitlines():
        if line.startswith("*"):
            inside = line == "*filter"
        elif inside:
            lines.append(line)
    return lines


def _is_closed(lines: list[str], chain: str) -> bool:
    """Return whether a chain drops what none of its rules accepts: by its policy, or by a last rule for everything."""
    if any(re.match(rf":{chain} (DROP|REJECT)\b", line) for line in lines):
        return True
    own = [line for line in lines if line.startswith(f"-A {chain} ")]
    return bool(own) and re.match(rf"-A {chain} -j (DROP|REJECT)\b", own[-1]) is not None


def _accepts(line: str, chains: tuple[str, ...]) -> list[Rule]:
    """Return a rule for each port of a line that accepts in one of the chains. A line with unread options has none."""
    words = line.split()
    if len(words) < 4 or words[0] != "-A" or words[1] not in chains or words[-2:] != ["-j", "ACCEPT"]:
        return []
    if _UNREAD & set(words):
        return []
    options = dict(_OPTION.findall(line))
    ports = options.get("--dport") or options.get("--dports") or ""
    place = options.get("-s", ""), options.get("-i", ""), options.get("-p", "")
    return [rule(*place, number) for number in ports.replace(":", "-").split(",")]


def nftables(text: str) -> dict[str, Any] | None:
    """Return the fact from `nft --json list chains` if a chain drops by default, else None. Rules are not read."""
    try:
        entries = json.loads(text or "{}").get("nftables", [])
    except ValueError:
        return None
    chains = [entry["chain"] for entry in entries if "chain" in entry]
    dropping = {chain["hook"]: chain for chain in chains if chain.get("policy") == "drop" and "hook" in chain}
    if not dropping.keys() & {"input", "forward"}:
        return None
    found = nothing("nftables")
    found["closed"], found["forward_closed"] = "input" in dropping, "forward" in dropping
    found["chains"] = sorted(f"{c['family']} {c['table']} {c['name']}" for h, c in dropping.items() if h != "output")
    return found
