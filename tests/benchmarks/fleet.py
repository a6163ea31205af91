# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""How a run grows with the number of clusters: 1, 5 and 20 real API servers, everything applied, in one run.

Each cluster is an etcd, a kube-apiserver and a kube-controller-manager of its own on this machine, which they share
with the controller: with two cores, twenty servers that each take up 150 objects are most of what is measured, so their
CPU time is told apart from the controller's. There are no kubelets, so nothing is waited for that only they could make
ready. Run: python3 -m tests.benchmarks.fleet --help, on a machine that does nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import connect

from conftest import REPOSITORY
from tests.api.cluster import control_plane
from tests.benchmarks import changes_of

PLAYBOOKS = ("preflight", "components")
#: The same in checkouts that have no components.yml.
FORMER_PLAYBOOKS = ("preflight", "cluster", "metrics", "apps")
SIZES = (1, 5, 20)
LOOK_EVERY = 0.5
IDLE_SECONDS = 10
TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1024**2


@dataclass(frozen=True)
class Measurement:
    """One run on some clusters: seconds, CPU seconds of controller and servers, MiB, requests for each cluster.

    `changed` counts the tasks that changed something.
    """

    clusters: int
    run: str
    seconds: float
    controller: float
    servers: float
    memory: float
    requests: float
    changed: int
    slowest: dict[str, float]


def children_of(pid: int) -> list[int]:
    """The process and all its descendants that are there now."""
    found = [pid]
    for process in found:
        for task in Path(f"/proc/{process}/task").glob("*/children"):
            try:
                found += map(int, task.read_text(encoding="utf-8").split())
            except OSError:
                continue
    return found


def memory_of(pids: Iterable[int]) -> int:
    """Bytes that processes use; what several share counts once."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def cpu_of(pids: Iterable[int]) -> float:
    """CPU seconds that processes have used."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def requests_of(kubeconfig: Path) -> float:
    """Requests that an API server has answered, watches left out."""
    lines = str(connect(kubeconfig).raw("/metrics")).splitlines()
    counters = (line for line in lines if line.startswith("apiserver_request_total{") and 'verb="WATCH"' not in line)
    return sum(float(line.rpartition(" ")[2]) for line in counters)


def idle_requests(kubeconfig: Path) -> float:
    """Return the requests per second that a cluster's own parts send."""
    before = requests_of(kubeconfig)
    time.sleep(IDLE_SECONDS)
    return (requests_of(kubeconfig) - before) / IDLE_SECONDS


