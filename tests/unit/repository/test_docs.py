"""What the Markdown files say is so: links lead somewhere, code parses, and names in it exist."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.inventory.clusters import read_clusters
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.pins import load_pins
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.references import pod_images
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet.preflight import MACHINE_VARIABLES, SHARED_VARIABLES
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet.values import Setting, check_option
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.chain import ALL, CAUSES
from markdown_it import MarkdownIt
from markdown_it.token import Token

REPOSITORY = Path(__file__).resolve().parents[3]
PATTERNS = ("*.md", "docs/*.md", "docs/getting-started/*.md", "roles/*/README.md")
FILES = sorted(file for pattern in PATTERNS for file in REPOSITORY.glob(pattern))
LANGUAGES = {"yaml", "shell", "python", "text", "json"}

ROLES = sorted(path.name for path in (REPOSITORY / "roles").iterdir() if path.is_dir())
OPTIONS: dict[str, dict[str, Any]] = {
    name: option
    for file in sorted(REPOSITORY.glob("roles/*/meta/argument_specs.yml"))
    for name, option in (yaml.safe_load(file.read_text())["argument_specs"]["main"].get("options") or {}).items()
}
PINS = yaml.safe_load((REPOSITORY / "files/artifacts.yml").read_text())
IMAGES = pod_images(load_pins())
# Names that begin like a role's variable: plugins, links of the doctor, pinned parts, words in defaults (the metrics).
OTHERS = (
    {file.stem for file in REPOSITORY.glob("plugins/**/*.py")}
    | {*ALL, *CAUSES}
    | {*PINS["components"], *PINS["machine_files"], *MACHINE_VARIABLES}
    | set(re.findall(r"\w+", yaml.safe_dump([option.get("default") for option in OPTIONS.values()])))
)
PLAYBOOK_WORDS = set(re.findall(r"\w+", "".join(file.read_text() for file in REPOSITORY.glob("playbooks/*.yml"))))
TARGETS = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
SETTING = re.compile(r"KUBESCALE_[A-Z_]+")
SOURCES = "".join(file.read_text() for pattern in ("plugins/**/*.py", "Makefile") for file in REPOSITORY.glob(pattern))


@dataclass(frozen=True)
class Code:
    """A block or a span of code; ``place`` is file and line."""

    place: str
    language: str
    text: str


def tokens(file: Path) -> Iterator[tuple[int, Token]]:
    """All tokens of a file, inline ones too, with the line of their block."""
    for token in MarkdownIt("commonmark").enable("table").parse(file.read_text(encoding="utf-8")):
        line = token.map[0] + 1 if token.map else 0
        yield line, token
        for child in token.children or ():
            yield line, child


def code(kind: str) -> list[Code]:
    return [
        Code(f"{file.relative_to(REPOSITORY)}:{line}", token.info.strip(), token.content)
        for file in FILES
        for line, token in tokens(file)
        if token.type == kind
    ]


BLOCKS = code("fence")
SPANS = code("code_inline")
YAML = [block for block in BLOCKS if block.language == "yaml"]
SHELL = [block for block in BLOCKS if block.language == "shell"]
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(REPOSITORY)))


def anchors(file: Path) -> set[str]:
    """What a link may name after `#`, as git hosts make it from headings."""
    found = set()
    stream = list(tokens(file))
    for (_, token), (_, content) in itertools.pairwise(stream):
        if token.type == "heading_open":
            found.add(re.sub(r"[^\w\- ]", "", content.content.lower()).replace(" ", "-"))
    return found


def unknown_names(text: str) -> list[str]:
    """Words that begin as a role's variables do and are none."""
    prefixes = tuple(f"{role}_" for role in ROLES)
    words = re.findall(r"(?<![\w.<-])[a-z]\w+(?![\w>]|\.[a-z])", text)
    return [word for word in words if word.startswith(prefixes) and word not in OPTIONS and word not in OTHERS]


def there(path: str) -> bool:
    """Whether a path of the repository exists; so does the inventory that pages tell the reader to make."""
    return path.startswith("inventory/mine") or (REPOSITORY / path).exists()


