# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Files of upstream's releases: fetch them from their host or a mirror, check them, and put them into the cache."""

from __future__ import annotations

import functools
import hashlib
import http.client
import json
import posixpath
import shutil
import socket
import ssl
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from ansible.module_utils.urls import open_url

from .cache import Cache, Image, Step, digest_of, fill
from .pins import ArtifactError

#: Seconds without a byte after which a download fails.
STALLED = 30.0
#: Seconds within which a host must answer to count as reachable.
PROBE = 3.0
REDIRECTS = 5
BLOCK = 1024 * 1024
#: Part of each digest. Raise it when this code makes other files from the same downloads.
FORMAT = "download 1"


@dataclass(frozen=True)
class Download:
    """One file of a release.

    Attributes:
        url: At upstream.
        sha256: Empty if it is not pinned.
        members: Name in the cache → place in the archive (a folder if it ends in ``/``). Empty if it is no archive.
        file: Name in the cache of a file that is no archive.
    """

    url: str
    sha256: str
    members: Mapping[str, str]
    file: str

    @property
    def name(self) -> str:
        """The file's name at its host, which is also its name in upstream's lists of checksums."""
        return posixpath.basename(urlsplit(self.url).path)

    @property
    def host(self) -> str:
        """The host that upstream serves it from."""
        return urlsplit(self.url).netloc


def downloads_of(recipe: Mapping[str, Any], architecture: str) -> list[Download]:
    """Return a component's downloads for one architecture. Components that are only in images have none."""
    result = []
    for item in recipe.get("downloads", []):
        words = {"version": recipe["version"], "architecture": architecture}
        url = item["url"].format(**words)
        members = {name: place.format(**words) for name, place in item.get("members", {}).items()}
        file = item.get("file") or posixpath.basename(url)
        result.append(Download(url, item.get("sha256", {}).get(architecture, ""), members, file))
    return result


def mirrored(url: str, mirrors: Mapping[str, str]) -> str:
    """Return the URL at the mirror of its host, with the same path, or ``url`` if the host has no mirror."""
    parts = urlsplit(url)
    return f"{mirrors[parts.netloc].rstrip('/')}{parts.path}" if parts.netloc in mirrors else url


def explain(error: BaseException, timeout: float) -> str:
    """Return the reason why a request failed."""
    if isinstance(error, HTTPError):
        return f"the server answered {error.code} {error.reason}"
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, TimeoutError):
        return f"the server sent nothing for {timeout:.0f} seconds"
    if isinstance(reason, ssl.SSLError):
        return f"its certificate or TLS is not accepted ({reason}). A CA of your own: SSL_CERT_FILE, or the system's"
    if isinstance(reason, socket.gaierror):
        return "its name cannot be resolved"
    return str(reason) or type(reason).__name__


def open_checked(url: str, timeout: float) -> http.client.HTTPResponse:
    """Open a URL and follow redirects, but none from https to http. ``timeout`` in seconds without a byte.

    Raise ArtifactError if a redirect is rejected, and OSError if the request fails.
    """
    here = url
    for _unused in range(REDIRECTS + 1):
        try:
            return open_url(here, timeout=timeout, follow_redirects="none", decompress=False)
        except HTTPError as error:
            if error.code not in (301, 302, 303, 307, 308):
                raise
            there = error.url
            error.close()
        if urlsplit(here).scheme == "https" and urlsplit(there).scheme != "https":
            raise ArtifactError(
                f"{url}: redirects from https to {there}. That is rejected, as the file could be changed on its way."
            )
        here = there
    raise ArtifactError(f"{url}: more than {REDIRECTS} redirects, the last one to {here}")


def fetch(url: str, sha256: str, target: Path, timeout: float = STALLED) -> None:
    """Fetch a file to ``target`` and compare its SHA-256. Raise ArtifactError with the URL and the reason if it fails.

    Proxies, netrc and CA certificates are those that Ansible uses. ``timeout`` in seconds without a byte.
    """
    total, size = hashlib.sha256(), 0
    try:
        with open_checked(url, timeout) as answer, target.open("wb") as stream:
            announced = answer.headers.get("Content-Length")
            while block := answer.read(BLOCK):
                stream.write(block)
                total.update(block)
                size += len(block)
    except (OSError, http.client.HTTPException) as error:
        got = f" after {size} bytes" if size else ""
        raise ArtifactError(f"{url}: {explain(error, timeout)}{got}") from error
    if announced is not None and size != int(announced):
        raise ArtifactError(f"{url}: truncated: {announced} bytes were announced, {size} came. Run again.")
    if total.hexdigest() != sha256:
        raise ArtifactError(
            f"{url}: its SHA-256 is {total.hexdigest()}, expected {sha256}. Nothing was kept. The file is not the one "
            "that was pinned: ask the mirror's operator, or compare with upstream's list of checksums."
        )


