"""How set-ups outside mapper's executor compute: a library's own pools and queues in one process, as it is meant.

An engine takes the numbers of items from an iterator, as fast as it can have them in flight, and tells when each is
done. Items lie in this process, nothing is sent or copied out: what these set-ups cost in real use beside computing,
such as handing items in from another process, is not charged to them.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import torch

from mapper.backends.core import core_of
from mapper.backends.registry import BFLOAT16, backend_called
from mapper.program.model import Program

Tensors = Mapping[str, torch.Tensor]
Outputs = tuple[torch.Tensor, ...]
Done = Callable[[int], None]
SERIAL, SESSION, SHARED, THROUGHPUT = "serial", "session", "shared", "throughput"
"""One call after the other with a back end of mapper's; ONNX Runtime as it is by default; one session of it with one
thread a call, shared by a thread for each core; OpenVINO's throughput mode."""


class Engine(Protocol):
    """Computes items; `width` of them are in flight, with `threads` threads in all, as far as that is known."""

    width: int
    threads: int

    def run(self, numbers: Iterator[int], done: Done) -> None:
        """Computes the items that `numbers` names, taking the next one whenever there is room for it."""

    def outputs(self, number: int) -> Outputs:
        """The outputs of one item, computed in the same way."""


def engine(kind: str, backend: str, program: Program, weights: Tensors, items: Sequence[Outputs], threads: int,
           artefact: Path | None) -> Engine:  # fmt: skip
    """The engine called `kind`. `threads` are those of its cores; 0 leaves them to the library."""
    if kind == SERIAL:
        loaded = backend_called(backend).load(program, weights, threads, artefact)
        return Calls(lambda n: loaded.compute(*items[n % len(items)]), 1, loaded.threads)
    torch.set_num_threads(1)
    assert artefact is not None, "ONNX Runtime and OpenVINO load what was compiled"
    if kind == THROUGHPUT:
        return _Queue(program, weights, items, artefact, backend_called(backend).precision == BFLOAT16)
    return _onnxruntime(kind == SHARED, program, weights, items, threads, artefact)


class Calls:
    """Calls from `width` threads, each with the next item: for libraries that let others run meanwhile."""

    def __init__(self, call: Callable[[int], Any], width: int, threads: int) -> None:
        self.call, self.width, self.threads = call, width, threads

    def run(self, numbers: Iterator[int], done: Done) -> None:
        """See `Engine`."""
        if self.width == 1:
            self._work(numbers, done, threading.Lock())
            return
        lock = threading.Lock()
        with ThreadPoolExecutor(self.width) as pool:
            for working in [pool.submit(self._work, numbers, done, lock) for _ in range(self.width)]:
                working.result()

    def _work(self, numbers: Iterator[int], done: Done, lock: threading.Lock) -> None:
        with torch.inference_mode():
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                self.call(number)
                done(number)

    def outputs(self, number: int) -> Outputs:
        """See `Engine`."""
        with torch.inference_mode():
            return tuple(tensor.clone() for tensor in self.call(number))


class _Joined(Calls):
    """Calls whose results are those of a stage's core: joined to the stage's outputs only where these are asked for."""

    def __init__(
        self, call: Callable[[int], Any], width: int, threads: int, join: Callable[[int, Any], Outputs]
    ) -> None:
        super().__init__(call, width, threads)
        self.join = join

    def outputs(self, number: int) -> Outputs:
        """See `Engine`."""
        return self.join(number, self.call(number))


def _joiner(program: Program, weights: Tensors, items: Sequence[Outputs]) -> Callable[[int, Any], Outputs]:
    """Makes the outputs of the whole program of those of its core, which are arrays."""
    core = core_of(program)

    def join(number: int, arrays: Any) -> Outputs:
        found = [torch.from_numpy(array.copy()) for array in arrays]
        return tuple(core.compute(weights, lambda _: found)(*items[number % len(items)]))

    return join


def _onnxruntime(
    shared: bool, program: Program, weights: Tensors, items: Sequence[Outputs], threads: int, artefact: Path
) -> Engine:
    """ONNX Runtime: with options as they are (`threads` 0), or one thread a call from as many threads as cores."""
    import onnxruntime as ort

    from mapper.backends.onnxruntime import MODEL

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1 if shared else threads
    session = ort.InferenceSession(str(artefact / MODEL), options, providers=["CPUExecutionProvider"])
    names, core = [given.name for given in session.get_inputs()], core_of(program)
    feeds = [{name: item[i].contiguous().numpy() for name, i in zip(names, core.inputs, strict=True)} for item in items]

    def call(number: int) -> Any:
        return session.run(None, feeds[number % len(feeds)])

    return _Joined(call, threads if shared else 1, threads, _joiner(program, weights, items))


class _Queue:
    """OpenVINO's throughput mode: as many streams, threads and requests in flight as the library chooses."""

    def __init__(
        self, program: Program, weights: Tensors, items: Sequence[Outputs], artefact: Path, bfloat16: bool
    ) -> None:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # see backends/openvino.py
        import openvino as ov

        from mapper.backends.openvino import MODEL

        wanted = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32"}
        compiled = ov.Core().compile_model(artefact / MODEL, "CPU", wanted)
        self.queue = ov.AsyncInferQueue(compiled)
        self.width, self.threads = len(self.queue), int(compiled.get_property("INFERENCE_NUM_THREADS"))
        core = core_of(program)
        self.feeds = [{i: item[j].contiguous().numpy() for i, j in enumerate(core.inputs)} for item in items]
        self.join = _joiner(program, weights, items)

    def run(self, numbers: Iterator[int], done: Done) -> None:
        """See `Engine`."""
        self.queue.set_callback(lambda request, number: done(number))
        while True:
            self.queue.get_idle_request_id()  # waits for one
            number = next(numbers, None)
            if number is None:
                break
            self.queue.start_async(self.feeds[number % len(self.feeds)], userdata=number, share_inputs=True)
        self.queue.wait_all()

    def outputs(self, number: int) -> Outputs:
        """See `Engine`."""
        found: list[Any] = []

        def keep(request: Any, _: Any) -> None:
            found.append([tensor.data.copy() for tensor in request.output_tensors])

        self.queue.set_callback(keep)
        self.queue.start_async(self.feeds[number % len(self.feeds)], share_inputs=True)
        self.queue.wait_all()
        return self.join(number, found[0])
