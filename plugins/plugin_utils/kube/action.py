# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The base class of actions that work on a cluster."""

from __future__ import annotations

from pathlib import Path

from ..common.action import Action
from .client import Api, connect


class ClusterAction(Action):
    """An action on the cluster that the options `kubeconfig` and `context` name."""

    @property
    def cluster(self) -> str:
        """Name of the host's cluster, or of the host if it has none."""
        return str(self.variables.get("cluster_name", self.host))

    @property
    def title(self) -> str:
        """Names of the action and the cluster, for the messages of errors."""
        return f"{self.NAME} {self.cluster}"

    @property
    def is_made(self) -> bool:
        """Whether the cluster has a kubeconfig. In check mode, an earlier task may not have made it."""
        return Path(self.args["kubeconfig"]).exists()

    def connect(self, patience: float = 0.0) -> Api:
        """Return a client; each request retries for up to `patience` seconds while the server refuses connections.

        Raise KubeconfigError if the kubeconfig cannot be used.
        """
        return connect(self.args["kubeconfig"], self.args.get("context"), patience)
