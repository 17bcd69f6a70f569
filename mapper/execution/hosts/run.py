"""A host's side of a run over several: it meets the others, starts its parts, and works until all is delivered."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mapper import jsonio
from mapper.backends.threads import torch_threads
from mapper.errors import MapperError, UsageError
from mapper.execution.executor import TIMEOUT_S, Executor, Output
from mapper.execution.feeding.micro_batches import joined
from mapper.execution.feeding.seat import bound
from mapper.execution.hosts.agent import Agent, Front
from mapper.execution.hosts.journal import Journal, journal_at
from mapper.execution.hosts.launch import conclude
from mapper.execution.hosts.meeting import HostLost, Links, Meeting, Place, Present
from mapper.execution.hosts.parts import Cut, cut, part_plan
from mapper.execution.hosts.passage import Stopped, Threads
from mapper.execution.measured import MeasuredStream, Progress
from mapper.execution.measurement import MeasuredHost, Measurement, OutputsDiffer
from mapper.execution.reference import Reference
from mapper.execution.results_file import converted, results_file
from mapper.execution.run import GivenItems, computed_by, given_items, reference_of_items, require_counts
from mapper.execution.statistics import Statistics, WorkerStatistics, stage_statistics
from mapper.host.affinity import allowed_pus
from mapper.machine.discover import discover
from mapper.plans.hosts import hosts_used
from mapper.plans.model import Plan
from mapper.program.model import Program, TensorType
from mapper.sources.bundle import open_bundle
from mapper.sources.source import Source, source_of

FRONT_NUMBER = 0
"""The host that feeds and delivers, as the user numbers hosts."""
GRACE_S = 30.0
"""How much longer than for an executor's result is waited for a transfer: who hangs is named by his own host."""
_LAST_RESORT_S = 15.0
"""After a failure an agent has so long to end its workers and itself."""


@dataclass(frozen=True)
class Asked:
    """What a user asks of a run: as for `run`; `results` also names the journal, which is beside it."""

    items: int | None = None
    warmup: int | None = None
    inputs: Path | None = None
    results: Path | None = None
    compare: int | None = None
    seed: int = 0
    tolerance: float | None = None
    backend: str | None = None
    remap: bool = False
    oversubscribe: bool = False
    timeout_s: float | None = TIMEOUT_S
    logs: Path | None = None


def chosen_bundle(paths: Sequence[Path], hosts: int) -> Path:
    """The bundle among `paths` whose plan is for so many hosts.

    Raises: UsageError when there is none, or there are two; BadInput.
    """
    from mapper.plans.file import load_plan

    counts = {path: len(hosts_used(load_plan(path))) for path in paths}
    fitting = [path for path, count in counts.items() if count == hosts]
    if len(fitting) == 1:
        return fitting[0]
    what = ", ".join(f"{path}: {count}" for path, count in counts.items())
    if fitting:
        raise UsageError(f"two of the plans are for {hosts} hosts ({what})")
    raise UsageError(
        f"none of the plans is for {hosts} hosts, as many as there are ({what})",
        advice="Bring as many hosts as a plan has, or give a bundle with a plan for as many as there are.",
    )


def run_host(
    number: int, bundles: Sequence[Path], asked: Asked, place: Place, *,
    say: Callable[[str], None] = lambda message: None, progress: Progress = lambda done, total: None,
) -> Measurement | None:  # fmt: skip
    """Runs this host's part of the plan that is for as many hosts as have come; `number` is what the user calls this
    host, 0 the one that feeds and delivers. The k-th host by number is the k-th of the plan.

    Returns what was measured, at the front; None elsewhere. With `asked.results` there is a journal of what was
    delivered: a restart goes on from there.

    Raises: what `run` does; ExecutionFailed (HostLost) when a host is lost; EndedElsewhere with another host's reason.
    """
    require_counts(asked.items, asked.warmup, asked.compare)
    if asked.results is not None and asked.results.suffix != ".npz":
        raise UsageError("results go into an .npz file")
    bundle = open_bundle(chosen_bundle(bundles, place.world))
    plan = computed_by(bundle.plan, asked.backend)
    source = source_of(plan, bundle)
    job = _Job(cut(plan, source.program), source, asked, number, say, progress)
    threads = Threads(_last_resort)
    meeting = Meeting(place, threads)
    try:
        with ExitStack() as stack:
            return _met(job, meeting, stack)
    except (MapperError, Stopped) as error:
        reason = meeting.why(threads.error or error)
        meeting.fail(number, reason)
        raise reason from None


