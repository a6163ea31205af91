# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Binaries and images: pinned versions, where they come from, the cache, and bundles of them.

Imports common.
"""
