# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Helpers that every other room may use: text, files, paths, runs of this collection, documents of playbooks.

Imports nothing of the collection.
"""
