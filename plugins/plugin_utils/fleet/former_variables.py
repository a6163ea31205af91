# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Variables that were removed, and the variables to use instead."""

from __future__ import annotations

from ..common.components import ROLES

# Roles, or programs of a role, that had variables of an image and its version; with the image in files/artifacts.yml.
_IMAGES = {
    "alertmanager": "alertmanager",
    "cni": "flannel",
    "demo_app": "demo-app",
    "grafana": "grafana",
    "kube_state_metrics": "kube-state-metrics",
    "load": "vegeta",
    "metrics_server": "metrics-server",
    "node_exporter": "node-exporter",
    "prometheus": "prometheus",
    "prometheus_adapter": "prometheus-adapter",
    "prometheus_config_reloader": "prometheus-config-reloader",
    "prometheus_operator": "prometheus-operator",
}
# Images whose version is the tag of the image. No source of artifacts has other versions of them.
_TAGGED = ("demo_app", "grafana", "load")


def _version(name: str, image: str) -> str:
    if name in _TAGGED:
        return f"artifacts_images.{image}, with the version as its tag"
    return f"artifacts_versions.{image.replace('-', '_')}.version"


#: What replaces a removed variable, by the variable.
FORMER_VARIABLES = {
    **{f"{name}_image": f"artifacts_images.{image}" for name, image in _IMAGES.items()},
    **{f"{name}_version": _version(name, image) for name, image in _IMAGES.items()},
    **{f"{role}_adopt": f"adopt: [{role}]" for role in ROLES},
    "sample_apps_names": "sample_apps",
    "sample_apps_registry": "artifacts_images",
    **{
        f"hpa_{name}": f"demo_app_{name}, or autoscaled_apps for an app of your own"
        for name in ("target", "min_replicas", "max_replicas", "scale_down_stabilization")
    },
    **dict.fromkeys(("hpa_namespace", "hpa_name", "hpa_metric"), "autoscaled_apps"),
}
