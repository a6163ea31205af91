# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""How Sphinx makes the website; `make site` lays out its sources as in the repository and calls it."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

import yaml
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

REPOSITORY = Path(__file__).resolve().parents[2]
GALAXY = yaml.safe_load((REPOSITORY / "galaxy.yml").read_text(encoding="utf-8"))
# References of generated pages to Ansible itself, below https://docs.ansible.com/ansible/latest/.
ANSIBLE = {
    "action_plugins": "plugins/action.html",
    "callback_plugins": "plugins/callback.html",
    "common_return_values": "reference_appendices/common_return_values.html",
    "ANSIBLE_PIPELINING": "reference_appendices/config.html#envvar-ANSIBLE_PIPELINING",
    "ANSIBLE_REMOTE_USER": "reference_appendices/config.html#envvar-ANSIBLE_REMOTE_USER",
}


def palettes() -> list[dict[str, str]]:
    """Return the light and the dark palette of the report, for the pages and for the diagrams on them."""
    style = (REPOSITORY / "plugins/plugin_utils/report/templates/page.css.j2").read_text(encoding="utf-8")
    return [dict(re.findall(r"--([\w-]+): (#\w+);", part)) for part in style.split("prefers-color-scheme", 1)]


LIGHT, DARK = palettes()
FURO = {
    "font-stack": 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif',
    "font-stack--monospace": "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace",
    "color-foreground-primary": "var(--text)",
    "color-foreground-secondary": "var(--soft)",
    "color-background-primary": "var(--card)",
    "color-background-secondary": "var(--page)",
    "color-background-border": "var(--line)",
    "color-admonition-background": "var(--page)",
    "color-brand-primary": "var(--desired)",
    "color-brand-content": "var(--desired)",
    "color-brand-visited": "var(--desired)",
}

project = f"{GALAXY['namespace']}.{GALAXY['name']}"
author = project_copyright = ", ".join(GALAXY["authors"])
version = release = GALAXY["version"]
extensions = ["myst_parser", "sphinx_antsibull_ext", "sphinx_copybutton"]
# The pages of docs/site/reference take them in.
exclude_patterns = ["collections/index.rst", "collections/environment_variables.rst"]
myst_heading_anchors = 4
myst_enable_extensions = ["alert"]
nitpicky = True
antsibull_ext_color_scheme = "none"
html_theme = "furo"
html_theme_options = {"light_css_variables": LIGHT | FURO, "dark_css_variables": DARK | FURO}
html_title = f"{project} {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False


def follow_repository_links(app: Sphinx, doctree: nodes.document) -> None:
    """Lead links that are right in the repository to their page here, or else to the file in the repository.

    Links to files that do not exist stay as they are, so that Sphinx reports them.
    """
    folder = posixpath.dirname(app.env.docname)
    for link in list(doctree.findall(addnodes.pending_xref)):
        if link["reftype"] != "myst" or link["refdomain"]:
            continue
        target, _, anchor = link["reftarget"].partition("#")
        path = posixpath.normpath(posixpath.join(folder, target))
        match path.split("/"):
            case ["README.md"]:
                page = "index"
            case ["roles", role, "README.md"]:
                page = f"collections/{role}_role"
            case _:
                page = ""
        if page:
            link.attributes.update({"refdomain": "doc", "reftarget": page, "reftargetid": anchor or None})
        elif (REPOSITORY / path).exists():
            kind = "tree" if (REPOSITORY / path).is_dir() else "blob"
            uri = f"{GALAXY['repository']}/{kind}/main/{path}"
            link.replace_self(nodes.reference("", "", *link.children, refuri=uri, internal=False))


def link_ansible(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, text: nodes.TextElement
) -> nodes.reference | None:
    """Lead references to Ansible's own documentation there."""
    if node["reftarget"] not in ANSIBLE:
        return None
    return nodes.reference("", "", text, refuri=f"https://docs.ansible.com/ansible/latest/{ANSIBLE[node['reftarget']]}")


def inline_diagrams(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put SVG images into the page itself, where they take its colours and its text can be found."""
    for image in list(doctree.findall(nodes.image)):
        if image["uri"].endswith(".svg"):
            drawing = (Path(app.srcdir) / image["uri"]).read_text(encoding="utf-8")
            image.replace_self(nodes.raw("", f'<div class="scroll">{drawing}</div>', format="html"))


def tidy_generated_page(app: Sphinx, doctree: nodes.document) -> None:
    """Take from a page by antsibull-docs what every such page says alike: a note, a table of contents, long titles."""
    if not app.env.docname.startswith("collections/"):
        return
    for contents in list(
        doctree.findall(lambda node: "contents" in getattr(node, "attributes", {}).get("classes", ()))
    ):
        contents.parent.remove(contents)
    page = next(iter(doctree.findall(nodes.section)))
    # `kubescale.fleet.hpa role -- What it does`, with a dash by Sphinx.
    title, _, sentence = page[0].astext().partition(" \N{EN DASH} ")
    if sentence:
        name = title.removeprefix(f"{project}.")
        page[0].replace_self(nodes.title(name, name))
        note = next(iter(page.findall(nodes.note)))
        note.replace_self(nodes.paragraph(sentence, sentence))
    for entry in [
        child for child in page if isinstance(child, nodes.section) and child[0].astext().startswith("Entry point")
    ]:
        page["ids"] += entry["ids"]
        entry.replace_self(entry[1:])


def setup(app: Sphinx) -> None:
    """Connect the above."""
    app.connect("doctree-read", follow_repository_links)
    # Before Sphinx collects titles and contents.
    app.connect("doctree-read", tidy_generated_page, priority=100)
    app.connect("doctree-resolved", inline_diagrams)
    app.connect("missing-reference", link_ansible)