def play(
    folder: Path, kubeconfigs: Sequence[Path], run: str, noise: float, forks: int, checkout: Path = REPOSITORY
) -> Measurement:
    """Run the playbooks of a checkout on all clusters, `forks` at a time.

    `noise` is how many requests per second are not the run's. The program ends if the run fails.
    """
    clusters = {f"c{number:02d}": {"kubeconfig": str(path)} for number, path in enumerate(kubeconfigs)}
    (folder / "clusters.yml").write_text(yaml.safe_dump({"plugin": "kubescale.fleet.clusters", "clusters": clusters}))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(folder / "clusters.yml")]
    names = PLAYBOOKS if (checkout / "playbooks/components.yml").exists() else FORMER_PLAYBOOKS
    parts = [{"ansible.builtin.import_playbook": str(checkout / f"playbooks/{name}.yml")} for name in names]
    (folder / "run.yml").write_text(yaml.safe_dump([{"name": "Part", **part} for part in parts]))
    command += ["--extra-vars", "site_waits_later=true", str(folder / "run.yml")]
    phases = folder / "phases.json"
    environment = {**os.environ, "KUBESCALE_STATE_DIR": str(folder / "state"), "KUBESCALE_PHASES_FILE": str(phases)}
    environment |= {"ANSIBLE_FORKS": str(forks), "KUBESCALE_FLEET_DIR": str(folder / "fleet")}
    environment |= {"ANSIBLE_CONFIG": str(checkout / "ansible.cfg")}
    # Python keeps what it has compiled, as it does for whoever did not ask it to forget.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    ours = {os.getpid(), threading.get_native_id()}
    servers = [pid for pid in children_of(os.getpid()) if pid not in ours]
    asked, used = sum(map(requests_of, kubeconfigs)), cpu_of(servers)
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    highest, done = 0, threading.Event()
    with (folder / f"{run.replace(' ', '_')}_{len(clusters)}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=checkout, env=environment, stdout=log, stderr=subprocess.STDOUT)

        def look() -> None:
            nonlocal highest
            while not done.wait(LOOK_EVERY):
                highest = max(highest, memory_of(children_of(process.pid)))

        looker = threading.Thread(target=look)
        looker.start()
        code = process.wait()
        done.set()
        looker.join()
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if code:
        sys.exit(f"the run failed:\n{Path(log.name).read_text(encoding='utf-8')[-4000:]}")
    requests = (sum(map(requests_of, kubeconfigs)) - asked) / len(clusters) - noise * seconds
    return Measurement(
        len(clusters),
        run,
        seconds,
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        cpu_of(servers) - used,
        highest / MIB,
        requests,
        changes_of(phases),
        slowest_phases(json.loads(phases.read_text(encoding="utf-8"))["phases"]),
    )


def slowest_phases(phases: Sequence[dict[str, float | str]]) -> dict[str, float]:
    """Seconds of the longest phases, each on the cluster where it took longest."""
    spent: dict[str, dict[str, float]] = {}
    for phase in phases:
        clusters = spent.setdefault(str(phase["phase"]), {})
        seconds = float(phase["ended"]) - float(phase["started"])
        clusters[str(phase["cluster"])] = clusters.get(str(phase["cluster"]), 0.0) + seconds
    longest = {name: max(clusters.values()) for name, clusters in spent.items()}
    return dict(sorted(longest.items(), key=lambda item: -item[1])[:6])


@contextmanager
def control_planes(folder: Path, names: Iterable[str]) -> Iterator[list[Path]]:
    """Run a control plane for each name, with its files in a folder of that name; yield their kubeconfigs."""
    with ExitStack() as stack:
        places = [folder / name for name in names]
        for place in places:
            place.mkdir(parents=True)
        # Two at a time: the start of a server is work, too.
        with ThreadPoolExecutor(2) as pool:
            contexts = [control_plane(place) for place in places]
            kubeconfigs = list(pool.map(lambda context: context.__enter__(), contexts))
            for context in contexts:
                stack.push(context.__exit__)
        yield kubeconfigs


def measure(size: int, folder: Path, converged_runs: int, forks: int) -> list[Measurement]:
    """Return the run from scratch on so many clusters, and the median of those that follow."""
    with control_planes(folder, [f"cluster{number}" for number in range(size)]) as kubeconfigs:
        noise = idle_requests(kubeconfigs[0])
        first = play(folder, kubeconfigs, "from scratch", noise, forks)
        again = [play(folder, kubeconfigs, "converged", noise, forks) for _unused in range(converged_runs)]
        return [first, sorted(again, key=lambda each: each.seconds)[len(again) // 2]]


def table(found: Sequence[Measurement]) -> str:
    """All measurements, each with its ratio to that of one cluster."""
    titles = ["clusters", "run", "seconds", "of one", "controller CPU s", "servers' CPU s", "MiB", "requests/cluster"]
    rows = []
    for each in found:
        first = next((one.seconds for one in found if one.clusters == 1 and one.run == each.run), each.seconds)
        numbers = [f"{each.seconds:.1f}", f"{each.seconds / first:.2f}x", f"{each.controller:.1f}"]
        numbers += [f"{each.servers:.1f}", f"{each.memory:.0f}", f"{each.requests:.0f}"]
        rows.append([str(each.clusters), each.run, *numbers])
    widths = [max(len(row[column]) for row in [titles, *rows]) for column in range(len(titles))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in [titles, *rows]
    )


def main() -> None:
    """Measure all sizes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="N", help="numbers of clusters")
    parser.add_argument("--converged", type=int, default=3, metavar="N", help="converged runs; the median is shown")
    parser.add_argument(
        "--forks", type=int, default=5, metavar="N", help="clusters at a time: so many servers take up kinds at once"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep logs and records in this folder")
    options = parser.parse_args()
    found: list[Measurement] = []
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as scratch:
            folder = (options.keep / str(size)) if options.keep else Path(scratch)
            print(f"{size} clusters: starting their API servers", file=sys.stderr, flush=True)
            found += measure(size, folder, options.converged, options.forks)
            for each in found[-2:]:
                spent = ", ".join(f"{name} {seconds:.1f}" for name, seconds in each.slowest.items())
                print(f"{size} clusters, {each.run}: {each.seconds:.1f} s ({spent})", file=sys.stderr, flush=True)
            print(table(found), flush=True)


if __name__ == "__main__":
    main()
