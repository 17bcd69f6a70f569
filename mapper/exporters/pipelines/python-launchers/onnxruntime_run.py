"""Runs the pipeline in this folder with ONNX Runtime: python run.py [--items N] [--warmup N] [--json]
[--oversubscribe].

In a program of one's own:

    from run import Pipeline
    with Pipeline(folder) as pipeline:
        for outputs in pipeline.map(items): ...

Needs numpy and onnxruntime.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pipeline as threads
from command import MISSING, Stage, Worker, asked, bind, guarded, read
from pipeline import Array, Compute

HERE = Path(__file__).resolve().parent


class Pipeline(threads.Pipeline):
    """The pipeline in a folder, its stages computed by ONNX Runtime."""

    def load(self, stage: Stage, worker: Worker) -> tuple[Compute, Mapping[str, Any]]:
        """A session with a team of exactly the worker's threads: the calling one, and others that ONNX Runtime starts.

        Where there is a PU for each thread, each is bound to one: `intra_op_thread_affinities` has a group for each
        but the calling thread, PUs counted from 1. Otherwise all may use all PUs of the worker: ONNX Runtime binds
        none where the number of threads is stated, and they inherit the calling thread's. Within a call threads spin
        between ops, as the PUs are the worker's own; between calls they do not.
        """
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = worker.threads, 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        options.add_session_config_entry("session.force_spinning_stop", "1")
        one_each = worker.threads > 1 and worker.threads == len(worker.pus)
        if one_each:
            groups = ";".join(str(pu + 1) for pu in worker.pus[1:])
            options.add_session_config_entry("session.intra_op_thread_affinities", groups)
        path = str(self.description.folder / stage.file)
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        if one_each:
            bind(worker.pus[:1])
        names = [given.name for given in session.get_inputs()]

        def compute(given: Sequence[Array]) -> Sequence[Array]:
            results: Sequence[Array] = session.run(None, dict(zip(names, given, strict=True)))
            return results

        return compute, {"threads": session.get_session_options().intra_op_num_threads}


def main() -> int:
    """Runs the sample item; the exit code."""
    given = asked(sys.argv[1:], read(HERE).window)
    if find_spec("onnxruntime") is None:
        print("onnxruntime is not installed: python -m pip install onnxruntime", file=sys.stderr)
        return MISSING
    with Pipeline(HERE, given.oversubscribe) as pipeline:
        report = threads.measure(pipeline, given)
    report.tell(given.json)
    return report.code()


if __name__ == "__main__":
    sys.exit(guarded(main))
