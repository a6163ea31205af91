# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""How long the whole chain takes on fresh machines, as ratios to a shell script written by hand for the same steps.

Both start from the same bare machines, booted before the clock starts, and bring up the same objects. When nodes and
pipeline are ready is seen from outside, by one observer that asks the API; nobody's own word counts. Run: make bench,
or python3 -m tests.benchmarks.bench --help. Takes about 8 minutes; nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.cache import Cache
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.pins import machine_architecture, versioned_pins
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common.components import COMPONENTS
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common.paths import cache_directory
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import (
    Api,
    ApiError,
    connect,
)
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.kubeconfig import KubeconfigError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.manifests import parse_definition
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.readiness import readiness

from tests import rendering
from tests.benchmarks import apply_set, changes_of

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
INVENTORY = HERE / "inventory"
CLUSTER = "bench"
CONTROL_PLANE = "bench-cp1"
ADDRESS = "10.89.80.11"
MACHINES = {CONTROL_PLANE, "bench-w1", "bench-w2"}
STATE = REPOSITORY / ".state" / CLUSTER
#: Seconds after which a peer is given up.
LIMIT = 600
#: Seconds between two looks at the API.
LOOK_EVERY = 0.25
CONVERGED_RUNS = 3
API_PLAYBOOKS = ("cluster", "metrics", "apps")
#: Days for which the shell script signs its certificates.
CERTIFICATE_DAYS = 365
#: Image archives that kubeadm init needs; it starts the others of its machine later.
FIRST_IMAGES = ("pause", "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
#: Made by kubeadm and by the operator, so in nobody's manifests.
FURTHER_WORKLOADS = {
    ("Deployment", "kube-system", "coredns"),
    ("DaemonSet", "kube-system", "kube-proxy"),
    ("StatefulSet", "monitoring", "prometheus-k8s"),
    ("StatefulSet", "monitoring", "alertmanager-main"),
}
METRIC = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/demo/pods/*/demo_app_button_clicks_per_second"
Objects = list[dict[str, Any]]


class BenchError(Exception):
    """The benchmark cannot go on; the message says why."""


@dataclass
class Observation:
    """What was seen of one peer, in seconds since its start; the 1-minute load of the host just before it."""

    peer: str
    load: float
    nodes_ready: float = 0.0
    pipeline_ready: float = 0.0
    ended: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)


def say(text: str) -> None:
    """Show a line of progress."""
    print(f"[bench {time.strftime('%H:%M:%S')}] {text}", flush=True)


# -- running things ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def started(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A running command with its output in a file; ended, with what it started, when the block is left."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                process.wait()


def succeeded(process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for the end of a command. Raises BenchError with the end of its output if it failed."""
    if process.wait():
        raise BenchError(
            f"{log.stem} failed ({log}):\n" + "\n".join(log.read_text(errors="replace").splitlines()[-30:])
        )


def playbook_command(*arguments: str) -> list[str]:
    """The command line of ansible-playbook with the benchmark's inventory."""
    return [str(Path(sys.executable).parent / "ansible-playbook"), "--inventory", str(INVENTORY), *arguments]


def environment(**more: str) -> dict[str, str]:
    """What Ansible is told by the environment."""
    return {"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "KUBESCALE_STATE_DIR": str(STATE.parent), **more}


def playbook(name: str, *arguments: str, **more: str) -> float:
    """Run a playbook; return its seconds."""
    log = STATE / f"{name}.log"
    began = time.monotonic()
    with started(playbook_command(*arguments), log, **environment(**more)) as process:
        succeeded(process, log)
    return time.monotonic() - began


def remove_machines() -> None:
    """Remove the benchmark's machines, and what their cluster left in its folder."""
    playbook("sandbox-absent", "playbooks/sandbox.yml", "--extra-vars", "sandbox_state=absent")
    (STATE / "kubeconfig").unlink(missing_ok=True)


def make_machines() -> None:
    """Make fresh machines that have booted."""
    remove_machines()
    playbook("sandbox", "playbooks/sandbox.yml")


# -- the same objects for both -------------------------------------------------------------------------------------


def write_work(work: Path) -> Objects:
    """Write everything the shell script reads; return all objects that both peers bring up."""
    cache = Cache(cache_directory(), versioned_pins(None), machine_architecture())
    names = ["containerd", "runc", "cni_plugins", "cni_flannel", "kubernetes_node"]
    lines = [f"{item['sha256']} {item['source']} {item['destination']}\n" for item in cache.machine_files(names)]
    (work / "binaries").write_text("".join(lines))
    (work / "version").write_text(cache.pins["components"]["kubernetes"]["version"])
    groups: dict[str, list[str]] = {"first": [], "later": []}
    for image in cache.images({"control_plane"}):
        base = image.reference.rpartition("/")[2].partition(":")[0]
        groups["first" if base in FIRST_IMAGES else "later"].append(str(image.archive.relative_to(cache.directory)))
    groups["worker"] = [str(image.archive.relative_to(cache.directory)) for image in cache.images({"worker"})]
    for name, archives in groups.items():
        (work / f"images.{name}").write_text("".join(f"{archive}\n" for archive in archives))
    objects = rendered_objects()
    sorted_out: dict[str, Objects] = {"network": [], "crds": [], "objects": [], "resources": []}
    for origin, item in objects:
        group = item["apiVersion"].rpartition("/")[0]
        if item["kind"] == "Namespace" or origin == "flannel":
            sorted_out["network"].append(item)
        elif item["kind"] == "CustomResourceDefinition":
            sorted_out["crds"].append(item)
        else:
            sorted_out["resources" if group == "monitoring.coreos.com" else "objects"].append(item)
    for name, items in sorted_out.items():
        path = work / f"{name}.json"
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        path.chmod(0o600)
    return [item for _, item in objects]


def rendered_objects() -> list[tuple[str, dict[str, Any]]]:
    """Return the objects of all roles, each with the name of its set; "shared" for namespaces of several sets."""
    facts = {"host": ADDRESS, "port": "6443", "pod_network": "10.244.0.0/16", "service_network": "10.96.0.0/16"}
    settings = rendering.variables_of(INVENTORY, CLUSTER) | {"kubescale_cluster": facts}
    for component in ("metrics-server", "prometheus-adapter"):
        # Placeholders: the shell script makes the certificates.
        settings[f"__{component.replace('-', '_')}_certificate"] = rendering.CERTIFICATE | {
            "certificate": f"@{component}.crt@",
            "private_key": f"@{component}.key@",
            "ca": "@ca.crt@",
            "not_after": int(time.time()) + CERTIFICATE_DAYS * 24 * 3600,
        }
    result: list[tuple[str, dict[str, Any]]] = []
    labels: dict[str, dict[str, str]] = {}
    for role in dict.fromkeys(component.role for component in COMPONENTS):
        for arguments in rendering.rendered_sets(role, settings):
            items = parse_definition(arguments["definition"], arguments.get("files", []))
            result += [(arguments["name"], item) for item in items]
            for entry in arguments.get("shared_namespaces", []):
                labels.setdefault(entry["name"], {}).update(entry.get("labels", {}))
    for item in (item for _, item in result if item["kind"] == "Namespace"):
        labels.pop(item["metadata"]["name"], None)
    shared = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": found}}
        for name, found in labels.items()
    ]
    return [("shared", namespace) for namespace in shared] + result


# -- the observer --------------------------------------------------------------------------------------------------


class Observer(threading.Thread):
    """Looks at the cluster from outside until the pipeline is ready, and notes when each part of it was."""

    def __init__(self, observation: Observation, objects: Objects, credentials: Path) -> None:
        super().__init__(daemon=True)
        self.observation = observation
        kinds = {"Deployment", "DaemonSet", "StatefulSet"}
        named = {(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in objects}
        self.workloads = {name for name in named if name[0] in kinds} | FURTHER_WORKLOADS
        self.autoscalers = {name for name in named if name[0] == "HorizontalPodAutoscaler"}
        self.services = {name for kind, _, name in named if kind == "APIService"}
        self.began = time.monotonic()
        self.halted = threading.Event()
        self.said = "no cluster yet"
        self.credentials = credentials

    def run(self) -> None:
        """Look until everything was seen."""
        with tempfile.TemporaryDirectory(prefix="kubescale-bench-") as folder:
            kubeconfig = Path(folder) / "kubeconfig"
            while not self.halted.is_set() and not self.observation.pipeline_ready:
                with contextlib.suppress(ApiError, KubeconfigError, FileNotFoundError):
                    kubeconfig.write_bytes(self.credentials.read_bytes())
                    api = connect(kubeconfig)
                    while not self.halted.is_set() and not self.look(api):
                        self.halted.wait(LOOK_EVERY)
                self.halted.wait(LOOK_EVERY)

    def note(self, part: str) -> None:
        """Note the time at which a part was first seen ready."""
        if part not in self.observation.parts:
            self.observation.parts[part] = self.now()
            say(f"{self.observation.peer}: {part} after {self.observation.parts[part]:.1f} s")

    def now(self) -> float:
        """Seconds since the start."""
        return round(time.monotonic() - self.began, 1)

    def look(self, api: Api) -> bool:
        """Note what is ready now; tell whether that is everything."""
        api.raw("/version")
        self.note("API server answers")
        nodes = api.list("v1", "Node").items
        ready = {
            node["metadata"]["name"] for node in nodes if readiness({**node, "apiVersion": "v1", "kind": "Node"}).ready
        }
        self.said = f"nodes ready: {', '.join(sorted(ready)) or 'none'}"
        if ready != MACHINES:
            return False
        self.note("all nodes Ready")
        self.observation.nodes_ready = self.observation.parts["all nodes Ready"]
        missing = self.missing(api)
        self.said = "; ".join(missing)
        if missing:
            return False
        self.note("pipeline ready")
        self.observation.pipeline_ready = self.observation.parts["pipeline ready"]
        return True

    def missing(self, api: Api) -> list[str]:
        """Say what of the pipeline is not ready; looks at everything so that each part gets its time."""
        result = []
        found = self.ready(api, "apps/v1", "Deployment", "DaemonSet", "StatefulSet")
        if waiting := self.workloads - found:
            result.append("workloads " + ", ".join(name for _, _, name in sorted(waiting)))
        else:
            self.note("all workloads ready")
        services = {name for _, _, name in self.ready(api, "apiregistration.k8s.io/v1", "APIService")}
        everything = {item["metadata"]["name"] for item in api.list("apiregistration.k8s.io/v1", "APIService").items}
        if waiting_services := (self.services | everything) - services:
            result.append(f"APIs {', '.join(sorted(waiting_services))}")
        else:
            self.note("all APIs Available")
            try:
                answered = bool(api.raw(METRIC)["items"])
            except ApiError:
                answered = False
            if answered:
                self.note("adapter answers")
            else:
                result.append("the app's metric")
        if self.autoscalers - self.ready(api, "autoscaling/v2", "HorizontalPodAutoscaler"):
            result.append("autoscaler")
        else:
            self.note("autoscaler active")
        return result

    @staticmethod
    def ready(api: Api, api_version: str, *kinds: str) -> set[tuple[str, str | None, str]]:
        """Kind, namespace and name of all objects that are ready."""
        return {
            (kind, item["metadata"].get("namespace"), item["metadata"]["name"])
            for kind in kinds
            for item in api.list(api_version, kind).items
            if readiness({**item, "apiVersion": api_version, "kind": kind}).ready
        }


def credentials_of(machine: str) -> Path:
    """Return the path of a machine's admin kubeconfig, as its first process sees it.

    A read by this path costs the machine nothing.
    """
    command = ["podman", "inspect", "--format", "{{.State.Pid}}", machine]
    inspected = subprocess.run(command, capture_output=True, check=True, text=True)
    return Path("/proc") / inspected.stdout.strip() / "root" / "etc" / "kubernetes" / "admin.conf"


# -- measuring -----------------------------------------------------------------------------------------------------


def observed(peer: str, command: list[str], objects: Objects, **more: str) -> Observation:
    """Start a peer on fresh machines and watch it until it has ended and the pipeline is ready."""
    say(f"{peer}: making fresh machines")
    make_machines()
    observation = Observation(peer, os.getloadavg()[0])
    log = STATE / f"{peer.lower()}.log"
    say(f"{peer}: starts (load of this host {observation.load:.1f})")
    observer = Observer(observation, objects, credentials_of(CONTROL_PLANE))
    with started(command, log, **more) as process:
        try:
            observer.start()
            deadline = observer.began + LIMIT
            while time.monotonic() < deadline and (process.poll() is None or observer.is_alive()):
                if process.returncode:
                    succeeded(process, log)
                if process.returncode is not None and not observation.ended:
                    observation.ended = observer.now()
                    say(f"{peer}: its command ended after {observation.ended:.1f} s")
                time.sleep(0.1)
            if not observation.pipeline_ready or process.poll() is None:
                raise BenchError(f"{peer} was not done within {LIMIT} s ({log}). Seen last: {observer.said}")
            succeeded(process, log)
            observation.ended = observation.ended or observer.now()
        finally:
            observer.halted.set()
            observer.join()
    return observation


def converged(name: str, *playbooks: str) -> dict[str, Any]:
    """Run playbooks again on a converged cluster: seconds of each run, and results that changed something."""
    file = STATE / f"{name}.phases.json"
    seconds, changed = [], 0
    for _ in range(CONVERGED_RUNS):
        file.unlink(missing_ok=True)
        seconds.append(round(playbook(name, *playbooks, KUBESCALE_PHASES_FILE=str(file)), 2))
        changed += changes_of(file)
    say(f"{name}: {', '.join(f'{value:.1f}' for value in seconds)} s, {changed} changed")
    return {"seconds": seconds, "best": min(seconds), "changed": changed}


def measure_chain(runs: int, only: str | None) -> dict[str, Any]:
    """Both peers on fresh machines, in turns, and the converged runs."""
    result: dict[str, Any] = {"observations": []}
    with tempfile.TemporaryDirectory(prefix="kubescale-bench-") as scratch:
        work = Path(scratch)
        say("rendering the roles' objects for the shell script")
        (STATE / "kubeconfig").unlink(missing_ok=True)
        objects = write_work(work)
        kubectl = (
            Cache(cache_directory(), versioned_pins(None), machine_architecture()).component("kubernetes") / "kubectl"
        )
        commands = {
            "Ansible": playbook_command("site.yml"),
            "shell": [str(HERE / "shell.sh"), str(work), str(kubectl)],
        }
        for number in range(runs):
            order = ["Ansible", "shell"] if number % 2 == 0 else ["shell", "Ansible"]
            for peer in order if only is None else [only]:
                more = (
                    environment(KUBESCALE_PHASES_FILE=str(STATE / "ansible.phases.json")) if peer == "Ansible" else {}
                )
                seen = observed(peer, commands[peer], objects, **more)
                result["observations"].append(asdict(seen))
                if peer == "Ansible" and "site" not in result:
                    say("Ansible: the same again on the converged cluster")
                    result["site"] = converged("converged", "site.yml")
                    result["api"] = converged("converged-api", *(f"playbooks/{name}.yml" for name in API_PLAYBOOKS))
    return result


def table(result: dict[str, Any]) -> list[str]:
    """Lay out what was measured."""
    lines = [f"{'':46}{'Ansible':>10}{'shell':>10}{'ratio':>9}  aim"] if "observations" in result else []

    def row(title: str, ours: float | None, theirs: float | None, aim: str = "") -> None:
        cells = [f"{value:.1f} s" if value is not None else "" for value in (ours, theirs)]
        ratio = f"{ours / theirs:.2f}" if ours and theirs else ""
        lines.append(f"{title:46}{cells[0]:>10}{cells[1]:>10}{ratio:>9}  {aim}".rstrip())

    def median(peer: str, key: str) -> float | None:
        values = [item[key] for item in result.get("observations", []) if item["peer"] == peer]
        return statistics.median(values) if values else None

    if result.get("observations"):
        row("bare machines -> all nodes Ready", median("Ansible", "nodes_ready"), median("shell", "nodes_ready"))
        aim = "ratio at most 1.5"
        row(
            "bare machines -> pipeline ready",
            median("Ansible", "pipeline_ready"),
            median("shell", "pipeline_ready"),
            aim,
        )
        row("bare machines -> the command's end", median("Ansible", "ended"), median("shell", "ended"))
    for key, title, aim in (
        ("site", "converged re-run of site.yml", "at most 20 s"),
        ("api", "converged re-run of its API part", "at most 5 s"),
    ):
        if key in result:
            row(f"{title} ({result[key]['changed']} changed)", result[key]["best"], None, aim)
    if "apply_set" in result:
        ours = result["apply_set"]["apply-set"]
        count = len(apply_set.objects("any"))
        whole, loop = result["apply_set"]["k8s"], result["apply_set"]["k8s-loop"]
        factor = count / apply_set.FULL.looped
        lines += ["", f"{f'{count} objects by one task':46}{'apply_set':>10}{'k8s':>10}{'times':>9}  aim"]
        for title, theirs, aim in (
            ("first run, k8s with all in one call", whole["first"], "at least 5"),
            ("converged, k8s with all in one call", whole["converged"], "at least 5"),
            ("first run, k8s in a loop (extrapolated)", loop["first"] * factor, ""),
            ("converged, k8s in a loop (extrapolated)", loop["converged"] * factor, ""),
        ):
            mine = ours["first" if title.startswith("first") else "converged"]
            lines.append(f"{title:46}{f'{mine:.2f} s':>10}{f'{theirs:.2f} s':>10}{theirs / mine:>9.1f}  {aim}".rstrip())
    return lines


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--runs", type=int, default=1, help="runs of each peer on fresh machines (default 1); medians count"
    )
    parser.add_argument("--only", choices=["Ansible", "shell"], help="one peer alone, without ratios")
    parser.add_argument("--part", choices=["chain", "apply_set"], help="one part of the benchmark alone")
    parser.add_argument("--keep", action="store_true", help="leave the last machines, to look at them")
    return parser.parse_args()


def interrupt(_signal: int, _frame: object) -> None:
    """End like Ctrl-C does."""
    raise KeyboardInterrupt


def main() -> int:
    """Measure, print the table, write the JSON file, remove the machines."""
    arguments = options()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    STATE.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
    }
    if os.getloadavg()[0] > 1:
        say(f"the load of this host is {os.getloadavg()[0]:.1f}: other work will make the figures worse")
    try:
        if arguments.part != "apply_set":
            result |= measure_chain(arguments.runs, arguments.only)
        if arguments.part != "chain" and not arguments.only:
            say("apply_set and kubernetes.core.k8s against one API server")
            result["apply_set"] = {name: asdict(way) for name, way in apply_set.figures().items()}
    except (BenchError, RuntimeError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    finally:
        if arguments.part != "apply_set" and not arguments.keep:
            say("removing the machines")
            remove_machines()
    file = STATE / f"bench-{time.strftime('%Y%m%dT%H%M%S')}.json"
    file.write_text(json.dumps(result, indent=1) + "\n")
    print("\n" + "\n".join(table(result)) + f"\n\n{file.relative_to(REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
