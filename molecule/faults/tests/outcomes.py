"""What a run does when something is wrong, as data: the tests prove it, docs/tags_and_faults.py writes it down."""

from __future__ import annotations

from dataclasses import dataclass, field

CONTROL_PLANE, WORKER = "faults-cp1", "faults-w1"


@dataclass(frozen=True)
class Fault:
    """Something wrong with a machine.

    ``inject`` and ``heal`` are shell commands on ``machine`` (several, with spaces between); where they are empty, a
    test of its own does both. ``said`` are words of the message, ``tolerated`` are arguments of a run that accepts it.
    """

    name: str
    said: tuple[str, ...]
    machine: str = WORKER
    inject: str = ""
    heal: str = ""
    outcome: str = "refused before any change on any machine"
    advice: str = ""
    tolerated: tuple[str, ...] = ()


# A server that listens before the command returns: systemd waits until the first process has ended.
LISTENER = (
    "systemd-run --quiet --unit=listener --property=Type=forking python3 -c "
    "'import os, signal, socket; s = socket.create_server((\"\", {port})); os.fork() and os._exit(0); signal.pause()'"
)
SWAPS = r"printf 'Filename Type Size Used Priority\n/dev/vdz9 partition 1048572 0 -2\n' > /run/swaps"

# On machines that are no nodes yet.
REFUSED = [
    Fault(
        "disk too small",
        (WORKER, "MiB are free below /var/lib/containerd", "need 4096"),
        inject="mkdir --parents /var/lib/containerd && mount -t tmpfs -o size=64m tmpfs /var/lib/containerd",
        heal="umount /var/lib/containerd && rmdir /var/lib/containerd",
        advice="make room below /var/lib/containerd",
    ),
    Fault(
        "clock 10 minutes off",
        (WORKER, "ahead of the controller's", "allowed are 60 s", "timedatectl"),
        # Every new process of the machine gets the wrong time; the host's clock is never touched.
        inject="echo +600 > /etc/faketimerc && echo /usr/local/lib/libfaketime.so.1 > /etc/ld.so.preload",
        heal="rm /etc/ld.so.preload /etc/faketimerc",
        advice="set the clock, best by network time",
    ),
    Fault(
        "port 6443 taken",
        (CONTROL_PLANE, "TCP port 6443 is taken by python3 (process"),
        machine=CONTROL_PLANE,
        inject=LISTENER.format(port=6443),
        heal="systemctl stop listener",
        advice="end the program that the message names",
    ),
    Fault(
        "port 10250 taken",
        (WORKER, "TCP port 10250 is taken by python3 (process"),
        inject=LISTENER.format(port=10250),
        heal="systemctl stop listener",
        advice="end the program that the message names",
    ),
    Fault(
        "swap on",
        (WORKER, "swap is in use (/dev/vdz9)", "swapoff", "node_prep_tolerate_swap"),
        inject=f"{SWAPS} && mount --bind /run/swaps /proc/swaps",
        heal="umount /proc/swaps",
        advice="swap off, or `node_prep_tolerate_swap: true`",
        tolerated=("--extra-vars", '{"node_prep_tolerate_swap": true}'),
    ),
    Fault(
        "host name of another machine",
        (WORKER, f"host name {CONTROL_PLANE} is also that of {CONTROL_PLANE}", "hostnamectl"),
        inject=f"hostname {CONTROL_PLANE}",
        heal=f"hostname {WORKER}",
        advice="give one of the two another name",
    ),
    Fault(
        "machine ID or product UUID of another machine",
        (WORKER, "machine ID 0123456789abcdef0123456789abcdef is also that of", "systemd-machine-id-setup"),
        machine=f"{CONTROL_PLANE} {WORKER}",
        inject="mount --bind /usr/local/lib/machine-id /etc/machine-id",
        heal="umount /etc/machine-id",
        advice="a new machine ID on the copied machine; a UUID of its own where it is virtualized",
    ),
]

