"""Notebooks, executed: `python -m tests.notebooks.executed` writes all of them again with fresh outputs, and with names
such as `first_plan` only those.

A cell with the tag `machine` looks at the machine at hand, or runs on it: what it shows elsewhere is something else."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "notebooks"
NEEDED = ("nbformat", "nbclient", "ipykernel")
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
          "language_info": {"name": "python"}}  # fmt: skip
SECONDS = 1200
"""Until a cell counts as stuck, on a busy machine."""
MACHINE = "machine"


def executed(path: Path) -> Any:
    """The notebook in `path` with the outputs of a kernel that has just run it in an empty folder, stderr and what
    names this machine left out.

    Raises: nbclient's CellExecutionError where a cell errs.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", record_timing=False,
                       resources={"metadata": {"path": folder}}).execute()  # fmt: skip
    for cell in notebook.cells:  # warnings name files of this machine
        cell.outputs = [output for output in cell.get("outputs", ()) if output.get("name") != "stderr"]
        if cell.cell_type != "code":
            del cell["outputs"]
    notebook.metadata = nbformat.from_dict(KERNEL)
    return notebook


def texts(notebook: Any) -> list[list[str]]:
    """For each cell with code that does not depend on the machine at hand, what it printed or showed as text; no
    pictures."""
    return [
        [_text(output) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code" and MACHINE not in cell.metadata.get("tags", ())
    ]


def _text(output: Any) -> str:
    return str(output.text if output.output_type == "stream" else output.get("data", {}).get("text/plain", ""))


def main(names: Sequence[str]) -> None:
    """Executes the notebooks called `names`, or every one, and writes them."""
    import nbformat

    for path in [FOLDER / f"{name}.ipynb" for name in names] or sorted(FOLDER.glob("*.ipynb")):
        fresh = executed(path)
        nbformat.write(fresh, path)
        print(path.name)


if __name__ == "__main__":
    main(sys.argv[1:])
