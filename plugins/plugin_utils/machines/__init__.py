# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Machines and their nodes as the controller sees them: joining, certificates, and machines in containers.

Imports kube, artifacts and common.
"""
