"""`mapper simulate`: a plan over a stream of items on the machine that it was made for, which need not be at hand."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mapper.errors import UsageError
from mapper.plans.latency import percentiles
from mapper.plans.model import Plan
from mapper.plans.timeline import Doing
from mapper.simulator.arrivals import poisson, repeated
from mapper.simulator.engine import Simulation, Tally, Watch
from mapper.simulator.result import LinkUse, Simulated, SimulatedStage, Utilisation, Wait
from mapper.simulator.stations import CHIP, OUTSIDE, System, host_resources, system_of

LEAST_ITEMS = 200
MOST_IN_STEP = 4096
"""Items that are measured, where nobody says how many; and up to how many more make whole rounds of all replicas."""
_BUSY = (Doing.READING, Doing.COMPUTING, Doing.WRITING)


@dataclass(frozen=True)
class Arrivals:
    """When items come: in a closed loop where nothing is said, at random with so many a second in the mean, or as a
    trace says (seconds, ascending; repeated where it is too short)."""

    rate_per_s: float | None = None
    trace_s: tuple[float, ...] = ()

    def due(self, items: int, seed: int) -> list[float] | None:
        """When each item is due; None in a closed loop. Raises: UsageError."""
        if self.rate_per_s is not None:
            if not 0 < self.rate_per_s < math.inf:
                raise UsageError(f"{self.rate_per_s} items a second: a positive number was expected")
            return poisson(self.rate_per_s, items, seed)
        if self.trace_s:
            if any(b < a for a, b in pairwise(self.trace_s)) or not all(map(math.isfinite, self.trace_s)):
                raise UsageError("the times of a trace must be ascending and finite")
            return repeated(self.trace_s, items)
        return None

    def __str__(self) -> str:
        if self.rate_per_s is not None:
            return f"Poisson, {self.rate_per_s:g} a second"
        return f"a trace of {len(self.trace_s)} items" if self.trace_s else "closed loop"


CLOSED = Arrivals()


def simulate(
    plan: Plan, *, items: int | None = None, warmup: int | None = None, arrivals: Arrivals = CLOSED,
    spread: float = 0.0, seed: int = 0, watch: Watch | None = None,
) -> Simulated:  # fmt: skip
    """`plan` over a stream of `items` after `warmup` others that are not measured.

    `spread` is the standard deviation of computing times over their mean. `watch` is told of everything that a replica
    did. Without contention, jitter and arrivals of its own the period is the plan's, and never less (problem.md).

    Raises: UsageError for numbers that make no sense.
    """
    system = system_of(plan)
    warmup, items = _lengths(system, warmup, items)
    if spread < 0 or not math.isfinite(spread):
        raise UsageError(f"a spread of {spread}: a number of at least 0 was expected")
    behind = math.ceil((system.window + system.ahead) / system.calls)  # while the last of those measured are under way
    stream = warmup + items + behind
    due = arrivals.due(stream, seed)
    due_calls = None if due is None else [at for at in due for _ in range(system.calls)]
    calls = stream * system.calls
    simulation = Simulation(system, calls, due_s=due_calls, spread=spread, seed=seed, watch=watch)
    simulation.run(warmup * system.calls)
    before = _Reading.of(simulation)
    simulation.run((warmup + items) * system.calls)
    simulation.tell_rest()
    return _simulated(plan, system, simulation, before, warmup, items, arrivals, spread, seed)


def _lengths(system: System, warmup: int | None, items: int | None) -> tuple[int, int]:
    """Items that are not measured and that are: enough to fill what there is, and whole rounds of all replicas, so
    that the period is exact where it repeats."""
    if (items is not None and items < 1) or (warmup is not None and warmup < 0):
        raise UsageError("at least one item must be measured, and no fewer than none before it")
    window = math.ceil(system.window / system.calls)
    round_ = math.lcm(*(len(stage) for stage in system.stations))
    step = round_ if round_ <= MOST_IN_STEP else 1
    if warmup is None:
        warmup = math.ceil((2 * window + 2 * len(system.stations)) / step) * step
    if items is None:
        items = math.ceil(max(LEAST_ITEMS, 4 * window) / step) * step
    return warmup, items


@dataclass(frozen=True)
class _Reading:
    """What was counted up to a time."""

    now_s: float
    tallies: tuple[Tally, ...]
    served: dict[int, float]

    @classmethod
    def of(cls, simulation: Simulation) -> _Reading:
        """What is counted now."""
        copies = []
        for replica in simulation.replicas:
            tally = copy.deepcopy(replica.tally)
            tally.seconds[replica.doing] += simulation.now_s - replica.since_s
            copies.append(tally)
        return cls(simulation.now_s, tuple(copies), dict(simulation.flow.served))


def _simulated(
    plan: Plan, system: System, simulation: Simulation, before: _Reading, warmup: int, items: int, arrivals: Arrivals,
    spread: float, seed: int,
) -> Simulated:  # fmt: skip
    after = _Reading.of(simulation)
    passed_s = after.now_s - before.now_s
    spent = [_difference(a, b) for a, b in zip(before.tallies, after.tallies, strict=True)]
    calls = system.calls
    begun = simulation.due_s or (simulation.taken_s if system.ahead else simulation.put_s)
    latencies = [simulation.collected_s[(i + 1) * calls - 1] - begun[i * calls] for i in range(warmup, warmup + items)]
    return Simulated(
        model=plan.model.title or plan.model.name, machine=plan.machine.name, items=items, warmup=warmup,
        window=system.window, arrivals=str(arrivals), spread=spread, seed=seed, throughput_per_s=items / passed_s,
        period_s=passed_s / items, predicted_period_s=plan.predicted.period_s, latency_s=percentiles(latencies),
        predicted_latency_s=plan.predicted.latency_s,
        utilisation=_utilisation(plan, system, spent, _served(before, after), passed_s),
        stages=_stages(plan, system, spent, passed_s), waits=_waits(system, spent),
    )  # fmt: skip


def _difference(before: Tally, after: Tally) -> Tally:
    waited = {whom: s - before.waited_for.get(whom, 0.0) for whom, s in after.waited_for.items()}
    seconds = [b - a for a, b in zip(before.seconds, after.seconds, strict=True)]
    through = [b - a for a, b in zip(before.through_s, after.through_s, strict=True)]
    return Tally(after.calls - before.calls, after.alone_s - before.alone_s, seconds, through, waited)


def _served(before: _Reading, after: _Reading) -> dict[int, float]:
    return {resource: size - before.served[resource] for resource, size in after.served.items()}


def _utilisation(
    plan: Plan, system: System, spent: Sequence[Tally], served: dict[int, float], passed_s: float
) -> Utilisation:
    machine = plan.machine
    cores = [0.0] * len(machine.cores)
    replicas = [replica for stage in plan.stages for replica in stage.replicas]
    for replica, tally in zip(replicas, spent, strict=True):
        for core in replica.cores:
            cores[core] = sum(tally.seconds[doing] for doing in _BUSY) / passed_s
    shares = {resource: size / passed_s / system.capacity[resource] for resource, size in served.items()}
    return Utilisation(
        cores=tuple(cores), groups=_means(cores, [core.group for core in machine.cores]),
        nodes=_means(cores, [core.node for core in machine.cores]),
        controllers=tuple(shares[n] for n in range(len(machine.nodes)) if n in shares), dram=shares.get(CHIP),
        links=tuple(
            LinkUse(host=host, into=shares.get(own.into, 0.0), out=shares.get(own.out, 0.0))
            for host, own in host_resources(machine).items()
        ),
    )  # fmt: skip


def _means(values: Sequence[float], places: Sequence[int]) -> tuple[float, ...]:
    """The mean of the values of each place, from 0 on."""
    found: list[list[float]] = [[] for _ in range(max(places) + 1)]
    for value, place in zip(values, places, strict=True):
        found[place].append(value)
    return tuple(sum(each) / len(each) for each in found if each)


def _stages(plan: Plan, system: System, spent: Sequence[Tally], passed_s: float) -> tuple[SimulatedStage, ...]:
    out, rest = [], list(spent)
    for stage, stations in zip(plan.stages, system.stations, strict=True):
        mine, rest = rest[: len(stations)], rest[len(stations) :]
        calls = max(1, sum(tally.calls for tally in mine))
        each = [sum(tally.through_s[doing] for tally in mine) / calls for doing in Doing]
        alone_s = sum(tally.alone_s for tally in mine) / calls
        out.append(SimulatedStage(
            id=stage.id, replicas=len(stations), load_s=sum(each[doing] for doing in _BUSY),
            predicted_load_s=stage.load.total_s, read_s=each[Doing.READING], compute_s=each[Doing.COMPUTING],
            write_s=each[Doing.WRITING], wait_in_s=each[Doing.WAITING], wait_out_s=each[Doing.BLOCKED],
            slowed=each[Doing.COMPUTING] / alone_s if alone_s else 1.0,
            busy=sum(tally.seconds[doing] for tally in mine for doing in _BUSY) / passed_s / len(mine),
        ))  # fmt: skip
    return tuple(out)


def _waits(system: System, spent: Sequence[Tally]) -> tuple[Wait, ...]:
    """Who waited for whom, the longest first."""
    total: dict[tuple[int, int], float] = {}
    calls = [0] * len(system.stations)
    flat = [station for stage in system.stations for station in stage]
    for station, tally in zip(flat, spent, strict=True):
        calls[station.stage] += tally.calls
        for whom, seconds in tally.waited_for.items():
            total[station.stage, whom] = total.get((station.stage, whom), 0.0) + seconds
    waits = [
        Wait(stage=stage, whom=None if whom == OUTSIDE else whom, wait_s=seconds / max(1, calls[stage]))
        for (stage, whom), seconds in total.items() if seconds > 0
    ]  # fmt: skip
    return tuple(sorted(waits, key=lambda w: (-w.wait_s, w.stage)))