def archive_files(stream: IO[bytes]) -> Iterator[tuple[str, bool, Callable[[], Any]]]:
    """Yield the regular files of a tar or zip archive: name, whether it is executable, and a function that opens it."""
    if zipfile.is_zipfile(stream):
        with zipfile.ZipFile(stream) as archive:
            for entry in archive.infolist():
                if not entry.is_dir():
                    yield entry.filename, False, functools.partial(archive.open, entry)
        return
    stream.seek(0)
    with tarfile.open(fileobj=stream) as tar:
        for member in tar:
            if member.isfile():
                yield (
                    posixpath.normpath(member.name),
                    bool(member.mode & 0o100),
                    functools.partial(tar.extractfile, member),
                )


def destinations(name: str, members: Mapping[str, str]) -> list[str]:
    """Return the places in the cache for a file of an archive."""
    found = []
    for target, place in members.items():
        if name == place:
            found.append(target)
        elif place.endswith("/") and name.startswith(place):
            inside = PurePosixPath(name[len(place) :])
            if ".." not in inside.parts:
                found.append(f"{target}/{inside}")
    return found


def unpack(archive: Path, members: Mapping[str, str], target: Path) -> None:
    """Unpack ``members`` of an archive. Raise ArtifactError if it is no archive or lacks one of them."""
    found: set[str] = set()
    try:
        with archive.open("rb") as stream:
            for name, executable, opened in archive_files(stream):
                for destination in destinations(name, members):
                    found.add(destination.split("/")[0])
                    path = target / destination
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with path.open("wb") as copy:
                        shutil.copyfileobj(opened(), copy)
                    path.chmod(0o755 if executable else 0o644)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise ArtifactError(f"the file is no readable archive: {error}") from error
    if missing := [place for name, place in members.items() if name not in found]:
        raise ArtifactError(f"the archive has no {', '.join(missing)}")


def download(downloads: list[Download], mirrors: Mapping[str, str], target: Path) -> None:
    """Fetch all downloads of a component into ``target``."""
    for item in downloads:
        url = mirrored(item.url, mirrors)
        with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
            file = Path(temporary) / "download"
            fetch(url, item.sha256, file)
            if not item.members:
                file.chmod(0o755)
                file.rename(target / item.file)
                continue
            try:
                unpack(file, item.members, target)
            except ArtifactError as error:
                raise ArtifactError(f"{url}: {error}") from error


def download_step(cache: Cache, name: str, mirrors: Mapping[str, str]) -> Step:
    """Return the step that fetches a component. The mirrors are not in its digest."""
    recipe = cache.pins["components"][name]
    downloads = downloads_of(recipe, cache.architecture)
    folder = cache.component(name)
    description = json.dumps([[item.url, item.sha256, item.file, dict(item.members)] for item in downloads])
    digest = digest_of(FORMAT, cache.architecture, description)
    make = functools.partial(fill, folder, functools.partial(download, downloads, mirrors))
    return Step(f"{name} {recipe['version']}", folder, folder / "manifest.json", digest, make, kind="fetch")


def pull_step(image: Image) -> Step:
    """Return the step that notes that machines pull an image themselves."""
    pin = image.recipe.get("digest", "")

    def note() -> dict[str, Any]:
        image.record.parent.mkdir(parents=True, exist_ok=True)
        image.archive.unlink(missing_ok=True)
        return {"reference": image.reference, "pull": True, "pin": pin, "size": 0}

    digest = digest_of(FORMAT, image.reference, pin)
    return Step(f"image {image.reference}", image.record, image.record, digest, note, kind="note")


def answers(base: str, timeout: float = PROBE) -> bool:
    """Return whether a host answers a request for its first page within ``timeout`` seconds."""
    try:
        open_url(base, timeout=timeout, follow_redirects="none").close()
    except HTTPError as error:
        # A redirect, a demand for credentials and a missing first page show that the server works.
        return error.code < 400 or error.code in (401, 404)
    except (OSError, http.client.HTTPException, ValueError):
        return False
    return True


def answering(hosts: set[str], mirrors: Mapping[str, str]) -> set[str]:
    """Return the hosts that answer, or whose mirrors answer. All are asked at the same time."""
    names = sorted(hosts)
    with ThreadPoolExecutor(max(len(names), 1)) as pool:
        found = pool.map(lambda host: answers(mirrors.get(host, f"https://{host}").rstrip("/") + "/"), names)
        return {host for host, there in zip(names, found, strict=True) if there}
