# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Components as sets of objects: apply, adopt, prune, keep revisions, find drift, roll back.

apply.py is the list of steps. Imports kube and common.
"""