# What is right as the value of an option.
VALUES: dict[str, Callable[[str], bool]] = {
    "--tags": lambda value: set(value.split(",")) <= set(ROLES),
    "--extra-vars": lambda value: (
        value.partition("=")[0] in {*OPTIONS, *SHARED_VARIABLES, *PLAYBOOK_WORDS} or "=" not in value
    ),
    "--inventory": lambda value: there(value) or not value.startswith("inventory/"),
    "--scenario-name": lambda value: there(f"molecule/{value}"),
}
LONG = {"-t": "--tags", "-e": "--extra-vars", "-i": "--inventory", "-s": "--scenario-name"}


def wrong_in_commands(text: str) -> list[str]:
    """What commands name that is not there: playbooks, tags, make targets, scenarios, settings, variables."""
    wrong = [name for name in SETTING.findall(text) if name not in SOURCES]
    for command in re.split(r"\n|&&|;|\|", re.sub(r"\\\n", " ", text)):
        # Capitals and pointed brackets stand for what the reader chooses.
        words = [word for word in re.sub(r"\s#.*", "", command).split() if not re.search(r"[<>]|^[A-Z]+$", word)]
        while words and ("=" in words[0] or words[0] == "sudo"):
            words.pop(0)
        if words[:1] == ["make"]:
            wrong += [word for word in words[1:] if re.fullmatch("[a-z-]+", word) and word not in TARGETS]
        if words[:1] not in (["ansible-playbook"], ["molecule"]):
            continue
        for word in words:
            if word == "site.yml" or word.startswith("playbooks/"):
                wrong += [] if there(word) else [word]
            elif name := re.fullmatch(r"kubescale\.fleet\.(\w+)", word):
                wrong += [] if there(f"playbooks/{name[1]}.yml") else [word]
        wrong += [
            f"{option} {value}"
            for option, value in itertools.pairwise(words)
            if (right := VALUES.get(LONG.get(option, option))) and not right(value)
        ]
    return wrong


def wrong_paths(text: str) -> list[str]:
    """The text if it is a path of the repository that does not exist."""
    folders = "docs|files|inventory|molecule|playbooks|plugins|roles|tests"
    return [text] if re.fullmatch(rf"({folders})/[\w./-]+", text) and not there(text) else []


def wrong_images(text: str) -> list[str]:
    """Return the images of ours that have another tag than the pinned one."""
    wrong = []
    for image in IMAGES.values():
        repository = image.reference.rpartition(":")[0]
        found = {f"{repository}:{tag}" for tag in re.findall(rf"{re.escape(repository)}:([\w.-]*\w)", text)}
        wrong += sorted(found - {image.reference})
    return wrong


def wrong_in_yaml(text: str) -> list[str]:
    """What a YAML block says that is not so: unknown names, and what roles or the inventory refuse."""
    wrong = unknown_names(re.sub(r"#.*", "", text))
    for content in yaml.safe_load_all(text):
        for name, value in content.items() if isinstance(content, dict) else ():
            if name in OPTIONS and "{{" not in str(value):
                wrong += check_option(Setting(name, value, "docs"), OPTIONS[name])[1]
        if isinstance(content, dict) and content.get("plugin") == "kubescale.fleet.clusters":
            wrong += read_clusters(content)[0]
    return wrong


@each_file
def test_links_lead_to_files_and_headings(file: Path) -> None:
    wrong = []
    for line, token in tokens(file):
        target = token.attrGet({"link_open": "href", "image": "src"}.get(token.type, ""))
        if target is None or re.match(r"https?:|mailto:", str(target)):
            continue
        path, _, anchor = str(target).partition("#")
        there = (file.parent / path).resolve() if path else file
        if not there.is_relative_to(REPOSITORY) or not there.exists():
            wrong.append(f"line {line}: {target} does not exist")
        elif anchor and anchor not in anchors(there):
            wrong.append(f"line {line}: {there.name} has no heading #{anchor}")
    assert wrong == []


