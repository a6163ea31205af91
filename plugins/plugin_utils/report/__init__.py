# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Pages for people: report.html of a cluster, fleet.html, and the panels of the dashboards.

Imports fleet, health and every room below.
"""
