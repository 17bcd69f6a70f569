"""Runs the pipeline in this folder with OpenVINO: python run.py [--items N] [--warmup N] [--json]
[--oversubscribe].

In a program of one's own:

    from run import Pipeline
    with Pipeline(folder) as pipeline:
        for outputs in pipeline.map(items): ...

Needs numpy and openvino.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pipeline as threads
from command import MISSING, Description, Stage, Worker, asked, guarded, pus_of, read, threads_here
from pipeline import Array, Compute

HERE = Path(__file__).resolve().parent
LINE_BYTES = 64
GO, DONE, ENDED = b"g", b"d", b""


class Pipeline(threads.Pipeline):
    """The pipeline in a folder, its stages computed by OpenVINO, each worker's in a process of its own.

    All models of a process share the threads of one pool (oneTBB's), whoever started them: in one process, a thread
    that was started on the PUs of one worker would compute for another.
    """

    one_by_one = False

    def __init__(self, folder: str | Path, oversubscribe: bool = False) -> None:
        self._ends = contextlib.ExitStack()
        super().__init__(folder, oversubscribe)

    def load(self, stage: Stage, worker: Worker) -> tuple[Compute, Mapping[str, Any]]:
        """The stage in a process that inherits the PUs of the calling thread."""
        apart = Apart(self.description, stage, worker)
        self._ends.callback(apart.close)
        return apart.compute, apart.told

    def close(self) -> None:
        """Ends the workers and their processes."""
        super().close()
        self._ends.close()


class Apart:
    """A stage in a process of its own: arrays go there and come back in memory that both share, a byte over a pipe says
    when. `told` is what the process has: threads and PUs."""

    def __init__(self, description: Description, stage: Stage, worker: Worker) -> None:
        memory = os.memfd_create("stage")
        try:
            os.ftruncate(memory, _bytes(description, stage))
            words = [sys.executable, str(HERE / "run.py"), "--worker", str(description.folder.resolve()),
                     str(stage.id), str(worker.replica), str(memory)]  # fmt: skip
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(memory,),
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for the parent; this one ends with it
            )
            self._inputs, self._outputs = _shared(description, stage, memory)
        finally:
            os.close(memory)
        self._name = f"stage {stage.id} replica {worker.replica}"
        self.told: dict[str, Any] = json.loads(self._line())

    def compute(self, given: Sequence[Array]) -> Sequence[Array]:
        """The outputs of the stage. Raises: RuntimeError when the process has ended."""
        for target, array in zip(self._inputs, given, strict=True):
            np.copyto(target, array)
        pipe_in, pipe_out = self._process.stdin, self._process.stdout
        assert pipe_in is not None and pipe_out is not None, "asked for above"
        with contextlib.suppress(BrokenPipeError):
            pipe_in.write(GO)
        if pipe_out.read(1) != DONE:
            raise self._gone()
        return [output.copy() for output in self._outputs]

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None and self._process.stdout is not None, "asked for above"
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _line(self) -> bytes:
        assert self._process.stdout is not None, "asked for above"
        return b"".join(iter(self._read, b"\n"))

    def _read(self) -> bytes:
        assert self._process.stdout is not None, "asked for above"
        byte = self._process.stdout.read(1)
        if byte == ENDED:
            raise self._gone()
        return byte

    def _gone(self) -> RuntimeError:
        return RuntimeError(f"the process of {self._name} has ended: exit code {self._process.wait()}")


def _spread(description: Description, numbers: Sequence[int], start: int) -> Iterator[tuple[int, int]]:
    """Of each of the tensors `numbers`, one after the other from `start` on: its number and where it begins."""
    for number in numbers:
        yield number, start
        start += -(-_size(description, number) // LINE_BYTES) * LINE_BYTES


def _size(description: Description, number: int) -> int:
    kind = description.tensors[number]
    return int(np.prod(kind.shape, dtype=np.int64)) * np.dtype(kind.dtype).itemsize


def _bytes(description: Description, stage: Stage) -> int:
    """How many bytes the tensors at the borders of `stage` take."""
    numbers = [*stage.inputs, *stage.outputs]
    return max(LINE_BYTES, *(start + _size(description, n) for n, start in _spread(description, numbers, 0)))


def _shared(description: Description, stage: Stage, memory: int) -> tuple[list[Array], list[Array]]:
    """The inputs and outputs of `stage` in the file `memory`."""
    view = mmap.mmap(memory, _bytes(description, stage))
    numbers = [*stage.inputs, *stage.outputs]
    arrays: list[Array] = [
        np.ndarray(description.tensors[n].shape, np.dtype(description.tensors[n].dtype), view, start)
        for n, start in _spread(description, numbers, 0)
    ]
    return arrays[: len(stage.inputs)], arrays[len(stage.inputs) :]


def work(folder: str, stage: str, replica: str, memory: str) -> int:
    """The process of a worker: computes its stage whenever it is told, until nobody is there to tell it."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it would write to HOME and send
    import openvino as ov

    description = read(Path(folder))
    own = description.stages[int(stage)]
    worker = own.workers[int(replica)]
    bits = "bf16" if description.backend == "openvino:bfloat16" else "f32"
    settings = {
        "INFERENCE_NUM_THREADS": worker.threads, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False,
        "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": bits, "CPU_DENORMALS_OPTIMIZATION": False,
    }  # fmt: skip
    compiled = ov.Core().compile_model(description.folder / own.file, "CPU", settings)
    request = compiled.create_infer_request()
    inputs, outputs = _shared(description, own, int(memory))
    for i, array in enumerate(inputs):
        request.set_input_tensor(i, ov.Tensor(array, shared_memory=True))
    for i, array in enumerate(outputs):
        request.set_output_tensor(i, ov.Tensor(array, shared_memory=True))
    with contextlib.suppress(Exception):  # zeros may not suit the model; a real failure shows with the first item
        request.infer()
    said = {"threads": int(compiled.get_property("INFERENCE_NUM_THREADS")), **pus_of(threads_here())}
    os.write(1, json.dumps(said).encode() + b"\n")
    while os.read(0, 1) == GO:
        request.infer()
        os.write(1, DONE)
    return 0


def main() -> int:
    """Runs the sample item; the exit code."""
    if sys.argv[1:2] == ["--worker"]:
        return work(*sys.argv[2:])
    given = asked(sys.argv[1:], read(HERE).window)
    if find_spec("openvino") is None:
        print("openvino is not installed: python -m pip install openvino", file=sys.stderr)
        return MISSING
    with Pipeline(HERE, given.oversubscribe) as pipeline:
        report = threads.measure(pipeline, given)
    report.tell(given.json)
    return report.code()


if __name__ == "__main__":
    sys.exit(guarded(main))
