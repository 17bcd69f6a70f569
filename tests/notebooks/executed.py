"""Notebooks, executed: `python -m tests.notebooks.executed` writes all of them again with fresh outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "notebooks"
NEEDED = ("nbformat", "nbclient", "ipykernel")
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
          "language_info": {"name": "python"}}  # fmt: skip
SECONDS = 1200
"""Until a cell counts as stuck, on a busy machine."""


def executed(path: Path) -> Any:
    """The notebook in `path` with the outputs of a kernel that has just run it, stderr and the machine left out.

    Raises: nbclient's CellExecutionError where a cell errs.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", record_timing=False,
                   resources={"metadata": {"path": str(path.parent)}}).execute()  # fmt: skip
    for cell in notebook.cells:  # warnings name files of this machine
        cell.outputs = [output for output in cell.get("outputs", ()) if output.get("name") != "stderr"]
        if cell.cell_type != "code":
            del cell["outputs"]
    notebook.metadata = nbformat.from_dict(KERNEL)
    return notebook


def texts(notebook: Any) -> list[list[str]]:
    """For each cell with code, what it printed or showed as text; no pictures."""
    return [[_text(output) for output in cell.outputs] for cell in notebook.cells if cell.cell_type == "code"]


def _text(output: Any) -> str:
    return str(output.text if output.output_type == "stream" else output.get("data", {}).get("text/plain", ""))


def main() -> None:
    """Executes every notebook and writes it."""
    import nbformat

    for path in sorted(FOLDER.glob("*.ipynb")):
        fresh = executed(path)
        nbformat.write(fresh, path)
        print(path.name)


if __name__ == "__main__":
    main()
