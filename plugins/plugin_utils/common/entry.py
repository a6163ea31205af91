# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Read nested values that a person wrote, and collect all errors with their paths instead of stopping at the first."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .text import suggestion


@dataclass(frozen=True)
class Source:
    """Origin of an entry, so that errors name variable, file and line as the author of the entry knows them.

    ``label`` names the entry, such as ``autoscaled_apps[0]``, or is "" for a whole file. ``variables`` maps a path to
    the variable that sets it, if that is not the entry itself. ``where`` returns file and line of a path, or "" if they
    are not known. ``from_user`` is false for entries that the collection brings.
    """

    label: str
    variables: Mapping[str, str] = field(default_factory=dict)
    where: Callable[[str], str] = lambda _path: ""
    from_user: bool = True

    def name(self, path: str) -> str:
        """Return the name of a path as its author would search for it."""
        if path in self.variables:
            return self.variables[path]
        dot = "." if self.label and path and not path.startswith("[") else ""
        return f"{self.label}{dot}{path}"

    def place(self, path: str, value: object = None) -> str:
        """Return the name of a path, its value if it is not None, and file and line if they are known."""
        where = self.where(path)
        return self.name(path) + ("" if value is None else f" = {value!r}") + (f" ({where})" if where else "")


@dataclass
class Findings:
    """Errors and warnings about entries, one line each."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Node:
    """One value of an entry. Its readers collect errors in `findings`, so that a run reports all of them at once.

    A reader returns its default if the value is not set or is wrong.
    """

    def __init__(self, value: object, path: str, source: Source, findings: Findings) -> None:
        self.value = value
        self.path = path
        self.source = source
        self.findings = findings

    def __str__(self) -> str:
        return self.source.place(self.path, self.value)

    @property
    def is_set(self) -> bool:
        """Whether the entry has this value."""
        return self.value is not None

    def reject(self, text: str, show: bool = True) -> None:
        """Add an error about this value. ``show`` is false if the message must not contain the value."""
        self.findings.errors.append(f"{self if show else self.source.place(self.path)}: {text}")

    def get(self, key: str) -> Node:
        """Return the value of a key of this mapping."""
        value = self.value.get(key) if isinstance(self.value, Mapping) else None
        return Node(value, f"{self.path}.{key}" if self.path else key, self.source, self.findings)

    def items(self) -> list[Node]:
        """Return the values of this list, or this value itself if it is no list."""
        if not isinstance(self.value, (list, tuple)):
            return [self]
        return [
            Node(value, f"{self.path}[{number}]", self.source, self.findings) for number, value in enumerate(self.value)
        ]

    def is_mapping(self, allowed: Sequence[str], required: Sequence[str] = ()) -> bool:
        """Return whether this is a mapping. Reject keys that are unknown or missing."""
        if not isinstance(self.value, Mapping):
            self.reject(f"must be a mapping with the keys {', '.join(allowed)}")
            return False
        for key in self.value:
            if key not in allowed:
                hint = suggestion(key, allowed) or f"; there are {', '.join(allowed)}"
                self.get(str(key)).reject(f"there is no such key{hint}", show=False)
        for key in required:
            if self.value.get(key) is None:
                self.get(key).reject("is missing")
        return True

    def text(self, default: str = "", pattern: re.Pattern[str] | None = None, rule: str = "must be text") -> str:
        """Return this value as text that matches a pattern. ``rule`` is the error for any other value."""
        if not self.is_set:
            return default
        if not isinstance(self.value, str) or (pattern and not pattern.fullmatch(self.value)):
            self.reject(rule)
            return default
        return str.__str__(self.value)

    def choice(self, choices: Iterable[str], default: str = "") -> str:
        """Return this value as one of the allowed words."""
        allowed = list(choices)
        if not self.is_set:
            return default
        if self.value not in allowed:
            self.reject(f"must be one of {', '.join(allowed)}{suggestion(self.value, allowed)}")
            return default
        return str(self.value)

    def integer(
        self, default: int = 0, least: int = 1, most: int | None = None, unit: str = "", digits: bool = True
    ) -> int:
        """Return this value as a whole number. ``digits`` allows text of digits, which templates return."""
        if not self.is_set:
            return default
        value = self.value
        if digits and isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or value < least or (most and value > most):
            kind = f"a whole number of {unit}" if unit else "a whole number"
            self.reject(f"must be {kind}, " + (f"{least} to {most}" if most else f"{least} or more"))
            return default
        return int(value)

    def number(self, default: float, above: float, below: float) -> float:
        """Return this value as a number between two others, which are not allowed themselves."""
        if not self.is_set:
            return default
        try:
            value = math.nan if isinstance(self.value, bool) else float(str(self.value))
        except ValueError:
            value = math.nan
        if not above < value < below:
            self.reject(f"must be a number above {above:g} and below {below:g}")
            return default
        return value

    def boolean(self, default: bool) -> bool:
        """Return this value as true or false."""
        if not self.is_set:
            return default
        if not isinstance(self.value, bool):
            self.reject("must be true or false")
            return default
        return self.value

    def labels(self, pattern: re.Pattern[str], rule: str) -> dict[str, str]:
        """Return this value as a mapping of names, which match a pattern, to texts."""
        if not self.is_set:
            return {}
        if not isinstance(self.value, Mapping):
            self.reject("must be a mapping")
            return {}
        for name, value in self.value.items():
            if not pattern.fullmatch(str(name)) or not isinstance(value, (str, int)) or isinstance(value, bool):
                self.get(str(name)).reject(rule)
        return {str(name): str(value) for name, value in self.value.items()}
