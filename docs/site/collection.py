#!/usr/bin/env python3
# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Makes a copy of the collection for antsibull-docs: docs/site/collection.py FOLDER.

antsibull-docs refuses a default that is not of its option's type, and a template is text whatever it gives. In the
copy such a default stands in the description instead. All but the roles' argument specs are links.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
LEFT_OUT = {"collections", "roles"}
TEXT = {"str", "path", "raw"}


def readable(option: dict[str, Any]) -> dict[str, Any]:
    """An option as antsibull-docs takes it."""
    default = option.get("default")
    if option.get("type", "str") in TEXT or not isinstance(default, str) or "{{" not in default:
        return option
    description = option["description"]
    said = default.replace("\\", "\\\\").replace(")", "\\)")
    described = [*([description] if isinstance(description, str) else description), f"Default is V({said})."]
    return {**{key: value for key, value in option.items() if key != "default"}, "description": described}


def main(folder: Path) -> None:
    """Make the copy; `folder` must not exist."""
    folder.mkdir(parents=True)
    for path in REPOSITORY.iterdir():
        if path.name not in LEFT_OUT and not path.name.startswith("."):
            (folder / path.name).symlink_to(path)
    for role in sorted((REPOSITORY / "roles").iterdir()):
        copy = folder / "roles" / role.name
        (copy / "meta").mkdir(parents=True)
        for path in role.iterdir():
            if path.name != "meta":
                (copy / path.name).symlink_to(path)
        (copy / "meta/main.yml").symlink_to(role / "meta/main.yml")
        specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text(encoding="utf-8"))
        for entry in specs["argument_specs"].values():
            entry["options"] = {name: readable(option) for name, option in (entry.get("options") or {}).items()}
        (copy / "meta/argument_specs.yml").write_text(yaml.safe_dump(specs), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