FULL = Fault(
    "disk full while binaries are installed",
    (WORKER, "/usr/local/bin/", "No space left on device", "free below /usr/local/bin"),
    inject="mount -t tmpfs -o size=16m tmpfs /usr/local/bin",
    heal="umount /usr/local/bin",
    outcome="fails on that machine; nothing half-written stays",
    advice="make room, run again",
)
NO_NAMES = Fault(
    "no DNS, and packages are missing",
    (WORKER, "cannot install the packages socat", "/etc/resolv.conf", "run again"),
    # The machine says truly what its package database says.
    inject="sed '/^Package: socat$/,/^$/d' /var/lib/dpkg/status > /run/status "
    "&& mount --bind /run/status /var/lib/dpkg/status "
    # A name server on a loopback address would be refused before any change.
    '&& cp /etc/resolv.conf /run/resolv.conf && echo "nameserver $(hostname --all-ip-addresses)" > /etc/resolv.conf',
    heal="umount /var/lib/dpkg/status",
    outcome="fails on that machine, with the packages' names",
    advice="DNS and package sources, or bring the packages otherwise; run again",
)
NO_NAMES_NEEDED = Fault(
    "no DNS, and nothing is missing",
    (),
    heal="cat /run/resolv.conf > /etc/resolv.conf",
    outcome="goes on: nothing needs it",
)
REBOOTED = Fault(
    "worker restarts in the middle of `kubeadm join`",
    (WORKER, "broke off in the middle of kubeadm join", "run again"),
    outcome="fails on that machine; the next run takes the attempt back and joins it",
    advice="run again when it is back",
)
RESTARTED = Fault(
    "API server restarts while objects are applied",
    (),
    machine=CONTROL_PLANE,
    outcome="waits for it (60 s at most) and goes on",
)
CGROUP_DRIVER = Fault(
    "another cgroup driver in containerd's configuration",
    (),
    inject="sed --in-place 's/SystemdCgroup = true/SystemdCgroup = false/' /etc/containerd/config.toml "
    "&& systemctl restart containerd kubelet",
    outcome="repaired by `--tags node_prep`: configuration restored, containerd and kubelet restarted",
)
REGISTRY = Fault(
    "registry down",
    (),
    outcome="scenario `mirror` has it",
)
FAULTS = [*REFUSED, FULL, NO_NAMES, NO_NAMES_NEEDED, REBOOTED, RESTARTED, CGROUP_DRIVER, REGISTRY]


@dataclass(frozen=True)
class Outcome:
    """What one tag alone does: a word for people, whether the run succeeds and changes something, what it says."""

    word: str
    succeeds: bool = True
    changes: bool = False
    said: tuple[str, ...] = ()


NOTHING = Outcome("succeeds, nothing to do")
REPAIRS = Outcome("repairs", changes=True)
WORKS = Outcome("works", changes=True)


def fails(word: str, *said: str, changes: bool = False) -> Outcome:
    """Make the outcome of a run that fails and says so."""
    return Outcome(f"fails: {word}", False, changes, said)


@dataclass(frozen=True)
class State:
    """A state of the cluster, and what each tag does in it.

    ``together`` are tags that leave the state as it is; ``then`` are tags that mend it, in this order.
    """

    name: str
    together: dict[str, Outcome]
    then: list[tuple[str, Outcome]] = field(default_factory=list)


MACHINE_TAGS = ["node_prep", "control_plane", "worker"]
METRICS_TAGS = [
    "prometheus",
    "metrics_server",
    "node_exporter",
    "kube_state_metrics",
    "alertmanager",
    "prometheus_adapter",
    "grafana",
]
APP_TAGS = ["demo_app", "sample_apps", "hpa"]
SITE_TAGS = [*MACHINE_TAGS, "cni", *METRICS_TAGS, *APP_TAGS, "verify"]
# Those that are not part of the site, with their playbooks.
PLAYBOOKS = {"load": "load", "artifacts": "artifacts", "sandbox": "sandbox"}
TAGS = [*SITE_TAGS, *PLAYBOOKS]

