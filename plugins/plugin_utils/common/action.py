# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The base class of all actions."""

from __future__ import annotations

import json
import math
import time
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import fragment_loader
from ansible.utils.display import Display
from ansible.utils.plugin_docs import get_docstring

from .errors import FleetError
from .paths import COLLECTION
from .runs import run_id

#: Keys of a documented option that an argument spec has, too.
SPEC_KEYS = ("type", "elements", "choices", "default", "required")

display = Display()


class Bound(NamedTuple):
    """Lowest and highest allowed value of an option."""

    option: str
    least: float
    most: float = math.inf


class Action(ActionBase):
    """An action in the controller's process, with the options that the module of its name documents."""

    #: Bounds that the options must keep.
    BOUNDS: ClassVar[tuple[Bound, ...]] = ()
    #: Options that only the module of the same name has; the action sets them.
    MODULE_OPTIONS: ClassVar[tuple[str, ...]] = ()
    NAME: ClassVar[str]
    OPTIONS: ClassVar[dict[str, Any]]

    _requires_connection = False

    def __init_subclass__(cls) -> None:
        """Read the options. The main process of a run defines the class, so its workers read nothing."""
        super().__init_subclass__()
        package, _dot, name = cls.__module__.rpartition(".")
        if package.endswith(".plugins.action"):
            cls.NAME = name
            options = documented_options(name)
            cls.OPTIONS = {key: option for key, option in options.items() if key not in cls.MODULE_OPTIONS}

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the result of the task. Raise AnsibleActionFail for wrong arguments and for every FleetError."""
        self._started = time.monotonic()
        self.variables = task_vars or {}
        #: The result, also if the action fails.
        self.result: dict[str, Any] = {"changed": False, **super().run(tmp, task_vars)}
        _unused, self.args = self.validate_argument_spec(argument_spec=self.OPTIONS)
        for name, least, most in self.BOUNDS:
            value = self.args[name]
            if not least <= value <= most:
                limit = f"{least:g} or more" if value < least else f"{most:g} or less"
                raise AnsibleActionFail(f"{name} is {value:g}; it must be {limit}")
        try:
            return self.result | self.act(self.args)
        except (FleetError, OSError) as error:
            known = self.result | {"seconds": self.seconds}
            # Without the cause: ansible-core would append its text, which is in the message already.
            raise AnsibleActionFail(f"{self.title}: {error}", result=known) from None

    @abstractmethod
    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Do the work and return the result, in which `changed` defaults to False."""

    @property
    def host(self) -> str:
        """Name of the task's host in the inventory."""
        return str(self.variables.get("inventory_hostname", ""))

    @property
    def title(self) -> str:
        """Name of the action, for the messages of errors."""
        return self.NAME

    @property
    def check(self) -> bool:
        """Whether the task runs in check mode."""
        return bool(self._task.check_mode)

    @property
    def diff(self) -> bool:
        """Whether the result shows differences."""
        return bool(self._task.diff)

    @property
    def seconds(self) -> float:
        """Seconds since the start of the task."""
        return round(time.monotonic() - self._started, 2)

    @property
    def run_id(self) -> str:
        """Id of the run that the task is part of. Raise FleetError if the variable for it is wrong."""
        try:
            return run_id(self.variables)
        except ValueError as error:
            raise FleetError(str(error)) from None

    def say(self, text: str) -> None:
        """Show a line of progress."""
        display.display(f"[{self.host}] {text}")

    def warn(self, text: str) -> None:
        """Show a warning. Ansible shows those of a result only with the task, which a quiet configuration hides."""
        display.display(f"Mind: {text} [{self.host}]", color="yellow")

    def publish(self, document: Mapping[str, Any], text: str = "") -> None:
        """Write a document to the option `file`, and show it or the text, as the option `output` says."""
        if self.args["file"]:
            Path(self.args["file"]).write_text(f"{json.dumps(document, indent=1)}\n", encoding="utf-8")
        if self.args["output"] == "json":
            text = json.dumps(document)
        if text:
            display.display(text)


def done_result(done: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return the result of an action from what it did: names of things by kind."""
    lines = "".join(f"{kind}: {', '.join(names)}\n" for kind, names in done.items() if names)
    return {"changed": bool(lines), "done": done, "diff": {"before": "", "after": lines}}


def documented_options(module: str) -> dict[str, Any]:
    """Return the argument spec of a module, from its DOCUMENTATION and the fragments that this extends."""
    file = COLLECTION / "plugins/modules" / f"{module}.py"
    document, *_unused = get_docstring(str(file), fragment_loader, is_module=True)
    # As JSON, strings lose the marks of ansible-core, which say where they were written.
    spec: dict[str, Any] = json.loads(json.dumps(argument_spec(document.get("options") or {})))
    return spec


def argument_spec(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the argument spec of documented options, suboptions included."""
    return {
        name: {key: option[key] for key in SPEC_KEYS if key in option}
        | ({"options": argument_spec(option["suboptions"])} if "suboptions" in option else {})
        for name, option in options.items()
    }
