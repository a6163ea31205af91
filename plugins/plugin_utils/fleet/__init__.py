# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Many clusters: inventory, preflight, leases, the record of a run, plans, rollouts and their gate.

Imports health and every room below.
"""
