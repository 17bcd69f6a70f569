"""Sphinx: `make docs` builds the pages of this folder and the reference, which is generated from the code."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import mapper  # noqa: E402
from docs.generate import api, cli, files  # noqa: E402

project = "mapper"
author = "The mapper developers"
project_copyright = "The mapper developers, Apache-2.0"
version = release = mapper.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "generate", "__pycache__"]
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_title = f"mapper {release}"
html_show_sourcelink = False
html_copy_source = False
myst_heading_anchors = 4
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"show-inheritance": False}
highlight_language = "none"
default_role = "code"
smartquotes = False
nitpicky = False


def write_reference(app: Any = None) -> None:
    """Writes the generated pages into `reference/`, each only if it changes."""
    folder = HERE / "reference"
    folder.mkdir(exist_ok=True)
    texts = {"cli": cli.page(), "api": api.page()} | {f"file-{name}": text for name, text in files.pages().items()}
    for name, text in texts.items():
        path = folder / f"{name}.md"
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)


def outside_links(app: Any, name: str, source: list[str]) -> None:
    """Links to files of the repository that are no pages become their paths: built pages may be anywhere."""
    source[0] = re.sub(r"\[([^\]]+)\]\((?:\.\./)+([^)\s]+)\)", _path, source[0]) if "/" not in name else source[0]


def _path(link: re.Match[str]) -> str:
    text, path = link[1].strip("`"), link[2]
    return f"`{path}`" if text in (path, Path(path).name) else f"{link[1]} (`{path}`)"


def docstring(app: Any, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with code in backticks: what means something in reStructuredText is escaped, and
    indented parts are code."""
    out: list[str] = []
    code = example = False
    for line in lines:
        example = line.startswith(">>>") or (example and bool(line.strip()))
        deep = line.startswith("    ")
        if deep and not code and (not out or not out[-1].strip()):
            out += ["::", ""]
            code = True
        elif line.strip() and not deep:
            code = False
        out.append(line if code or example else _rst(line))
    lines[:] = out


def _rst(line: str) -> str:
    parts = line.split("`")
    if len(parts) % 2 == 0:  # code that goes on in the next line: plain text
        return re.sub(r"([*|_`])", r"\\\1", line)
    return "``".join(part if i % 2 else re.sub(r"([*|_])", r"\\\1", part) for i, part in enumerate(parts))


def setup(app: Any) -> None:
    """Registers the above."""
    app.connect("builder-inited", write_reference)
    app.connect("source-read", outside_links)
    app.connect("autodoc-process-docstring", docstring)
