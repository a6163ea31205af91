# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes API and the objects in it: client, manifests, readiness, waiting, and queries to Prometheus.

Imports common.
"""
