# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Kubeconfig files: reading, checking, and the TLS context that their certificates make."""

from __future__ import annotations

import base64
import datetime
import ssl
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from cryptography import x509
from kubernetes.client import Configuration
from kubernetes.config import ConfigException
from kubernetes.config.kube_config import KubeConfigLoader

from ..common.errors import FleetError
from ..common.yaml_io import YAML_LOADER
from .objects import Value


class KubeconfigError(FleetError):
    """The kubeconfig cannot be used; the message names the file and the mistake."""


def load_kubeconfig(path: Path, context: str | None = None) -> tuple[Configuration, ssl.SSLContext, str]:
    """Return settings, TLS context and `proxy-url` ("" if not set) of a kubeconfig's context.

    The context is the current one if None.

    Raise KubeconfigError, with the file's name and the mistake, if the file cannot be used.
    """
    content = read_kubeconfig(path)
    check_kubeconfig(content, str(path), context)
    configuration = Configuration()
    # The loader writes keys and certificates to files because OpenSSL reads files. The files go as soon as the TLS
    # context has read them: forked Ansible workers end without clean-up handlers and would leave keys in /tmp.
    with tempfile.TemporaryDirectory(prefix="kubescale-") as scratch:
        try:
            loader = KubeConfigLoader(content, context, config_base_path=str(path.parent), temp_file_path=scratch)
            loader.load_and_set(configuration)
            tls = _tls(configuration)
            _check_client_certificate(configuration, path)
            return configuration, tls, _proxy_url(content, context)
        except ssl.SSLError as error:
            raise KubeconfigError(f"kubeconfig {path}: its certificates or key cannot be used: {error}") from error
        except (ConfigException, ValueError, KeyError, TypeError, OSError) as error:
            raise KubeconfigError(f"kubeconfig {path}: {error}") from error


def read_kubeconfig(path: Path) -> Value:
    """Return the parsed content of a kubeconfig file. Raise KubeconfigError if it cannot be read or is not YAML."""
    try:
        return YAML_LOADER(path.read_text(encoding="utf-8")).get_single_data()
    except FileNotFoundError as error:
        raise KubeconfigError(
            f"kubeconfig {path} does not exist: the cluster was not made yet, or was made elsewhere. "
            "Run site.yml without --tags first; it makes the control plane and brings its kubeconfig home"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise KubeconfigError(f"kubeconfig {path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise KubeconfigError(f"kubeconfig {path} is not a kubeconfig: it is not valid YAML: {where}") from error


def check_kubeconfig(content: Value, name: str, context: str | None = None) -> None:
    """Raise KubeconfigError, which names the mistake, unless `content` has a usable context. `name` is the file's."""

    def wrong(what: str) -> KubeconfigError:
        return KubeconfigError(f"kubeconfig {name} is not a kubeconfig: {what}")

    if not isinstance(content, dict):
        raise wrong(f"it holds {'nothing' if content is None else 'a ' + type(content).__name__}, not a mapping")
    if content.get("kind", "Config") != "Config":
        raise wrong(f"its kind is {content['kind']!r}, not 'Config'")
    named: dict[str, dict[str, Any]] = {}
    for key in ("clusters", "contexts", "users"):
        entries = content.get(key)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) and "name" in entry for entry in entries):
            raise wrong(f"'{key}' must be a list of named entries")
        named[key] = {entry["name"]: entry.get(key[:-1]) for entry in entries}
    chosen = context or content.get("current-context")
    if not chosen:
        raise wrong("it has no 'current-context'")
    known = named["contexts"].get(chosen)
    if not isinstance(known, dict):
        raise wrong(f"context {chosen!r} is not in it; it has: {', '.join(sorted(named['contexts'])) or 'none'}")
    for key in ("cluster", "user"):
        if known.get(key) not in named[key + "s"]:
            raise wrong(f"context {chosen!r} names {key} {known.get(key)!r}, which is not in it")
        if bad := _undecodable(named[key + "s"][known[key]]):
            raise wrong(f"{bad} of {key} {known[key]!r} is not base64")
    cluster = named["clusters"][known["cluster"]]
    server = cluster.get("server") if isinstance(cluster, dict) else None
    if not isinstance(server, str) or urlsplit(server).scheme not in ("http", "https") or not urlsplit(server).hostname:
        raise wrong(f"cluster {known['cluster']!r} has server {server!r}; it must be a URL such as https://host:6443")


def _undecodable(entry: Value) -> str:
    """Return the key of a kubeconfig entry whose value must be base64 and is not; "" if all are."""
    for key in ("certificate-authority-data", "client-certificate-data", "client-key-data"):
        if isinstance(entry, dict) and key in entry:
            try:
                base64.b64decode(entry[key], validate=True)
            except (ValueError, TypeError):
                return key
    return ""


def _proxy_url(content: Value, context: str | None) -> str:
    chosen = context or content["current-context"]
    name = next(entry["context"]["cluster"] for entry in content["contexts"] if entry["name"] == chosen)
    cluster = next(entry["cluster"] for entry in content["clusters"] if entry["name"] == name)
    return str(cluster.get("proxy-url") or "")


def _check_client_certificate(configuration: Configuration, path: Path) -> None:
    """Raise KubeconfigError if the client certificate has expired. The API server would answer just "Unauthorized"."""
    if not configuration.cert_file:
        return
    certificate = x509.load_pem_x509_certificates(Path(configuration.cert_file).read_bytes())[0]
    if certificate.not_valid_after_utc < datetime.datetime.now(datetime.UTC):
        raise KubeconfigError(
            f"kubeconfig {path}: its client certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d}. For a "
            "cluster of this collection, run kubeadm certs renew admin.conf on the first control plane, remove the "
            "file here, and run site.yml --tags control_plane, which copies the new one"
        )


def _tls(configuration: Configuration) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert or None)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    return context
