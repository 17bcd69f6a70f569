"""Every notebook runs as it stands and gives what it shows."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from tests.notebooks.executed import FOLDER, KERNEL, NEEDED, executed, texts

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LOCAL = re.compile(r"(?<![\w.])/(home|root|work|tmp|Users|usr|opt)/\w|[A-Z]:\\\\")
missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
needs_kernel = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def of_name(path: Path) -> str:
    return path.stem


def test_there_is_one() -> None:
    assert "sg2042_study.ipynb" in {path.name for path in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=of_name)
def test_it_is_committed_with_its_outputs_and_nothing_of_a_machine(path: Path) -> None:
    document = json.loads(path.read_text())
    code = [cell for cell in document["cells"] if cell["cell_type"] == "code"]
    assert document["metadata"] == KERNEL
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    kinds = {output["output_type"] for cell in code for output in cell["outputs"]}
    assert kinds <= {"stream", "display_data", "execute_result"} and len(kinds) > 1
    assert all("execution" not in cell["metadata"] for cell in code), "times of cells"
    said = json.dumps([[o for o in c["outputs"] if "image/png" not in o.get("data", {})] for c in code])
    assert not LOCAL.search(said), LOCAL.search(said)
    assert any("image/png" in o.get("data", {}) for c in code for o in c["outputs"]), "pictures"


@needs_kernel
@pytest.mark.soak
@pytest.mark.machine
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=of_name)
def test_no_cell_errs_and_the_text_is_what_was_committed(path: Path) -> None:
    import nbformat

    committed, fresh = nbformat.read(path, as_version=4), executed(path)
    for cell, (one, other) in enumerate(zip(texts(committed), texts(fresh), strict=True)):
        assert other == one, f"the cell of code number {cell + 1} shows something else: {path.name}"
