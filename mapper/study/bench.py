"""`mapper bench`: the planned mapping against what people do without a planner, on this machine, same back end.

All alternatives are started first and stay up; then rounds are interleaved (A B C, B C A, ...), so that a machine that
drifts drifts for all of them. Each round fills the pipeline, times items with more behind them, and drains it.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import torch

from mapper.backends.registry import EAGER, backend_called
from mapper.cost.configurations import configurations
from mapper.errors import Infeasible, PromiseBroken, UsageError
from mapper.execution.backend import allowed, bits_equal, with_backend
from mapper.execution.executor import Executor, Output
from mapper.execution.place import Claim
from mapper.execution.reference import difference_of, reference_of, torch_threads
from mapper.execution.run import drawn_items
from mapper.execution.source import Item, realised_source
from mapper.graph.model import Graph
from mapper.host.load import busy_between, snapshot
from mapper.jsonio import Record
from mapper.machine.model import Machine
from mapper.plans.model import ModelRef, Plan
from mapper.solver.plan import plan
from mapper.solver.problem import Limits
from mapper.study.statistics import Interval, median_interval

Progress = Callable[[str], None]
DISTINCT_ITEMS = 2
WARM_ROUNDS = 2
CONFIDENCE = 0.95
"""Of the intervals that a verdict rests on; with fewer than six rounds there is none."""
BUSY = 0.05
"""Share of the cores that others may take before the verdict says so."""


class Spread(Record):
    """Of the rounds: the median, the least and the largest."""

    median: float
    low: float
    high: float


class Ratio(Record):
    """Chosen over other, round by round: median and confidence interval; above 1 the chosen plan is faster."""

    median: float
    low: float
    high: float
    confidence: float


class BenchRow(Record):
    """One alternative. Rates are items a second, latency the median seconds from putting an item in to its output."""

    name: str
    backend: str
    stages: int
    workers: int
    throughput_per_s: Spread
    predicted_throughput_per_s: float
    latency_s: float
    chosen_over_this: Ratio | None
    outputs_identical: bool


class Bench(Record):
    """What a comparison gave. `to_best` is the chosen plan against the best of the others, 1 if they are one plan."""

    model: str
    batch: int
    machine: str
    chosen: str
    rounds: int
    items_per_round: dict[str, int]
    alternatives: tuple[BenchRow, ...]
    to_best: Ratio
    others_busy: float
    torch: str
    verdict: str


@dataclass
class _Runner:
    """One alternative at work."""

    names: list[str]
    plan: Plan
    executor: Executor
    rates: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    items: int = 0
    identical: bool = True

    @property
    def name(self) -> str:
        return " = ".join(self.names)


def bench(
    graph: Graph, machine: Machine, model: ModelRef, *, batch: int = 1, rounds: int = 15, seconds: float = 1.5,
    backend: str = EAGER, progress: Progress = lambda message: None,
) -> Bench:  # fmt: skip
    """Measures the best plan for `graph` on `machine`, this machine, against native, streams and a forced 2-stage
    pipeline: `rounds` interleaved rounds of about `seconds` each, all with the same `backend`.

    Raises: PromiseBroken when an alternative's outputs are not the model's; what `plan` and `Executor` raise.
    """
    if rounds < 1:
        raise UsageError("a comparison needs at least one round")
    backend_called(backend).require(compiling=False)
    plans = [(names, with_backend(p, backend)) for names, p in contenders(graph, machine, model, batch)]
    source = realised_source(plans[0][1])
    items = drawn_items(plans[0][1], source, DISTINCT_ITEMS)
    references = [reference_of(p, source, items).outputs for _, p in plans]
    with torch_threads(1), ExitStack() as stack:  # feeding must not start threads on the workers' cores
        stack.enter_context(Claim([pu for core in machine.cores for pu in core.pus]))
        runners = []
        for (titles, p), reference in zip(plans, references, strict=True):
            progress(f"Starting {' = '.join(titles)} ...")
            executor = stack.enter_context(Executor(p, source, machine=machine, claim=False, say=progress))
            runners.append(_Runner(titles, p, executor))
            _prepare(runners[-1], items, reference, seconds)
        source.weights, source.module = {}, None
        busy = _rounds(runners, items, rounds, progress)
    return _result(runners, machine, rounds, busy, batch)


def contenders(graph: Graph, machine: Machine, model: ModelRef, batch: int) -> list[tuple[list[str], Plan]]:
    """The chosen plan first, then native, streams and two stages, each with its names; equal mappings only once."""
    known = configurations(machine)
    one, whole = known[0], known[-1]
    best = plan(graph, machine, model=model, batch=batch)
    wanted = [
        ("native", Limits(stages=1, max_replicas=1, configurations=(whole,))),
        ("streams", Limits(stages=1, configurations=(one,))),
        ("two stages", Limits(stages=2)),
    ]
    found: list[tuple[list[str], Plan]] = [(["chosen"], best)]
    for name, limits in wanted:
        try:
            other = plan(graph, machine, limits=limits, model=model, batch=batch)
        except (Infeasible, UsageError):
            continue
        same = next((names for names, p in found if p.stages == other.stages), None)
        if same is None:
            found.append(([name], other))
        else:
            same.append(name)
    return found


def _prepare(
    runner: _Runner, items: Sequence[Item], reference: Sequence[Sequence[torch.Tensor]], seconds: float
) -> None:
    """Checks the outputs, finds how many items make a round, and warms up."""
    window = runner.plan.predicted.window
    count = window + len(items)
    for number, output in enumerate(runner.executor.map(itertools.islice(itertools.cycle(items), count))):
        _check(runner, output, reference[number % len(items)])
    runner.items = max(4, 2 * window)
    runner.items = max(runner.items, math.ceil(seconds * _round(runner, items)))
    runner.items += -runner.items % max(len(stage.replicas) for stage in runner.plan.stages)


def _check(runner: _Runner, output: Output, wanted: Sequence[torch.Tensor]) -> None:
    """Notes whether an output is the unsplit model's bit by bit; for back ends other than eager it may be off by what
    they state."""
    found = output if isinstance(output, tuple) else (output,)
    for tensor, reference in zip(found, wanted, strict=True):
        difference = difference_of(tensor, reference)
        runner.identical &= difference.identical
        limit = -1.0 if bits_equal(runner.plan) else allowed(runner.plan, reference, None)
        if not difference.identical and difference.relative > limit:
            raise PromiseBroken(
                f"{runner.name}: an output differs from the unsplit model's by {difference.largest:g} "
                f"({difference.relative:.1e} relative)"
            )


def _round(runner: _Runner, items: Sequence[Item]) -> float:
    """Items a second of one round: timed from when the pipeline is full, while there is more behind."""
    window, count = runner.plan.predicted.window, runner.items
    runner.executor.reset_statistics()
    outputs = runner.executor.map(itertools.islice(itertools.cycle(items), window + count + window))
    _skip(outputs, window)
    began = time.monotonic()
    _skip(outputs, count)
    took = time.monotonic() - began
    latencies = runner.executor.statistics().latencies_s
    runner.latencies.append(sorted(latencies)[len(latencies) // 2])
    for _ in outputs:
        pass
    return count / took


def _skip(outputs: Iterator[Output], count: int) -> None:
    for _ in itertools.islice(outputs, count):
        pass


def _rounds(runners: list[_Runner], items: Sequence[Item], rounds: int, progress: Progress) -> float:
    """Interleaved rounds, the order turned by one each time. Returns the share of the cores that others took."""
    pids = [w.pid for r in runners for w in r.executor.statistics().workers] + [os.getpid()]
    before, own = snapshot(), _cpu_s(pids)
    for number in range(WARM_ROUNDS + rounds):
        if number == WARM_ROUNDS:
            before, own = snapshot(), _cpu_s(pids)
            for runner in runners:
                runner.latencies.clear()
        turn = number % len(runners)
        progress(f"Round {max(0, number - WARM_ROUNDS + 1)} of {rounds}")
        for runner in runners[turn:] + runners[:turn]:
            rate = _round(runner, items)
            if number >= WARM_ROUNDS:
                runner.rates.append(rate)
    return busy_between(before, snapshot(), sorted(before), _cpu_s(pids) - own)


def _cpu_s(pids: Sequence[int]) -> float:
    """CPU seconds that the processes have used so far."""
    tick = os.sysconf("SC_CLK_TCK")
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / tick


def _result(runners: list[_Runner], machine: Machine, rounds: int, busy: float, batch: int) -> Bench:
    chosen, others = runners[0], runners[1:]
    ratios = {id(r): median_interval([a / b for a, b in zip(chosen.rates, r.rates, strict=True)]) for r in others}
    rows = tuple(_row(runner, ratios.get(id(runner))) for runner in runners)
    best = max(runners, key=lambda r: median_interval(r.rates).median) if others else chosen
    rival = min(others, key=lambda r: ratios[id(r)].median, default=None)
    same = len(chosen.names) > 1 and best is chosen
    to_best = Interval(1.0, 1.0, 1.0, 1.0) if rival is None or same else ratios[id(rival)]
    return Bench(
        model=chosen.plan.model.name, batch=batch, machine=machine.title or machine.name, chosen=chosen.name,
        rounds=rounds, items_per_round={r.name: r.items for r in runners}, alternatives=rows, to_best=_ratio(to_best),
        others_busy=busy, torch=torch.__version__, verdict=_verdict(chosen, rival, ratios, busy),
    )  # fmt: skip


def _row(runner: _Runner, ratio: Interval | None) -> BenchRow:
    spread = Spread(median=median_interval(runner.rates).median, low=min(runner.rates), high=max(runner.rates))
    return BenchRow(
        name=runner.name, backend=runner.plan.request.backend, stages=len(runner.plan.stages),
        workers=sum(len(stage.replicas) for stage in runner.plan.stages), throughput_per_s=spread,
        predicted_throughput_per_s=runner.plan.predicted.throughput_per_s,
        latency_s=median_interval(runner.latencies).median, chosen_over_this=_ratio(ratio) if ratio else None,
        outputs_identical=runner.identical,
    )  # fmt: skip


def _ratio(interval: Interval) -> Ratio:
    return Ratio(median=interval.median, low=interval.low, high=interval.high, confidence=interval.level)


def _verdict(chosen: _Runner, rival: _Runner | None, ratios: dict[int, Interval], busy: float) -> str:
    """In words, what the intervals allow to be said."""
    if rival is None:
        text = f"every alternative is the chosen plan ({chosen.name})"
    else:
        r = ratios[id(rival)]
        share = f"{r.median:.3f} ({r.low:.3f} to {r.high:.3f}) times {rival.name}"
        if r.level < CONFIDENCE:
            text = f"too few rounds to tell: the chosen plan is {share}"
        elif r.low > 1:
            text = f"the chosen plan is faster than every alternative: {share}, its nearest rival"
        elif r.high < 1:
            text = f"the chosen plan is slower than {rival.name}: {share}"
        else:
            text = f"no difference beyond the noise between the chosen plan and {rival.name}: {share}"
    if len(chosen.names) > 1:
        text += f"; the chosen plan is {' and '.join(chosen.names[1:])}"
    if busy > BUSY:
        text += f". Others took {busy:.0%} of the cores meanwhile: do not rely on this"
    return text
