"""The sample apps: names, builds, entries, load, and the programs themselves."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.catalogue import DEMO_LOAD, all_entries, load_of
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.parse import parse_apps, parse_pairs
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.sample_apps import (
    catalogue,
    sample_app_names,
    sample_entries,
)
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts import build, contents
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.build import Builder, library_digests
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.cache import Cache, Step
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.pins import (
    ArtifactError,
    load_pins,
    versioned_pins,
)
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.scheduler import missing_tools
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet import preflight

SOURCES = Path(__file__).resolve().parents[3] / "files" / "sample_apps"
ALL = ["cpu_memory", "node", "spring"]


# -- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (None, []),
        ("", []),
        ("[]", []),
        ([], []),
        (["node"], ["node"]),
        ("[node,spring]", ["node", "spring"]),
        ("['spring', node]", ["spring", "node"]),
        (["node", "node"], ["node"]),
    ],
)
def test_names_may_come_as_a_list_or_as_text_of_one(value: object, names: list[str]) -> None:
    assert sample_app_names(value) == names


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("node", r"sample_apps = 'node': must be a list, such as \[cpu_memory, node, spring\]"),
        ({"node": True}, "must be a list"),
        ("[node", r"sample_apps = '\[node': must be a list"),
        (
            ["node", "sprnig"],
            r"sample_apps\[1\] = 'sprnig': must be one of cpu_memory, node, spring; did you mean spring\?",
        ),
        ([True], r"sample_apps\[0\] = True: must be one of"),
        ("[flask]", "the Flask app is the demo app, which role demo_app installs"),
    ],
)
def test_what_is_no_list_of_names_is_refused(value: object, text: str) -> None:
    with pytest.raises(ArtifactError, match=text):
        sample_app_names(value)


def test_the_checks_before_a_run_name_each_wrong_one_and_where_it_was_set() -> None:
    assert preflight.check_sample_apps(preflight.Setting("sample_apps", "[node]", "all.yml:3")) == []
    first, second = preflight.check_sample_apps(preflight.Setting("sample_apps", ["x", "y"], "all.yml:3"))
    assert first.startswith("sample_apps[0] = 'x'")
    assert second.startswith("sample_apps[1] = 'y'")
    assert second.endswith("(all.yml:3)")


# -- pins ----------------------------------------------------------------------------------------------------------


def steps(directory: Path, *names: str) -> dict[str, Step]:
    cache = Cache(directory, versioned_pins(None, names), "amd64")
    return {step.name: step for step in Builder(cache).steps()}


def test_what_is_built_for_samples_is_built_only_for_those_that_are_named(tmp_path: Path) -> None:
    without, node, every = steps(tmp_path), steps(tmp_path, "node"), steps(tmp_path, *ALL)
    assert set(node) - set(without) == {
        "sample_node 0.1.0",
        "layer node",
        "image localhost/kubescale/sample-node:0.1.0",
    }
    assert {"layer java", "layer node", "layer python", "layer network"} <= set(every)
    assert "layer python" in without
    # What was in the cache before stays what it is.
    assert {name: every[name].digest for name in without} == {name: step.digest for name, step in without.items()}


def test_pins_and_catalogue_name_the_same_samples() -> None:
    pinned = {
        name: recipe["sample_app"] for name, recipe in load_pins()["components"].items() if "sample_app" in recipe
    }
    assert pinned == {sample["component"]: name for name, sample in catalogue().items()}
    assert sorted(catalogue()) == ALL
    repositories = {image["component"]: image["repository"] for image in load_pins()["images"]}
    for component in pinned:
        assert repositories[component] == f"localhost/kubescale/{component.replace('_', '-')}"


def test_java_asks_for_its_tools_and_others_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda tool: None if tool in ("mvn", "javac") else tool)
    assert missing_tools(list(steps(tmp_path, "node").values())) == []
    assert missing_tools(list(steps(tmp_path, "spring").values())) == ["mvn", "javac"]


# -- entries and load ----------------------------------------------------------------------------------------------


def test_entries_are_well_and_follow_the_names() -> None:
    values = {"sample_apps": "[spring,cpu_memory]", "sample_apps_state": "present", "demo_app_state": "absent"}
    values["sample_apps_scale_down_stabilization"] = 30  # type: ignore[assignment]
    pairs = list(all_entries(lambda name, _role: values.get(name)))
    apps = [app for app, _unused in parse_pairs(pairs)]
    assert [app.name for app in apps] == ["spring", "cpu", "memory", "cpu-and-memory"]
    assert {app.behavior["scaleDown"]["stabilizationWindowSeconds"] for app in apps} == {30}
    assert not list(all_entries(lambda name, _role: (values | {"sample_apps_state": "absent"}).get(name)))
    # Who wrote a wrong name is told by others.
    assert not list(all_entries(lambda name, _role: (values | {"sample_apps": "[x]"}).get(name)))


def test_the_spring_app_is_read_as_its_first_author_did() -> None:
    (metric,) = parse_apps(sample_entries(["spring"], 300))[0].metrics
    assert (metric.name, metric.function, metric.window) == ("hello_counter_per_second", "irate", 60)


def test_each_sample_has_its_load_and_apps_of_others_must_be_told() -> None:
    entries = [
        *sample_entries(ALL, 300),
        {"name": "shop", "namespace": "sales"},
        {"name": "demo-app", "namespace": "demo"},
    ]
    for entry in entries[:5]:
        load = load_of(entry["name"], entries)
        assert f"//{entry['name']}.{entry['namespace']}.svc:8080/" in load["request"]
        assert load["rate"] >= 2
        assert load["weight"] > 0
    assert load_of("demo-app", entries) == {"namespace": "demo", "weight": 1, **DEMO_LOAD}
    assert load_of("shop", entries) == {"namespace": "sales", "request": "", "series": "", "rate": 5, "weight": 1}
    with pytest.raises(KeyError):
        load_of("nobody", entries)


# -- programs ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("npm"), reason="npm is not installed")
def test_the_node_app_as_a_pod_runs_it(tmp_path: Path) -> None:
    app = shutil.copytree(SOURCES / "node", tmp_path / "node")
    quiet = ["--silent", "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run(["npm", "ci", *quiet], cwd=app, check=True)
    done = subprocess.run(["node", "--test"], cwd=app, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(not shutil.which("npm"), reason="npm is not installed")
def test_an_image_gets_what_the_node_app_needs_and_nothing_of_where_it_came_from(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", versioned_pins(None, ["node"]), "amd64")
    made = tmp_path / "made"
    made.mkdir()
    Builder(cache).build_npm(cache.pins["components"]["sample_node"]["npm"], made)
    assert {path.name for path in made.iterdir()} == {"node_modules", "package.json", "package-lock.json", "server.js"}
    assert (made / "node_modules" / "prom-client" / "package.json").exists()
    assert [path for path in (made / "node_modules").iterdir() if path.name.startswith(".")] == []


class Process:
    """Run the CPU and memory app on a free port."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(SOURCES / "cpu_memory" / "cpu_memory.py")],
            env={**os.environ, "PORT": "0"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        self.port = int(self.process.stdout.readline().split()[-1])

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://localhost:{self.port}{path}", timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def memory(self) -> int:
        """Memory of the process, in MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() // 2**20

    def cpu(self) -> float:
        """CPU time of the process, in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def app() -> Iterator[Process]:
    running = Process()
    yield running
    running.process.kill()
    running.process.wait()


def test_cpu_is_used_as_asked_for(app: Process) -> None:
    before = app.cpu()
    assert app.get("/cpu?milliseconds=400") == (200, "done\n")
    assert 0.38 <= app.cpu() - before <= 0.6


def test_memory_is_held_and_given_back(app: Process) -> None:
    before = app.memory()
    assert app.get("/memory?mebibytes=48&seconds=1") == (200, "done\n")
    assert app.memory() - before >= 47
    deadline = time.monotonic() + 10
    while app.memory() - before > 4 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert app.memory() - before <= 4


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/cpu", "milliseconds must be a number up to 10000"),
        ("/cpu?milliseconds=-1", "milliseconds must be"),
        ("/cpu?milliseconds=10001", "milliseconds must be"),
        ("/memory?mebibytes=1", "seconds must be a number up to 600"),
        ("/memory?mebibytes=%C2%B2&seconds=1", "mebibytes must be"),
    ],
)
def test_nobody_takes_more_than_is_allowed(app: Process, path: str, text: str) -> None:
    status, said = app.get(path)
    assert status == 400
    assert text in said


