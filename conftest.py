"""Lets pytest import the repository as the collection ``kubescale.fleet``."""

from __future__ import annotations

from pathlib import Path

from ansible.utils.collection_loader import _collection_finder

REPOSITORY = Path(__file__).resolve().parent

_collection_finder._AnsibleCollectionFinder(paths=[str(REPOSITORY / "collections")])._install()
