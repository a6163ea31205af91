# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The checks by subject, each file with its causes. ``chain.py`` has them in their order."""