def ends_all(error: MapperError) -> bool:
    """Whether there is no use in starting again: all but a lost host or worker; and a front that is silent."""
    if isinstance(error, HostLost):
        return error.silent and error.host == FRONT_NUMBER
    return error.exit_code != 7


@dataclass(frozen=True)
class _Job:
    """What this host knows before it meets the others."""

    cut: Cut
    source: Source
    asked: Asked
    number: int
    say: Callable[[str], None]
    progress: Progress


def _met(job: _Job, meeting: Meeting, stack: ExitStack) -> Measurement | None:
    """The run, from the meeting of the hosts to their parting."""
    plan = job.cut.plan
    numbers = meeting.call_roll(
        Present(host=job.number, plan=jsonio.sha256(jsonio.plain(plan)), backend=plan.request.backend,
                torch=torch.__version__)
    )  # fmt: skip
    ranks = {host: numbers.index(number) for host, number in zip(job.cut.hosts, sorted(numbers), strict=True)}
    host = next(host for host, rank in ranks.items() if rank == meeting.place.rank)
    front = _FrontJob.prepared(job) if job.number == FRONT_NUMBER else None
    executors = dict(_executors(job, host, stack))
    stack.enter_context(torch_threads(1))  # no threads on workers' cores
    stack.enter_context(_beside(job, list(executors.values())))
    meeting.tell(f"ready/{meeting.place.rank}", True)
    for rank in range(meeting.place.world):
        meeting.hear(f"ready/{rank}", float("inf"))
    meeting.connect(None if job.asked.timeout_s is None else job.asked.timeout_s + GRACE_S)
    if front is not None:
        front.opened(stack)
        meeting.tell("work", {"calls": front.calls, "warmup": front.warmup_calls})
    work = meeting.hear("work", float("inf"))
    others = {other: rank for other, rank in ranks.items() if other != host}
    links = Links(others, meeting.hosts)
    agent = Agent(job.cut, host, executors, links, meeting.threads, int(work["calls"]), int(work["warmup"]))
    agent.start()
    measurement = None
    if front is not None:
        measurement = front.run(_Hosts(agent, meeting, others))
        meeting.end()
    else:
        agent.join()
        seen = [jsonio.plain(worker) for worker in agent.workers()]
        meeting.tell(f"statistics/{meeting.place.rank}", {
            "workers": seen, "sent_bytes": sum(links.sent_bytes.values()),
            "notes": [note for executor in executors.values() for note in executor.notes],
        })  # fmt: skip
        meeting.wait_for_end()
    meeting.leave()
    return measurement


def _executors(job: _Job, host: int, stack: ExitStack) -> Iterator[tuple[int, Executor]]:
    """The executors of the parts on `host`, running."""
    asked, here = job.asked, discover()
    for part in job.cut.parts_on(host):
        job.say(f"Starting the workers of part {part.number} ...")
        logs = None if asked.logs is None else asked.logs / f"part{part.number}"
        executor = Executor(
            part_plan(job.cut, part, host, here), Source(part.program, job.source.weights), machine=here,
            remap=asked.remap, oversubscribe=asked.oversubscribe, timeout_s=asked.timeout_s, waiting=0,
            logs=logs, say=job.say,
        )  # fmt: skip
        yield part.number, stack.enter_context(executor)


