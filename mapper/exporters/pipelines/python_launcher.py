"""Exports with a launcher in Python: its files, which are data here, and stages as a back end of ours compiles them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mapper import jsonio
from mapper.backends.artefacts import MANIFEST
from mapper.exporters.pipelines.pipeline import Pipeline, compiled_stages, write_pipeline
from mapper.exporters.readme import write_readme
from mapper.exporters.registry import Export
from mapper.exporters.workers import require_one_host

if TYPE_CHECKING:
    from mapper.backends.core import Core

LAUNCHERS = Path(__file__).parent / "python-launchers"
SHARED = {"command.py": "command.py"}
THREADS = SHARED | {"pipeline.py": "pipeline.py"}
"""Files of a launcher by what they are called in an export, and what here."""
OPTIONS = "[--items N] [--warmup N] [--json] [--oversubscribe]"
EXIT_CODES = (
    "It runs the sample item N times (100), after a warm-up, and compares all outputs each time with those of the "
    "unsplit model: bit by bit, or within the tolerance that `pipeline.json` states. It prints items/s, and the PUs "
    "that each worker really has. Exit codes: 0 done, 9 outputs differ, 7 a stage failed, 6 the PUs of the plan are "
    "not there (`--oversubscribe` runs it all the same, for its results only), 8 a library is not installed."
)


def write_launcher(folder: Path, files: Mapping[str, str]) -> None:
    """Copies the launcher's `files` into `folder`."""
    for name, here in files.items():
        jsonio.write_text(folder / name, (LAUNCHERS / here).read_text(encoding="utf-8"))


def write_threads(export: Export, folder: Path, target: str, title: str, model: str, run: str, note: str) -> None:
    """Writes an export whose workers are threads of one program: stages as the plan's back end compiles them for our
    own executor, each in a folder with its `model`, and `run` as the launcher's main file; `note` goes into the README.

    Raises: UsageError for several hosts; BadInput; MissingFeature when what compiles is not installed.
    """
    require_one_host(export.plan, target)
    write_compiled(export, folder, model)
    write_launcher(folder, THREADS | {"run.py": run})
    write_readme(
        folder, export.plan, title,
        [f"python -m pip install numpy {target}", f"python run.py {OPTIONS}"],
        [
            f"Needs numpy and {target} on Linux, and nothing else. Stages are `stages/NUMBER/{model}` with their "
            "weights beside them; `pipeline.json` says which tensors each takes and gives, by number.",
            EXIT_CODES,
            "In a program of your own: `from run import Pipeline`, then `with Pipeline(folder) as pipeline: for "
            "outputs in pipeline.map(items): ...`. An item is arrays in the order of the model's inputs, or by their "
            "names.",
            "Each worker is bound to its PUs before its stage is loaded. Items wait in bounded queues; item n goes to "
            "replica n mod r of a stage with r replicas, so their order is kept.",
            note,
        ],
    )  # fmt: skip


def write_compiled(export: Export, folder: Path, model: str) -> Pipeline:
    """Writes the pipeline with what the plan's back end compiles for each stage, from the cache where it is there; the
    stage's file is called `model`."""
    plan, (source, sample) = export.plan, export.model
    made = compiled_stages(export)

    def write(core: Core, threads: int, path: Path) -> None:
        path.parent.mkdir()
        for file in sorted(made[int(path.parent.name), threads].iterdir()):
            if file.name != MANIFEST:
                shutil.copyfile(file, path.parent / file.name)

    return write_pipeline(plan, source, sample, folder, f"/{model}", write, say=export.say)
