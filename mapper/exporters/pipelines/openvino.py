"""The target `openvino`: a stage is an OpenVINO model (IR); the launcher's workers have a process each."""

from __future__ import annotations

from pathlib import Path

from mapper.exporters.pipelines.python_launcher import write_threads
from mapper.exporters.registry import Export


def write(export: Export, path: Path) -> None:
    """Writes the export into the folder `path`. Raises: what `write_threads` does."""
    write_threads(
        export, path, "openvino", "a pipeline in OpenVINO", "stage.xml", "openvino_run.py",
        "Each worker's model is in a process of its own, started with the PUs of the worker, as all models of a "
        "process share one pool of threads, whoever started them. OpenVINO itself binds none (`ENABLE_CPU_PINNING` is "
        "off): it would choose other PUs than the plan. Tensors go to that process and back in shared memory, which is "
        "a copy of each at either side.",
    )  # fmt: skip
