#!/usr/bin/env python3
# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Writes playbooks/tasks/*.yml, which apply components, from the list in plugins/plugin_utils/common/components.py.

docs/components.py           write what is out of date
docs/components.py --check   write nothing; name what is out of date and fail if there is any
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

from pages import REPOSITORY, keep

sys.path.insert(0, str(REPOSITORY))

from plugins.plugin_utils.common.components import COMPONENTS, Component

HEADER = """\
---
# Made from plugins/plugin_utils/common/components.py by `make docs`; edit that file instead.
# inputs.yml has checked the variables of all roles: to check them again took a fifth of a run that changes nothing.
"""
TASK = """\
- name: Set up {title}
  ansible.builtin.import_role:
    name: kubescale.fleet.{role}
    rolespec_validate: false
"""
CONDITION = "  when: lookup('kubescale.fleet.cluster').flavor == '{flavor}'\n"


def task(component: Component) -> str:
    """Return the task that applies a component."""
    text = TASK.format(title=component.title, role=component.role)
    text += CONDITION.format(flavor=component.flavor) if component.flavor else ""
    return text + f"  tags: [{', '.join(component.tags)}]\n"


def pages() -> dict[Path, str]:
    """Return the text of each file: one for each part."""
    return {
        REPOSITORY / "playbooks/tasks" / f"{part}.yml": HEADER + "\n".join(map(task, components))
        for part, components in groupby(COMPONENTS, lambda component: component.part)
    }


if __name__ == "__main__":
    sys.exit(keep(pages(), sys.argv[1:]))
