# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Find misspelled variables and tags on the command line of a run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.playbook import Playbook
from ansible.playbook.block import Block
from ansible.utils.vars import load_extra_vars

from ..common.components import ROLES
from ..common.text import suggestion
from .preflight import check_names
from .values import role_options

#: Actions that start a child with the tags of the run. The child checks them.
PASSES_TAGS_ON = ("kubescale.fleet.plan", "kubescale.fleet.rollout")
#: The action that checks what roles need, by the tags of the run.
READS_TAGS = "kubescale.fleet.reach"
#: Tags that Ansible itself gives a meaning.
SPECIAL_TAGS = frozenset({"all", "always", "never", "tagged", "untagged"})


def tags_of(playbook: Playbook) -> set[str] | None:
    """Return all tags of a playbook, with those of its roles; None if it passes the tags on to another playbook."""
    tags: set[str] = set()
    for play in playbook.get_plays():
        tags.update(play.tags)
        for item in _items(play.compile()):
            if getattr(item, "action", "") in PASSES_TAGS_ON:
                return None
            tags.update(item.tags)
            if getattr(item, "action", "") == READS_TAGS:
                tags.update(ROLES)
    return tags


def _items(blocks: Iterable[Any]) -> Iterator[Any]:
    """Yield blocks and tasks with all that they contain."""
    for item in blocks:
        yield item
        if isinstance(item, Block):
            yield from _items([*item.block, *item.rescue, *item.always])


def check_variables(loader: DataLoader) -> list[str]:
    """Return an error for each extra variable that is a misspelled or removed variable of the collection."""
    given = load_extra_vars(loader)
    return list(check_names(given, role_options(loader), dict.fromkeys(given, "command line")).values())


def check_tags(option: str, given: Iterable[str], known: Collection[str] | None) -> list[str]:
    """Return an error for each tag that no task has, so that a run does not skip its work silently.

    Tags to skip may be unknown, because tools skip tags of their own, unless they are similar to known ones.
    """
    if known is None:
        return []
    allowed = sorted({*known} - SPECIAL_TAGS)
    hints = {tag: suggestion(tag, allowed) for tag in given if tag not in SPECIAL_TAGS and tag not in known}
    return [
        f"--{option} {tag}: no task has this tag{hint or '; there are ' + ', '.join(allowed)}"
        for tag, hint in hints.items()
        if hint or option == "tags"
    ]
