# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Binaries and images: pinned versions, sources, builds, the cache, and bundles of it.

Imports common.
"""
