# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Components as sets of objects: apply, adopt, prune, keep revisions, find drift, roll back.

Imports kube and common.
"""