def test_other_paths_are_not_there_and_the_probe_is(app: Process) -> None:
    assert app.get("/healthz") == (200, "ok\n")
    assert app.get("/")[0] == 404


def test_it_ends_when_it_is_told_to(app: Process) -> None:
    app.process.send_signal(signal.SIGTERM)
    assert app.process.wait(timeout=10) == 0


# -- what Maven brings ---------------------------------------------------------------------------------------------


def library(path: Path, manifest: str = "", **texts: str) -> str:
    """Write a library with a manifest and files; return its SHA-256."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", f"Manifest-Version: 1.0\n{manifest}")
        for name, text in texts.items():
            archive.writestr(f"META-INF/{name}", text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_libraries_are_known_by_their_place_in_mavens_repository(tmp_path: Path) -> None:
    sums = [
        library(
            tmp_path / "one-1.0.jar", "Bundle-License: https://example.org/lic\n ence.txt;link=x\n", LICENSE="text"
        ),
        library(tmp_path / "two-2.0.jar", NOTICE="and this"),
    ]
    listed = tmp_path / "libraries.sha256"
    listed.write_text(f"{sums[0]}  org/example/sub/one/1.0/one-1.0.jar\n{sums[1]}  two/two/2.0/two-2.0.jar\n")
    one, two = contents.maven_parts(tmp_path, listed)
    assert str(one.purl) == "pkg:maven/org.example.sub/one@1.0"
    assert (one.licence, one.texts) == ("https://example.org/licence.txt", {"META-INF/LICENSE": b"text"})
    assert (str(two.purl), two.licence) == ("pkg:maven/two/two@2.0", "")
    assert library_digests(listed) == {"one-1.0.jar": sums[0], "two-2.0.jar": sums[1]}


@pytest.mark.parametrize("wrong", ["changed", "one more", ""])
def test_a_library_that_is_not_the_listed_one_stops_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    source = tmp_path / "app"
    source.mkdir()
    expected = library(tmp_path / "one-1.0.jar")
    (source / "libraries.sha256").write_text(f"{expected}  org/one/1.0/one-1.0.jar\n")

    def maven(_command: list[str], work: Path) -> None:
        lib = work / "target" / "lib"
        lib.mkdir(parents=True)
        library(lib / "one-1.0.jar", "Changed: yes\n" if wrong == "changed" else "")
        shutil.copyfile(tmp_path / "one-1.0.jar", lib / "one-1.0.jar") if wrong != "changed" else None
        if wrong == "one more":
            library(lib / "two-1.0.jar")
        (work / "target" / "app.jar").write_text("app")

    monkeypatch.setattr(build, "run", maven)
    cache = Cache(tmp_path / "cache", versioned_pins(None), "amd64")
    builder = Builder(cache, collection=tmp_path)
    recipe: dict[str, Any] = {"source": "app", "archive": "app.jar", "libraries": "libraries.sha256"}
    target = tmp_path / "made"
    target.mkdir()
    if not wrong:
        builder.build_maven(recipe, target)
        assert sorted(path.name for path in target.rglob("*.jar")) == ["app.jar", "one-1.0.jar"]
        return
    named = "one-1.0.jar" if wrong == "changed" else "two-1.0.jar"
    with pytest.raises(ArtifactError, match=rf"app/libraries\.sha256 does not match .* {named}\. "):
        builder.build_maven(recipe, target)
