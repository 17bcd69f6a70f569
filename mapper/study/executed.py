"""Plans as contenders: each at work in an executor, all started before any is measured."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass

import torch

from mapper.backends.registry import backend_called
from mapper.backends.threads import torch_threads
from mapper.errors import PromiseBroken
from mapper.execution.executor import Executor, Output
from mapper.execution.place import Claim
from mapper.execution.reference import Reference, limits_of
from mapper.execution.run import reference_of_items, whole_items
from mapper.machine.model import Machine
from mapper.plans.model import Plan
from mapper.sources.backend import bits_equal
from mapper.sources.difference import difference_of
from mapper.sources.source import Source, realised_source
from mapper.study.rounds import Say, Series, Timed, interleaved, watched

DISTINCT_ITEMS = 2
"""Different items that rounds are made of: more than one, so that nothing can be kept from item to item."""
Items = Sequence[Sequence[torch.Tensor]]


@dataclass
class ExecutedPlan:
    """A plan at work. `identical`: every output checked so far was the unsplit model's, bit by bit. `unit`: what an
    item counts for in rounds and rates: 1, or its elements where plans have items of different sizes."""

    names: Sequence[str]
    plan: Plan
    executor: Executor
    items: Items
    identical: bool = True
    unit: int = 1

    @property
    def name(self) -> str:
        """Its names: set-ups that are one plan are one contender."""
        return " = ".join(self.names)

    @property
    def pids(self) -> Sequence[int]:
        """Its workers."""
        return [worker.pid for worker in self.executor.statistics().workers]

    @property
    def window(self) -> int:
        """Items in flight."""
        return -(-self.plan.predicted.window // self.plan.request.micro_batches)

    def sized(self, count: int) -> int:
        """At least two windows, and as many items for each replica of a stage."""
        items = max(-(-count // self.unit), 4, 2 * self.window)
        return self.unit * (items + -items % max(len(stage.replicas) for stage in self.plan.stages))

    def closed(self, count: int) -> Timed:
        """Timed from when the pipeline is full, while there is more behind."""
        window, items = self.window, count // self.unit
        with self.executor.beside():
            outputs = self.executor.map(self._endless(window + items + window))
            _skip(outputs, window)
            self.executor.reset_statistics()
            began = time.monotonic()
            _skip(outputs, items)
            took = time.monotonic() - began
            latencies = self.executor.statistics().latencies_s
            for _ in outputs:
                pass
        return Timed(items * self.unit / took, tuple(latencies))

    def open(self, due_s: Sequence[float]) -> Timed:
        """Items handed in when they are due, or as soon after as there is room."""
        items, done = self._endless(len(due_s)), [0.0] * len(due_s)
        left = threading.Semaphore(0)

        def note(number: int, future: Future[Output]) -> None:
            done[number] = time.monotonic()
            left.release()

        began, futures = time.monotonic(), []
        for number, due in enumerate(due_s):
            time.sleep(max(0.0, began + due - time.monotonic()))
            future = self.executor.submit(next(items))
            future.add_done_callback(lambda f, number=number: note(number, f))  # type: ignore[misc]
            futures.append(future)
        for future in futures:
            future.result()
        for _ in futures:
            left.acquire()
        return from_schedule([at - began for at in done], due_s)

    def check(self, reference: Reference) -> None:
        """Compares an output of each item with what it has to be. Raises: PromiseBroken."""
        count = self.window + len(self.items)
        for number, output in enumerate(self.executor.map(self._endless(count))):
            found = output if isinstance(output, tuple) else (output,)
            self.identical &= same(self.name, self.plan, found, reference, number % len(self.items))

    def _endless(self, count: int) -> Iterator[Sequence[torch.Tensor]]:
        return itertools.islice(itertools.cycle(self.items), count)


def from_schedule(done_s: Sequence[float], due_s: Sequence[float]) -> Timed:
    """What an open-loop round gave: items done at `done_s` that were due at `due_s`, seconds from its start. Waiting
    for a set-up that is behind counts: latencies begin when an item was due, not when it could be handed in."""
    latencies = tuple(done - due for done, due in zip(done_s, due_s, strict=True))
    return Timed(len(done_s) / max(done_s), latencies)


def same(name: str, plan: Plan, found: Sequence[torch.Tensor], reference: Reference, number: int) -> bool:
    """Whether the outputs `found` are those of item `number` bit by bit. With back ends other than eager they may be
    off by what these state. Raises: PromiseBroken for more."""
    identical = True
    limits = limits_of(plan, reference)
    for tensor, wanted, limit in zip(found, reference.outputs[number], limits, strict=True):
        difference = difference_of(tensor, wanted)
        identical &= difference.identical
        if not difference.identical and (bits_equal(plan) or difference.relative > limit):
            raise PromiseBroken(
                f"{name}: an output differs from the unsplit model's by {difference.largest:g} "
                f"({difference.relative:.1e} relative)"
            )
    return identical


def measured_plans(
    plans: Sequence[tuple[Sequence[str], Plan]], machine: Machine, *, rounds: int = 15, seconds: float = 1.5,
    source: Source | None = None, say: Say = lambda message: None,
) -> list[Series]:  # fmt: skip
    """Measures `plans` of one model, each with its names and with the back end that it states, against each other on
    `machine`, this machine (`rounds.interleaved`). One series a plan, in their order.

    `source` is the model, built again from the first plan if absent. Raises: PromiseBroken when a plan's outputs are
    not the model's; what `Executor` raises.
    """
    source = source or realised_source(plans[0][1])
    pus = [pu for core in machine.cores for pu in core.pus]
    references = references_of([plan for _, plan in plans], source)
    with torch_threads(1), ExitStack() as stack:  # feeding must not start threads on the workers' cores
        stack.enter_context(Claim(pus))
        contenders = []
        for (names, plan), (items, outputs) in zip(plans, references, strict=True):
            contender = started(stack, names, plan, source, machine, items, say)
            contender.check(outputs)
            contenders.append(contender)
        return interleaved(contenders, rounds, seconds, watched(pus), say)


def references_of(plans: Sequence[Plan], source: Source) -> list[tuple[Items, Reference]]:
    """For each plan the items that it is measured with, the same for all whose items are of as many calls, and what
    their outputs have to be."""
    items = {plan.request.micro_batches: whole_items(plan, source, DISTINCT_ITEMS) for plan in plans}
    given = [items[plan.request.micro_batches] for plan in plans]
    return [(own, reference_of_items(plan, source, own)) for plan, own in zip(plans, given, strict=True)]


def started(
    stack: ExitStack, names: Sequence[str], plan: Plan, source: Source, machine: Machine, items: Items, say: Say
) -> ExecutedPlan:
    """`plan` at work until `stack` is left. The caller has claimed the PUs."""
    backend_called(plan.request.backend).require(compiling=False)
    say(f"Starting {' = '.join(names)} ...")
    executor = stack.enter_context(Executor(plan, source, machine=machine, claim=False, say=say))
    return ExecutedPlan(names, plan, executor, items)


def _skip(outputs: Iterator[Output], count: int) -> None:
    for _ in itertools.islice(outputs, count):
        pass
