"""The target `onnxruntime`: a stage is an ONNX model; the launcher's threads have a session each."""

from __future__ import annotations

from pathlib import Path

from mapper.exporters.pipelines.python_launcher import write_threads
from mapper.exporters.registry import Export


def write(export: Export, path: Path) -> None:
    """Writes the export into the folder `path`. Raises: what `write_threads` does."""
    write_threads(
        export, path, "onnxruntime", "a pipeline in ONNX Runtime", "stage.onnx", "onnxruntime_run.py",
        "Workers are threads of one process: ONNX Runtime lets go of Python's lock while it computes. A worker with a "
        "PU for each of its threads has each thread bound to one (`session.intra_op_thread_affinities`, and the "
        "calling thread itself); otherwise all of its threads may use all of its PUs. Each replica has a copy of its "
        "stage's weights.",
    )  # fmt: skip
