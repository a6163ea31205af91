# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: machine_config
short_description: Bring a machine's files, kernel settings and services into the wanted state
version_added: 0.1.0
description:
  - Writes files, loads kernel modules, sets kernel parameters, and starts services, in this order, in one task.
  - Restarts a service if one of the files that it reads is newer than its start. So the next run makes up for a restart
    that an interrupted run missed, and nothing restarts twice.
author: kubescale founders (@kubescale)
attributes:
  diff_mode:
    description: Shows the changed files, parameters and services.
    support: full
options:
  files:
    description: Content of files by path. Missing folders are created with mode 0755.
    type: dict
    default: {}
  mode:
    description: Mode of the files, octal.
    type: str
    default: "0644"
  modules:
    description: Kernel modules to load.
    type: list
    elements: str
    default: []
  modules_optional:
    description: Whether to ignore a kernel module that cannot be loaded, as in a container, whose host loads modules.
    type: bool
    default: false
  sysctl:
    description: Values of kernel parameters by name, until the next boot. Also write them to a file of /etc/sysctl.d.
    type: dict
    default: {}
  services:
    description: Services in the order of their start.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the unit.
        type: str
        required: true
      restart_for:
        description: Files (or folders of files) that the service reads when it starts.
        type: list
        elements: str
        default: []
      needs:
        description: A file that the service needs. Without the file the service is enabled, but not started.
        type: str
extends_documentation_fragment: [kubescale.fleet.attributes.changes]
"""

EXAMPLES = r"""
- name: Forward packets
  kubescale.fleet.machine_config:
    files: {/etc/sysctl.d/90-kubescale.conf: "net.ipv4.ip_forward = 1\n"}
    sysctl: {net.ipv4.ip_forward: "1"}
"""

RETURN = r"""
files:
  description: Files that were written, or would be in check mode.
  type: list
  elements: str
  returned: success
services:
  description: Services that were enabled, started or restarted, or would be in check mode.
  type: list
  elements: str
  returned: success
