"""Playbook runs against the scenario's inventory, as data."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
INVENTORY = Path(os.environ.get("MOLECULE_SCENARIO_DIRECTORY", REPOSITORY / "molecule" / "default")) / "inventory"


@dataclass(frozen=True)
class Run:
    """What a playbook run did."""

    returncode: int
    report: dict[str, Any]
    output: str

    def total(self, key: str) -> int:
        """Return the sum of ``changed``, ``failures`` or ``unreachable`` over all hosts."""
        return sum(host[key] for host in self.report["stats"].values())

    def results(self, key: str) -> dict[str, list[dict[str, Any]]]:
        """Return the results for which ``key`` is true, by the task's name."""
        found: dict[str, list[dict[str, Any]]] = {}
        for play in self.report["plays"]:
            for task in play["tasks"]:
                for result in task["hosts"].values():
                    if result.get(key):
                        found.setdefault(task["task"]["name"], []).append(result)
        return found

    def messages(self) -> str:
        """Return everything that failed tasks said."""
        failed = {**self.results("failed"), **self.results("unreachable")}
        return "\n".join(str(result.get("msg", result)) for results in failed.values() for result in results)


def run_playbook(playbook: str, *arguments: str, inventory: Path = INVENTORY) -> Run:
    """Run a playbook of the repository, against the scenario's inventory; the result is parsed, never searched."""
    return start_playbook(playbook, *arguments, inventory=inventory)()


def start_playbook(playbook: str, *arguments: str, inventory: Path = INVENTORY) -> Callable[[], Run]:
    """Start the same; the result is a function that waits for the run's end."""
    run = subprocess.Popen(
        ["ansible-playbook", f"--inventory={inventory}", f"playbooks/{playbook}.yml", *arguments],
        cwd=REPOSITORY,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "ANSIBLE_DISPLAY_OK_HOSTS": "true",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def finish() -> Run:
        said, complained = run.communicate()
        # The phases callback writes lines before and after the report.
        start = f"\n{said}".find("\n{\n")
        report = json.JSONDecoder().raw_decode(said, start)[0] if start >= 0 else {"stats": {}, "plays": []}
        return Run(run.returncode, report, said + complained)

    return finish
