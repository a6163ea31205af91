# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The bill of materials of a bundle, as a CycloneDX document."""

from __future__ import annotations

import datetime
import hashlib
import uuid
from collections.abc import Mapping

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.dependency import Dependency
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion

from .contents import OWN_LICENCE, Artifact, Contents, Part
from .images import EPOCH

KINDS = {
    "component": ComponentType.APPLICATION,
    "binary": ComponentType.FILE,
    "data": ComponentType.DATA,
    "image": ComponentType.CONTAINER,
    "layer": ComponentType.OPERATING_SYSTEM,
}
BUNDLE = "bundle"


def document(contents: Contents, name: str, version: str, licences: str, bundled: str) -> str:
    """Return the CycloneDX JSON document of a bundle; the same contents give the same text.

    Args:
        contents: What the bundle holds.
        name: Of the bundle.
        version: Of the bundle: a digest.
        licences: Folder of the bundle with the licence texts.
        bundled: Folder of the bundle with the artifacts.
    """
    bundle = Component(
        name=name, version=version, type=ComponentType.APPLICATION, bom_ref=BUNDLE, licenses=_licences(OWN_LICENCE)
    )
    components = [_artifact(artifact, bundled) for artifact in contents.artifacts]
    components += [_part(part, licences) for part in contents.parts.values()]
    tops = {artifact.place for artifact in contents.artifacts if artifact.kind in ("component", "image")}
    held: Mapping[str, set[str]] = {
        BUNDLE: tops,
        **{artifact.place: set(artifact.holds) for artifact in contents.artifacts},
        **{purl: set() for purl in contents.parts},
    }
    references = {str(component.bom_ref.value): component.bom_ref for component in (bundle, *components)}
    bom = Bom(
        components=components,
        dependencies=[
            Dependency(references[holder], [Dependency(references[item]) for item in items])
            for holder, items in held.items()
        ],
        metadata=BomMetaData(component=bundle, timestamp=datetime.datetime.fromtimestamp(EPOCH, datetime.UTC)),
        serial_number=uuid.UUID(bytes=hashlib.sha256(version.encode()).digest()[:16], version=4),
    )
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1)


def _licences(licence: str) -> list:
    return [LicenseFactory().make_from_string(licence)] if licence else []


def _hashes(sha256: str) -> list[HashType]:
    return [HashType(alg=HashAlgorithm.SHA_256, content=sha256)] if sha256 else []


def _artifact(artifact: Artifact, bundled: str) -> Component:
    return Component(
        name=artifact.name,
        version=artifact.version,
        type=KINDS[artifact.kind],
        bom_ref=artifact.place,
        hashes=_hashes(artifact.sha256),
        licenses=_licences(artifact.licence),
        purl=artifact.purl,
        properties=[Property(name="kubescale.fleet:path", value=f"{bundled}/{artifact.place}")],
    )


def _part(part: Part, licences: str) -> Component:
    texts = [
        ExternalReference(
            type=ExternalReferenceType.LICENSE,
            url=XsUri(f"{licences}/{part.folder}/{name}"),
            hashes=_hashes(hashlib.sha256(text).hexdigest()),
        )
        for name, text in part.texts.items()
    ]
    return Component(
        name=part.purl.name,
        group=part.purl.namespace,
        version=part.purl.version,
        type=ComponentType.LIBRARY,
        bom_ref=str(part.purl),
        licenses=_licences(part.licence),
        purl=part.purl,
        external_references=texts,
        properties=[] if texts else [Property(name="kubescale.fleet:licence", value="no text found")],
    )