def _beside(job: _Job, executors: Iterable[Executor]) -> contextlib.AbstractContextManager[None]:
    """The agent's threads run on PUs that no worker has, where there are some."""
    used = {pu for executor in executors for worker in executor.statistics().workers for pu in worker.pus}
    spare = set(allowed_pus()) - used
    return contextlib.nullcontext() if job.asked.oversubscribe or not spare else bound(spare)


class _Hosts:
    """All hosts, as what a stream is measured through: at the front."""

    def __init__(self, agent: Agent, meeting: Meeting, others: dict[int, int]) -> None:
        self.agent, self.front, self._meeting, self._others = agent, Front(agent), meeting, others
        self.plan: Plan = agent.cut.plan
        self.notes: list[str] = [note for executor in agent.executors.values() for note in executor.notes]
        self.sent_bytes: dict[int, float] = {}

    def map(self, items: Iterable[Sequence[torch.Tensor]]) -> Iterator[Output]:
        """The outputs of items, in order."""
        calls = self.plan.request.micro_batches
        outputs = self.front.outputs(items)
        while parts := list(itertools.islice(outputs, calls)):
            whole = joined(parts) if calls > 1 else parts[0]
            yield whole if len(whole) > 1 else whole[0]

    def reset_statistics(self) -> None:
        """Forgets latencies; workers are reset by their agents, with the call that ends the warm-up."""
        self.front.latencies_s.clear()

    def statistics(self) -> Statistics:
        """What the workers of this host did; when all is delivered, those of all hosts."""
        workers = self.agent.workers()
        if self.front.done:
            self.sent_bytes[self.agent.host] = float(sum(self.agent.links.sent_bytes.values()))
            for host, rank in self._others.items():
                told = self._meeting.hear(f"statistics/{rank}")
                workers += [jsonio.validated(WorkerStatistics, seen, f"host {host}") for seen in told["workers"]]
                self.sent_bytes[host] = float(told["sent_bytes"])
                self.notes += [f"host {host}: {note}" for note in told["notes"]]
        workers.sort(key=lambda worker: (worker.stage, worker.replica))
        stages = range(len(self.plan.stages))
        return Statistics(
            stages=tuple(stage_statistics(s, [w for w in workers if w.stage == s]) for s in stages),
            workers=tuple(workers), latencies_s=tuple(self.front.latencies_s),
        )  # fmt: skip