def test_every_block_says_its_language() -> None:
    assert [f"{block.place}: {block.language!r}" for block in BLOCKS if block.language not in LANGUAGES] == []


@pytest.mark.parametrize("block", YAML, ids=lambda block: block.place)
def test_yaml_is_right(block: Code) -> None:
    assert wrong_in_yaml(block.text) == []


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.place)
def test_shell_is_right(block: Code) -> None:
    checked = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert checked.stderr == ""
    assert wrong_in_commands(block.text) + wrong_images(block.text) == []


@each_file
def test_names_in_the_text_exist(file: Path) -> None:
    place = str(file.relative_to(REPOSITORY)) + ":"
    spans = [span for span in SPANS if span.place.startswith(place)]
    checks = (unknown_names, wrong_in_commands, wrong_paths)
    wrong = {f"{span.place}: {text}" for span in spans for check in checks for text in check(span.text)}
    assert sorted(wrong) == []


def playbook(content: Any) -> list[dict[str, Any]]:
    """A YAML document as a playbook if it is a list of plays or of tasks, else nothing."""
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        return []
    plays = any({"hosts", "import_playbook", "ansible.builtin.import_playbook"} & set(item) for item in content)
    return content if plays else [{"name": "Tasks", "hosts": "localhost", "tasks": content}]


def syntax_errors(playbooks: Mapping[str, list[dict[str, Any]]], folder: Path) -> str:
    """What Ansible says against playbooks (by the name of their place); nothing if they are right."""
    books = []
    for place, plays in playbooks.items():
        books.append(folder / f"{place.replace('/', '_')}.yml")
        books[-1].write_text(yaml.safe_dump(plays, sort_keys=False))
    program = Path(sys.executable).with_name("ansible-playbook")
    command = [str(program), "--syntax-check", "-i", "localhost,", *map(str, books)]
    checked = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return checked.stderr if checked.returncode else ""


def test_plays_and_tasks_are_right(tmp_path: Path) -> None:
    playbooks = {block.place: plays for block in YAML if (plays := playbook(yaml.safe_load(block.text)))}
    wrong = playbook([{"name": "Wrong", "kubescale.fleet.no_such_module": {}}])
    assert "no_such_module" in syntax_errors({"wrong": wrong}, tmp_path)
    assert not playbooks or syntax_errors(playbooks, tmp_path) == ""


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("ansible-playbook -i inventory/mine playbooks/artifacts.yml --tags artifacts", []),
        ("ansible-playbook playbooks/none.yml", ["playbooks/none.yml"]),
        ("ansible-playbook kubescale.fleet.none", ["kubescale.fleet.none"]),
        ("ansible-playbook site.yml --tags hpa,hpas", ["--tags hpa,hpas"]),
        ("KUBECONFIG=x ansible-playbook site.yml -e hpa_max=3", ["-e hpa_max=3"]),
        ("ansible-playbook -i inventory/none \\\n  site.yml", ["-i inventory/none"]),
        ("make setup && make nothing  # words", ["nothing"]),
        ("molecule test -s none", ["-s none"]),
        ("molecule test -s NAME", []),
        ("KUBESCALE_NONE=1 make demo", ["KUBESCALE_NONE"]),
    ],
)
def test_wrong_commands_are_found(text: str, wrong: list[str]) -> None:
    assert wrong_in_commands(text) == wrong


def test_wrong_images_and_paths_are_found() -> None:
    assert wrong_images("podman pull docker.io/grafana/grafana:0.0.1") == ["docker.io/grafana/grafana:0.0.1"]
    assert wrong_paths("playbooks/none.yml") == ["playbooks/none.yml"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("demo_app_max_replicas: 3", ""),
        ("demo_app_max_replica: 3", "demo_app_max_replica"),
        ("demo_app_max_replicas: many", "demo_app_max_replicas"),
        ("plugin: kubescale.fleet.clusters\nclusters: {a: {}}", "control_plane"),
    ],
)
def test_wrong_yaml_is_found(text: str, part: str) -> None:
    wrong = wrong_in_yaml(text)
    assert bool(wrong) == bool(part)
    assert part in "".join(wrong)
