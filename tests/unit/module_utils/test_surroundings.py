# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Name servers, disks, kernel modules, proxies and package managers, from files and outputs as systems have them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ansible_collections.kubescale.fleet.plugins.module_utils import surroundings

STUB = "# made by systemd-resolved\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch example.com\n"
REAL = "nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch example.com\n"


@pytest.mark.parametrize(
    ("etc", "resolved", "name", "servers"),
    [
        (STUB, REAL, "resolved", ["192.0.2.53", "2001:db8::53"]),
        (REAL, REAL.replace("192", "198"), "etc", ["192.0.2.53", "2001:db8::53"]),
        (STUB, None, "etc", ["127.0.0.53"]),
        # dnsmasq on the machine, which systemd-resolved asks.
        (STUB, "nameserver 127.0.0.1\n", "etc", ["127.0.0.53"]),
        (STUB, "", "etc", ["127.0.0.53"]),
        (None, None, "etc", []),
        ("; nameserver 1.1.1.1\nnameserver\n", None, "etc", []),
    ],
)
def test_the_name_servers_for_pods(
    tmp_path: Path, etc: str | None, resolved: str | None, name: str, servers: list[str]
) -> None:
    for file, text in (("etc", etc), ("resolved", resolved)):
        if text is not None:
            (tmp_path / file).write_text(text)
    found = surroundings.resolver(tmp_path / "etc", tmp_path / "resolved")
    assert found == {"file": str(tmp_path / name), "servers": servers}


@pytest.mark.parametrize(
    ("server", "loops"),
    [
        ("127.0.0.1", True),
        ("127.0.0.53", True),
        ("::1", True),
        ("192.0.2.1", False),
        ("fe80::1%eth0", False),
        ("x", False),
    ],
)
def test_loopback_servers(server: str, loops: bool) -> None:
    assert surroundings.is_loopback(server) is loops


def test_space_is_that_of_the_place_where_a_folder_will_be(tmp_path: Path) -> None:
    found = surroundings.disk(tmp_path / "not/there/yet")
    assert found == surroundings.disk(tmp_path)
    assert found["device"] == tmp_path.stat().st_dev
    assert 0 < found["free_mib"] < found["total_mib"] == shutil.disk_usage(tmp_path).total // surroundings.MIB


NAMES = ["br_netfilter", "overlay", "vxlan"]


def system(folder: Path, **files: str) -> Path:
    """Write files; in their names, __ stands for a slash."""
    for name, text in {"proc__filesystems": "nodev\tproc\n\text4\n", **files}.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_modules_are_installed_loaded_or_part_of_the_kernel(tmp_path: Path) -> None:
    modules = tmp_path / "lib/modules/6.1.0"
    modules.mkdir(parents=True)
    (modules / "modules.dep").write_text(
        "kernel/net/bridge/br_netfilter.ko.xz: kernel/net/bridge/bridge.ko.xz\nkernel/fs/overlayfs/overlay.ko:\n"
    )
    (modules / "modules.builtin").write_text("kernel/drivers/net/vxlan/vxlan.ko\n")
    system(tmp_path)
    assert surroundings.missing_modules(NAMES, "6.1.0", tmp_path) == []
    # After an update without restart, the modules of the running kernel are gone.
    assert surroundings.missing_modules(NAMES, "6.1.1", tmp_path) == ["br_netfilter", "overlay"]
    (modules / "modules.dep").write_text("kernel/fs/overlayfs/overlay.ko:\n")
    assert surroundings.missing_modules(NAMES, "6.1.0", tmp_path) == ["br_netfilter"]
    (modules / "modules.builtin").write_text("kernel/drivers/net/dummy.ko\n")
    assert surroundings.missing_modules(NAMES, "6.1.0", tmp_path) == ["br_netfilter", "vxlan"]
    (tmp_path / "sys/module/vxlan").mkdir(parents=True)
    assert surroundings.missing_modules(NAMES, "6.1.0", tmp_path) == ["br_netfilter"]