@dataclass
class _FrontJob:
    """What the front has to do besides its parts: items, what their outputs must be, and where these go."""

    job: _Job
    given: GivenItems
    reference: Reference
    total: int
    warmup: int
    journal: Journal | None = None
    first: int = 0

    @classmethod
    def prepared(cls, job: _Job) -> _FrontJob:
        """With the reference computed."""
        asked, plan = job.asked, job.cut.plan
        given = given_items(plan, job.source, asked.inputs, asked.seed)
        job.say("Computing the reference ...")
        compared = list(itertools.islice(given.items, asked.compare or given.compared))
        reference = reference_of_items(plan, job.source, compared, asked.tolerance)
        total, warmup = given.counts(asked.items, asked.warmup)
        return cls(job, given, reference, total, warmup)

    @property
    def warmup_calls(self) -> int:
        """Calls of the warm-up."""
        return self.warmup * self.job.cut.plan.request.micro_batches

    @property
    def calls(self) -> int:
        """All calls of this start: of the warm-up, and of what is not delivered yet."""
        return (self.warmup + self.total - self.first) * self.job.cut.plan.request.micro_batches

    def opened(self, stack: ExitStack) -> None:
        """Opens the journal. Where all is delivered already, the last item is run once more, and not delivered."""
        results, plan, program = self.job.asked.results, self.job.cut.plan, self.job.source.program
        if results is None:
            return
        path = results.with_name(results.name + ".journal")
        self.journal = stack.enter_context(journal_at(path, self._identity(), item_types(plan, program)))
        self.first = min(self.journal.delivered, self.total - 1)

    def _identity(self) -> dict[str, Any]:
        """What two starts must have in common to be of one run."""
        asked, plan = self.job.asked, self.job.cut.plan
        file: dict[str, Any] = {"seed": asked.seed}
        if asked.inputs is not None:
            seen = asked.inputs.stat()
            file = {"name": asked.inputs.name, "bytes": seen.st_size, "mtime_ns": seen.st_mtime_ns}
        return {"graph": plan.model.graph_sha256, "weights": plan.model.weights, "backend": plan.request.backend,
                "micro_batches": plan.request.micro_batches, "items": self.total, "from": file}  # fmt: skip

    def run(self, hosts: _Hosts) -> Measurement:
        """Streams what is not delivered yet, and writes the results. Raises: OutputsDiffer."""
        stream = MeasuredStream(
            hosts, self.given.items, self.reference, self.job.asked.tolerance, endless=False, first=self.first
        )
        if self.journal is not None:
            for number, found in enumerate(itertools.islice(self.journal.outputs(), self.first)):
                stream.compare(number, tuple(found))
        stream.run(self.warmup, self.total - self.first, self.job.progress, self._deliver)
        measurement = self._measurement(stream, hosts)
        if stream.wrong is not None:
            if self.journal is not None:
                self.journal.remove()
            raise OutputsDiffer(stream.wrong, measurement)
        self._write()
        return measurement

    def _deliver(self, outputs: Sequence[torch.Tensor]) -> None:
        if self.journal is not None and self.journal.delivered < self.total:
            self.journal.deliver(outputs)

    def _measurement(self, stream: MeasuredStream, hosts: _Hosts) -> Measurement:
        asked, plan = self.job.asked, self.job.cut.plan
        notes = [*self.given.notes, *(converted(self.job.source.program) if asked.results is not None else [])]
        if self.first:
            notes.append(f"{self.first} of {self.total} items were delivered before a restart: rate and latencies are "
                         "of the others")  # fmt: skip
        items = self.warmup + self.total - self.first
        sent = tuple(
            MeasuredHost(host=host, sent_bytes=hosts.sent_bytes[host] / items) for host in sorted(hosts.sent_bytes)
        )
        measured = stream.measurement(plan, asked.remap, asked.oversubscribe, notes)
        return measured.model_copy(update={"hosts": sent})

    def _write(self) -> None:
        """Makes the results of what was delivered, and gives the journal up."""
        results, job = self.job.asked.results, self.job
        if results is None or self.journal is None:
            return
        with results_file(results, job.cut.plan, job.source.program, self.total, self.given.rows) as put:
            for outputs in self.journal.outputs():
                put(outputs)
        self.journal.remove()


def item_types(plan: Plan, program: Program) -> list[TensorType]:
    """The types of the outputs of an item of `plan`, of all its micro-batches, row by row."""
    found = []
    for reference in program.outputs:
        kind, calls = program.type_of(reference), plan.request.micro_batches
        shape = kind.shape if calls == 1 else (kind.shape[0] * calls, *kind.shape[1:])
        strides = [1]
        for n in reversed(shape[1:]):
            strides.append(strides[-1] * max(n, 1))
        found.append(TensorType(shape=shape, strides=tuple(reversed(strides[: len(shape)])), dtype=kind.dtype))
    return found


def _last_resort(error: Exception) -> None:
    """Ends this process if it has not ended by itself after a failure: the kernel then ends its workers."""
    timer = threading.Timer(_LAST_RESORT_S, partial(_exit, error))
    timer.daemon = True
    timer.start()


def _exit(error: Exception) -> None:
    print(f"mapper: {error}", file=sys.stderr, flush=True)
    code = error.exit_code if isinstance(error, MapperError) else 1
    os._exit(0 if isinstance(error, MapperError) and ends_all(error) and conclude(code) else code)
