#!/usr/bin/env python3
# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Writes playbooks/tasks/*.yml and docs/components.md from the list in plugins/plugin_utils/common/components.py.

docs/components.py           write what is out of date
docs/components.py --check   write nothing; name what is out of date and fail if there is any
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

from pages import REPOSITORY, keep, table

sys.path.insert(0, str(REPOSITORY))

from plugins.plugin_utils.common.components import COMPONENTS, Component

HEADER = """\
---
# Made from plugins/plugin_utils/common/components.py by `make docs`; edit that file instead.
# inputs.yml has checked the variables of all roles: to check them again took a fifth of a run that changes nothing.
"""
PAGE = """\
<!-- Made from plugins/plugin_utils/common/components.py by `make docs`; edit that file instead. -->

# Components

Run one component alone, leave one out, or remove one:

```shell
ansible-playbook site.yml --tags grafana        # this one only
ansible-playbook site.yml --skip-tags grafana   # all others
```

The variable `<role>_state` of each role is `present` or `absent`; `grafana_state: absent` removes all that role
`grafana` has made. Runs apply components in the order of this table, and wait at the end until all of them are ready.

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


def tasks() -> dict[Path, str]:
    """Return the text of each file of tasks: one for each part."""
    return {
        REPOSITORY / "playbooks/tasks" / f"{part}.yml": HEADER + "\n".join(map(task, components))
        for part, components in groupby(COMPONENTS, lambda component: component.part)
    }


def page() -> str:
    """Return the page with the table of components."""
    rows = [
        [
            f"[{component.role}](../roles/{component.role}/README.md)",
            component.title + (f" (`prometheus_flavor: {component.flavor}`)" if component.flavor else ""),
            f"`{component.namespace}`" if component.namespace else "those of the apps",
            ", ".join(f"`{tag}`" for tag in component.tags),
            f"`{'metrics' if component.part == 'last' else component.part}.yml`",
        ]
        for component in COMPONENTS
    ]
    return PAGE + table(["role", "what it is", "namespace", "tags", "playbook that applies it alone"], rows)


def pages() -> dict[Path, str]:
    """Return the text of each file."""
    return {**tasks(), REPOSITORY / "docs/components.md": page()}


if __name__ == "__main__":
    sys.exit(keep(pages(), sys.argv[1:]))
