# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Documentation of the options of modules that tell what they found."""

from __future__ import annotations


class ModuleDocFragment:
    """The fragment ``kubescale.fleet.document``."""

    DOCUMENTATION = r"""
options:
  output:
    description:
      - V(text) is for people; times in it are those of UTC.
      - V(json) shows one document on one line, which is the only line of the run that begins with a brace.
    type: str
    choices: [text, json]
    default: text
  file:
    description: File on the controller that gets the document of V(output=json), indented. Its folder has to exist.
    type: path
"""
