# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Whether a cluster and its apps work: the checks of the chain from app to autoscaler, causes, remedies, and load.

Imports applyset, apps, kube and common.
"""
