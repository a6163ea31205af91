# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Entries of autoscaled_apps: their model, and the objects, rules and scrape jobs that follow from them.

Imports kube, artifacts and common; the model of an entry imports nothing that talks to a cluster.
"""