def test_a_container_shows_what_its_host_has_loaded(tmp_path: Path) -> None:
    system(tmp_path, proc__filesystems="nodev\toverlay\n")
    assert surroundings.missing_modules(NAMES, "6.1.0", tmp_path) == ["br_netfilter"]
    (tmp_path / "proc/sys/net/bridge").mkdir(parents=True)
    assert surroundings.missing_modules(NAMES, "6.1.0", tmp_path) == []


@pytest.mark.parametrize(
    ("environment", "proxy", "exceptions"),
    [
        ({}, "", ""),
        ({"http_proxy": "http://p:1"}, "", ""),
        ({"https_proxy": "http://p:1", "no_proxy": "a"}, "http://p:1", "a"),
        (
            {"HTTPS_PROXY": "http://P:1", "https_proxy": "http://p:1", "NO_PROXY": "A", "no_proxy": "a"},
            "http://P:1",
            "A",
        ),
        ({"HTTPS_PROXY": "http://user:secret@p:1/"}, "http://p:1", ""),
        ({"HTTPS_PROXY": "user:secret@p:1"}, "p:1", ""),
    ],
)
def test_proxies_of_the_environment(environment: dict[str, str], proxy: str, exceptions: str) -> None:
    assert surroundings.proxies(environment) == {"https_proxy": proxy, "no_proxy": exceptions}


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("OpenSSL 3.0.19 27 Jan 2026 (Library: OpenSSL 3.0.19 27 Jan 2026)\n", [3, 0]),
        ("OpenSSL 1.1.1w  11 Sep 2023\n", [1, 1]),
        ("OpenSSL 1.1.1k  FIPS 25 Mar 2021\n", [1, 1]),
        ("LibreSSL 3.8.2\n", []),
        ("", []),
    ],
)
def test_versions_of_openssl(text: str, version: list[int]) -> None:
    assert surroundings.openssl_version(text) == version


@pytest.mark.parametrize(
    ("answers", "able"),
    [
        ({"/usr/bin/python3": "3 9 True"}, True),  # Red Hat 9
        ({"/usr/bin/python3.11": "3 11 False", "/usr/libexec/platform-python": "3 6 True"}, False),  # Red Hat 8
        ({"/usr/bin/python3.11": "3 11 False", "/usr/libexec/platform-python": "3 9 True"}, True),
        ({"/usr/bin/python3": "3 13 False"}, False),  # without python3-libdnf5
        ({}, False),
    ],
)
def test_bindings_of_the_package_manager(answers: dict[str, str], able: bool) -> None:
    interpreter = next(iter(answers), "/usr/bin/python3")
    assert surroundings.has_bindings(lambda command: answers.get(command[0], ""), interpreter) is able


def test_the_probe_for_bindings_is_a_program() -> None:
    import subprocess
    import sys

    def run(command: list[str]) -> str:
        return subprocess.run([sys.executable, *command[1:]], capture_output=True, text=True, check=True).stdout

    # This controller is no system with dnf.
    assert surroundings.has_bindings(run, sys.executable) is False


def test_names_that_cannot_be_resolved() -> None:
    names = ["localhost:6443", "192.0.2.1:6443", "192.0.2.1", "no.such.name.invalid:6443"]
    assert surroundings.unresolved(names) == ["no.such.name.invalid"]


@pytest.mark.parametrize(("text", "enforces"), [("1", True), ("0", False), (None, False)])
def test_selinux_enforces_permits_or_is_not_there(tmp_path: Path, text: str | None, enforces: bool) -> None:
    if text is not None:
        (tmp_path / "sys/fs/selinux").mkdir(parents=True)
        (tmp_path / "sys/fs/selinux/enforce").write_text(text)  # the kernel writes no line end
    assert surroundings.selinux_enforces(tmp_path) is enforces
