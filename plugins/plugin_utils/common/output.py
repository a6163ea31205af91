# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""What a playbook has found out, as a document for programs: the options of the actions that give one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Options of every action that gives a document.
OUTPUT_OPTIONS: dict[str, Any] = {
    "output": {"type": "str", "choices": ["text", "json"], "default": "text"},
    "file": {"type": "path"},
}
#: Options of those that read the sets of a cluster.
SET_OPTIONS: dict[str, Any] = {
    "kubeconfig": {"type": "path", "required": True},
    "context": {"type": "str"},
    "parent_namespace": {"type": "str", "default": "kube-system"},
    "component": {"type": "list", "elements": "str", "default": []},
}


def write_document(file: str | None, document: Mapping[str, Any]) -> None:
    """Write a document to the file that was asked for, if any. Raises OSError."""
    if file:
        Path(file).write_text(f"{json.dumps(document, indent=1)}\n", encoding="utf-8")
