# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Renew the leases that a run holds on clusters, and release them at the end of the run."""

from __future__ import annotations

DOCUMENTATION = """
name: leases
type: aggregate
short_description: Renew the leases of a run until its end
author: kubescale founders (@kubescale)
version_added: 0.1.0
description:
  - Renews every Lease that the module kubescale.fleet.lease acquired in this run, every 15 seconds. Releases all of
    them at the end of the run. Leases of a killed run expire within a minute.
  - Stops the run if another run holds the Lease meanwhile. That can happen after this machine was asleep.
requirements:
  - "C(callbacks_enabled = kubescale.fleet.leases) in ansible.cfg"
"""

EXAMPLES = r"""
# ansible.cfg
# [defaults]
# callbacks_enabled = kubescale.fleet.phases, kubescale.fleet.leases
"""

import atexit
import importlib
import os
import signal
import ssl
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ansible.plugins.callback import CallbackBase

if TYPE_CHECKING:
    from ansible.executor.stats import AggregateStats
    from ansible.executor.task_result import CallbackTaskResult

    from ..plugin_utils.fleet.lease import Held


#: Plugins that most tasks on clusters need.
NEEDED = (
    "action.apply_set",
    "action.apply_set_ready",
    "action.service_certificate",
    "lookup.artifact_version",
    "lookup.cluster",
    "lookup.image",
)


def load_needed() -> None:
    """Load plugins in the main process. Its workers are forks, and would otherwise load them for each task.

    Call this before any thread imports: a worker that is forked during an import waits for that import forever.
    """
    plugins = __name__.partition(".plugins.")[0] + ".plugins."
    for name in NEEDED:
        importlib.import_module(plugins + name)
    utils = plugins + "plugin_utils."
    importlib.import_module(utils + "artifacts.pins").load_pins()
    importlib.import_module(utils + "apps.sample_apps").catalogue()
    # The first context loads the algorithms of OpenSSL.
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class CallbackModule(CallbackBase):
    """The callback; Ansible calls its v2_ methods in the main process."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "kubescale.fleet.leases"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._process = os.getpid()
        self._stop = threading.Event()
        self._keepers: dict[str, threading.Thread] = {}

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        """Start to renew a lease that a task acquired."""
        lease = result._result.get("lease")
        if result._task.action != "kubescale.fleet.lease" or not lease or lease["cluster"] in self._keepers:
            return
        if not self._keepers:
            load_needed()
            # An interrupted run does not call v2_playbook_on_stats.
            atexit.register(self._end)
        keeper = threading.Thread(target=self._keep, args=(lease,), name=f"lease {lease['cluster']}", daemon=True)
        self._keepers[lease["cluster"]] = keeper
        keeper.start()

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        """Release all leases."""
        self._end()

    def _end(self) -> None:
        # Workers are forks of this process and must not release its leases.
        if os.getpid() == self._process:
            self._stop.set()
            for keeper in self._keepers.values():
                keeper.join()
            self._keepers.clear()

    def _keep(self, lease: Mapping[str, Any]) -> None:
        """Renew one lease until the end of the run, then release it."""
        # Imported here, because runs without a lease do not need them.
        from ..plugin_utils.fleet.lease import (
            DURATION,
            RENEWAL,
            Held,
            LostError,
            release,
            renew,
            this_run,
        )
        from ..plugin_utils.kube.client import ApiError, connect
        from ..plugin_utils.kube.kubeconfig import KubeconfigError

        held: Held = Held(lease["cluster"], this_run(self._process), DURATION, lease["ahead"])
        while True:
            ended = self._stop.wait(RENEWAL)
            try:
                api = connect(lease["kubeconfig"], lease["context"])
                (release if ended else renew)(api, held)
            except LostError as error:
                if not ended:
                    self._display.error(f"{error}. This run stops.")
                    # A background process of a shell ignores SIGINT.
                    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
                    os.kill(self._process, signal.SIGTERM if ignored else signal.SIGINT)
                return
            except (ApiError, KubeconfigError) as error:
                # The next renewal comes before the lease expires. A lease that is not released expires by itself.
                self._display.vv(f"lease of cluster {lease['cluster']}: {error}")
            if ended:
                return