NO_CLUSTER = fails("no cluster yet", "kubeconfig", "does not exist", "Run site.yml without --tags first")
SETTLED = dict.fromkeys(["artifacts", "sandbox"], NOTHING)
NO_REST = fails("the app does not come to rest", "demo/demo-app did not come to rest")
NO_KIND = fails("ServiceMonitor is not known", "ServiceMonitor", "run site.yml with --tags prometheus first")


def not_ready(*names: str) -> Outcome:
    """Make the outcome of a run whose objects do not become ready."""
    return fails("names what is not ready", "are not ready", *names)


BARE = State(
    "bare machines",
    {
        "control_plane": fails(
            "the machine is not prepared", CONTROL_PLANE, "kubeadm is not installed on this machine", "node_prep"
        ),
        **dict.fromkeys(["worker", "cni", *METRICS_TAGS, *APP_TAGS, "verify", "load"], NO_CLUSTER),
        **SETTLED,
    },
    [("node_prep", WORKS)],
)
CONVERGED = State("a converged cluster", dict.fromkeys(TAGS, NOTHING))
# Broken states name the tags that can meet what is broken; those of the first one are all that talk to the API.
ADAPTER_GONE = State(
    "prometheus-adapter scaled to 0 by kubectl, its API unavailable",
    {
        **dict.fromkeys([*MACHINE_TAGS, "cni"], NOTHING),
        **dict.fromkeys([tag for tag in METRICS_TAGS if tag != "prometheus_adapter"], NOTHING),
        "demo_app": NOTHING,
        "sample_apps": NOTHING,
        "verify": fails("names the link that broke", "apiservices_available", "v1beta1.custom.metrics.k8s.io"),
        "load": NO_REST,
    },
    [("prometheus_adapter", REPAIRS), ("hpa", NOTHING)],
)
KUBELET_STOPPED = State(
    "the worker's kubelet stopped, its node not ready",
    {
        "control_plane": NOTHING,
        "worker": NOTHING,
        "cni": not_ready("DaemonSet", "kube-flannel-ds"),
        "prometheus": not_ready("Deployment", "prometheus-operator"),
        "metrics_server": not_ready("Deployment", "metrics-server"),
        "node_exporter": not_ready("DaemonSet", "node-exporter"),
        "kube_state_metrics": not_ready("Deployment", "kube-state-metrics"),
        "alertmanager": not_ready("Alertmanager"),
        "prometheus_adapter": not_ready("Deployment", "prometheus-adapter"),
        "grafana": not_ready("Deployment", "grafana"),
        "demo_app": not_ready("Deployment", "demo-app"),
        "hpa": not_ready("Deployment", "prometheus-adapter"),
        "verify": fails("names the node", "nodes_ready", WORKER),
    },
    [("node_prep", REPAIRS)],
)
PROMETHEUS_DELETED = State(
    "namespace monitoring and the CRD of ServiceMonitor deleted",
    {
        "cni": NOTHING,
        **dict.fromkeys([tag for tag in METRICS_TAGS if tag != "prometheus"], NO_KIND),
        "demo_app": NOTHING,
        "sample_apps": NOTHING,
        "hpa": NO_KIND,
        "verify": fails("names the link that broke", "prometheus_ready"),
    },
    [
        ("prometheus", REPAIRS),
        *[(tag, REPAIRS) for tag in METRICS_TAGS if tag != "prometheus"],
        # What it made is in the apps' namespaces and of kinds that are still there.
        ("hpa", NOTHING),
        ("verify", NOTHING),
    ],
)
STATES = [BARE, CONVERGED, ADAPTER_GONE, KUBELET_STOPPED, PROMETHEUS_DELETED]