"""

import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubescale.fleet.plugins.module_utils.files import replace_file
from ansible_collections.kubescale.fleet.plugins.module_utils.services import JOURNAL_LINES, journal

PROPERTIES = ("ActiveState", "UnitFileState", "ExecMainStartTimestampMonotonic", "NeedDaemonReload", "LoadState")


def newest(paths: list[str]) -> float:
    """Return the last change of the existing files, and of files in folders, in seconds since 1970, else 0."""
    files = [file for path in map(Path, paths) for file in ([path, *path.iterdir()] if path.is_dir() else [path])]
    return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)


def parse_properties(text: str) -> dict[str, str]:
    """Return the output of systemctl show as a mapping."""
    return dict(line.partition("=")[::2] for line in text.splitlines())


def service_action(unit: dict[str, str], changed_at: float, now: float, uptime: float, startable: bool) -> list[str]:
    """Return the systemctl verbs that a service needs: enable, start, restart.

    ``changed_at`` and ``now`` are seconds since 1970. ``uptime`` is seconds since the boot, by systemd's clock.
    """
    verbs = [] if unit["UnitFileState"] in ("enabled", "enabled-runtime", "static") else ["enable"]
    if not startable:
        return verbs
    if unit["ActiveState"] not in ("active", "reloading"):
        return [*verbs, "restart" if unit["ActiveState"] == "activating" else "start"]
    started_at = now - uptime + int(unit["ExecMainStartTimestampMonotonic"]) / 1e6
    return [*verbs, "restart"] if changed_at > started_at else verbs


class Configurer:
    """Applies the parameters of the module, and collects the changes."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.check = module.check_mode
        self.diff: list[dict[str, str]] = []

    def note(self, what: str, before: str, after: str) -> None:
        """Add a change to the diff."""
        self.diff.append({"before_header": what, "after_header": what, "before": before, "after": after})

    def systemctl(self, *arguments: str) -> str:
        """Run systemctl. Fail the module if systemctl fails."""
        return str(self.module.run_command(["systemctl", *arguments], check_rc=True)[1])

    def write(self, name: str, content: str) -> bool:
        """Write one file if its content or mode differs. Return whether it does."""
        path = Path(name)
        before = path.read_text(encoding="utf-8") if path.exists() else None
        if before != content:
            self.note(name, before or "", content)
            if not self.check:
                try:
                    replace_file(path, content, int(self.module.params["mode"], 8))
                except OSError as error:  # a full or read-only disk; the old file stays
                    self.module.fail_json(msg=f"{name} cannot be written: {error.strerror}.")
            return True
        changed = bool(self.module.set_mode_if_different(name, self.module.params["mode"], changed=False))
        if changed:
            self.note(name, "another mode\n", f"mode {self.module.params['mode']}\n")
        return changed

    def load(self, name: str) -> None:
        """Load one kernel module unless it is loaded."""
        loaded = Path("/sys/module") / name
        if loaded.exists() or self.check:
            return
        code, _unused, problem = self.module.run_command(["modprobe", name])
        if code and not self.module.params["modules_optional"]:
            self.module.fail_json(
                msg=f"Kernel module {name} cannot be loaded: {problem.strip()}. "
                "Install the package with this kernel's modules."
            )
        if loaded.exists():
            self.note(f"kernel module {name}", "", "loaded\n")

    def set_parameter(self, name: str, value: str) -> None:
        """Set one kernel parameter."""
        path = Path("/proc/sys") / name.replace(".", "/")
        try:
            before = path.read_text(encoding="ascii").strip()
            if before.split() == value.split():
                return
            if not self.check:
                path.write_text(value, encoding="ascii")
        except OSError as error:
            if self.check and not path.exists():
                return  # a kernel module provides the parameter, and check mode does not load it
            self.module.fail_json(
                msg=f"Kernel parameter {name} cannot be set to {value} ({error.strerror}). In a container, its host "
                "must provide it; for net.bridge.* it must load br_netfilter."
            )
        self.note(f"kernel parameter {name}", f"{before}\n", f"{value}\n")

    def serve(self, service: dict[str, Any], files: list[str]) -> str:
        """Enable, start or restart one service, given the changed files. Return its name and the verbs, or ""."""
        name = service["name"]
        unit = parse_properties(self.systemctl("show", name, f"--property={','.join(PROPERTIES)}"))
        if unit["NeedDaemonReload"] == "yes" and not self.check:
            self.systemctl("daemon-reload")
        startable = not service.get("needs") or Path(service["needs"]).exists()
        uptime = time.clock_gettime(time.CLOCK_MONOTONIC)
        now = time.time()
        # Check mode has not written the files, so their times do not show the change.
        stale = self.check and any(name.startswith(tuple(service["restart_for"])) for name in files)
        changed_at = now if stale else newest(service["restart_for"])
        verbs = service_action(unit, changed_at, now, uptime, startable)
        if not verbs:
            return ""
        self.note(f"service {name}", "", f"{' and '.join(verbs)}\n")
        if not self.check:
            for verb in verbs:
                if verb != "enable":
                    # systemd does not start a unit that failed too often before its counter is reset.
                    self.module.run_command(["systemctl", "reset-failed", name])
                code, _unused, problem = self.module.run_command(["systemctl", verb, name])
                if code:
                    log = journal(lambda command: self.module.run_command(command)[1], name, JOURNAL_LINES)
                    self.module.fail_json(msg="\n".join([f"systemctl {verb} {name} failed: {problem.strip()}", *log]))
        return f"{name}: {', '.join(verbs)}"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "dict", "default": {}},
            "mode": {"type": "str", "default": "0644"},
            "modules": {"type": "list", "elements": "str", "default": []},
            "modules_optional": {"type": "bool", "default": False},
            "sysctl": {"type": "dict", "default": {}},
            "services": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "restart_for": {"type": "list", "elements": "str", "default": []},
                    "needs": {"type": "str"},
                },
            },
        },
        supports_check_mode=True,
    )
    work = Configurer(module)
    files = [name for name, content in module.params["files"].items() if work.write(name, content)]
    if any(name.startswith("/etc/systemd/system/") for name in files) and not module.check_mode:
        work.systemctl("daemon-reload")
    for name in module.params["modules"]:
        work.load(name)
    for name, value in module.params["sysctl"].items():
        work.set_parameter(name, str(value))
    services = [done for service in module.params["services"] if (done := work.serve(service, files))]
    module.exit_json(changed=bool(work.diff), files=files, services=services, diff=work.diff)


if __name__ == "__main__":
    main()
