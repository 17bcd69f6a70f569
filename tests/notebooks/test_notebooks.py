"""Every notebook runs as it stands, in an empty folder, and gives what it shows."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.notebooks.executed import FOLDER, KERNEL, NEEDED, executed, texts

NAMES = {"sg2042_study", "first_plan", "own_model", "own_machine", "compare_strategies", "own_strategy"}
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
WITHOUT_PICTURE = {"own_model"}
PICTURES = ("image/png", "image/svg+xml")
SHOWN = {"print", "display", "show", "told"}
"""What cells call to show something."""
LOCAL = re.compile(r"(?<![\w.])/(home|root|work|tmp|Users|usr|opt)/\w|[A-Z]:\\\\|ipykernel")
AMISS = re.compile(r"\b\w*Warning\b|Traceback")
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")
missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
needs_kernel = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def of_name(path: Path) -> str:
    return path.stem


def read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The document, and its cells with code."""
    document = json.loads(path.read_text())
    return document, [cell for cell in document["cells"] if cell["cell_type"] == "code"]


def shows(node: ast.AST) -> Iterator[str]:
    """What is called outside of functions and classes that are only defined."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(child, ast.Call) and isinstance(child.func, ast.Name):
            yield child.func.id
        yield from shows(child)


def test_they_are_all_there() -> None:
    assert {path.stem for path in NOTEBOOKS} == NAMES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=of_name)
def test_it_is_committed_with_its_outputs_and_nothing_of_a_machine(path: Path) -> None:
    document, code = read(path)
    assert document["metadata"] == KERNEL
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    kinds = {output["output_type"] for cell in code for output in cell["outputs"]}
    assert "stream" in kinds and kinds <= {"stream", "display_data", "execute_result"}
    assert all(output.get("name") != "stderr" for cell in code for output in cell["outputs"])
    assert all(set(cell["metadata"]) <= {"tags"} for cell in code), "times of cells"
    said = json.dumps([[o for o in c["outputs"] if "image/png" not in o.get("data", {})] for c in code])
    assert not LOCAL.search(said), LOCAL.search(said)
    assert not AMISS.search(said), AMISS.search(said)
    drawn = any(kind in o.get("data", {}) for c in code for o in c["outputs"] for kind in PICTURES)
    assert drawn or path.stem in WITHOUT_PICTURE, "pictures"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=of_name)
def test_every_cell_that_shows_something_has_its_output(path: Path) -> None:
    for cell in read(path)[1]:
        source = "".join(cell["source"])
        assert bool(cell["outputs"]) == bool(SHOWN & set(shows(ast.parse(source)))), source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=of_name)
def test_it_begins_with_a_title_and_its_links_lead_somewhere(path: Path) -> None:
    prose = ["".join(cell["source"]) for cell in read(path)[0]["cells"] if cell["cell_type"] == "markdown"]
    assert prose[0].startswith("# ")
    for text in prose:
        for target, _ in LINK.findall(text):
            assert target.startswith("https://") or (FOLDER / target).resolve().is_file(), target


@needs_kernel
@pytest.mark.soak
@pytest.mark.machine
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=of_name)
def test_no_cell_errs_and_the_text_is_what_was_committed(path: Path) -> None:
    import nbformat

    committed, fresh = nbformat.read(path, as_version=4), executed(path)
    for cell, (one, other) in enumerate(zip(texts(committed), texts(fresh), strict=True)):
        assert other == one, f"cell number {cell + 1} of those that are the same anywhere: {path.name}"
    for before, after in zip(committed.cells, fresh.cells, strict=True):
        assert bool(before.get("outputs")) == bool(after.get("outputs")), before.source
