# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The base class of the errors that a user can do something about."""

from __future__ import annotations


class FleetError(Exception):
    """A failure with a text for the user. Anything else that is raised is a fault of this collection."""
