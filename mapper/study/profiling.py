"""What of a model to measure, and in which order: plan, measure what decides the plan, plan again.

First the whole model and segments of it, in the configurations that plans are likely to have, and with eager every op;
then the stages of the plan that these costs give and of its near rivals, until nothing that decides is unmeasured or
the time is over.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from mapper.backends.registry import EAGER, backend_called
from mapper.cost.configurations import Config, configurations
from mapper.cost.profile import MeasuredOps, Profile, ranges
from mapper.cost.profiled import Fit, profiled
from mapper.cost.residency import DRAM, GROUP
from mapper.cost.roofline import roofline
from mapper.cost.table import CostTable
from mapper.errors import Infeasible, NoPlanInTime, UsageError
from mapper.graph.model import Graph
from mapper.machine.model import Machine
from mapper.measure.memory import NoRoom
from mapper.measure.profile import COLD, HOT, Chain, Heat
from mapper.plans.model import Plan
from mapper.solver.plan import plan
from mapper.solver.problem import Limits

SEGMENTS, FEW = 8, 3
"""Into how many segments a model is cut first; where each is compiled anew for every number of threads."""
NEAR = 0.15
"""A rival within this part of the best period is measured, too: the model may be off by as much."""
MOST_TURNS = 12
PLAN_S = 20.0
"""Longest time for one plan."""
Say = Callable[[str], None]
Measure = Callable[[Chain], Sequence[MeasuredOps]]
Planner = Callable[[CostTable, Limits], Plan]


@dataclass(frozen=True)
class Turn:
    """One turn of planning and measuring: the plan's predicted period, its stages, and how many parts that decide were
    not measured."""

    period_s: float
    stages: int
    unmeasured: int


@dataclass
class Profiling:
    """A profile as it grows. `turns` is how planning went, `ended` why it stopped, `skipped` what there was no memory
    for."""

    profile: Profile
    turns: list[Turn] = field(default_factory=list)
    ended: str = "interrupted"
    skipped: set[object] = field(default_factory=set)

    def add(self, rows: Iterable[MeasuredOps]) -> None:
        """Takes in what was measured."""
        self.profile = self.profile.model_copy(update={"measurements": (*self.profile.measurements, *rows)})

    @property
    def known(self) -> set[object]:
        """What was measured."""
        return {row.what for row in self.profile.measurements}

    def lacking(self, chain: Chain) -> Chain | None:
        """The parts of `chain` that were neither measured nor skipped, None if there are none."""
        known = self.known | self.skipped
        parts = tuple(p for p, key in zip(chain.parts, chain.keys(), strict=True) if key not in known)
        return Chain(chain.config, parts, chain.residency, chain.source) if parts else None


def fill(
    profiling: Profiling, graph: Graph, machine: Machine, measure: Measure, *, budget_s: float,
    chosen: Sequence[Config] | None = None, planner: Planner | None = None, progress: Say = lambda message: None,
    clock: Callable[[], float] = time.monotonic,
) -> Fit:  # fmt: skip
    """Measures into `profiling` what a plan for `graph` on `machine` depends on, for about `budget_s` seconds; what is
    there already is not measured again. `chosen` are the configurations that are looked at (None: those of likely
    plans). Gives the costs that follow. Where it is interrupted, `profiling` has what was measured.
    """
    base = roofline(graph, machine, configurations(machine))
    planner = planner or (lambda table, limits: plan(graph, machine, costs=table, limits=limits, time_limit_s=PLAN_S))
    loop = _Loop(profiling, graph, machine, base, measure, planner, progress, clock, clock() + budget_s)
    loop.first(chosen or likely(base, planner(base, Limits())))
    return loop.refined(chosen)


def likely(base: CostTable, made: Plan) -> tuple[Config, ...]:
    """The configurations that plans are likely to have: one core, one group, everything, and those of a first plan."""
    configs = base.configs
    group = max((c for c in configs if c.groups == 1), key=lambda c: c.cores)
    names = {stage.replicas[0].configuration.name for stage in made.stages}
    wanted = {configs[0].name, group.name, configs[-1].name} | names
    return tuple(config for config in configs if config.name in wanted)


def segments(graph: Graph, table: CostTable, count: int) -> tuple[tuple[int, ...], ...]:
    """`graph` in its order in up to `count` pieces of about the same time, cut where few bytes are live."""
    seconds = table.seconds[:, 0, DRAM]
    total, ops = float(seconds.sum()), len(graph.ops)
    ends = list(itertools.accumulate(map(float, seconds)))
    live = _live_bytes(graph)
    cuts = {0, ops}
    for k in range(1, count):
        low, high = ((k - 0.3) * total / count, (k + 0.3) * total / count)
        near = [i for i in range(1, ops) if low <= ends[i - 1] <= high]
        if near:
            cuts.add(min(near, key=lambda i: (live[i], abs(ends[i - 1] - k * total / count), i)))
    return tuple(tuple(range(a, b)) for a, b in itertools.pairwise(sorted(cuts)))


def _live_bytes(graph: Graph) -> list[float]:
    """Bytes of the tensors that cross the border before each op, and after the last."""
    change = [0.0] * (len(graph.ops) + 1)
    for tensor in graph.tensors:
        change[graph.position[tensor.producer] + 1] += tensor.bytes
        change[max((graph.position[r] for r in tensor.readers), default=graph.position[tensor.producer]) + 1] -= (
            tensor.bytes
        )
    return list(itertools.accumulate(change))


@dataclass
class _Loop:
    profiling: Profiling
    graph: Graph
    machine: Machine
    base: CostTable
    measure: Measure
    planner: Planner
    progress: Say
    clock: Callable[[], float]
    until: float

    @property
    def over(self) -> bool:
        return self.clock() >= self.until

    def first(self, configs: Sequence[Config]) -> None:
        """The whole model, its segments, and with eager its ops, in `configs`: a little of all before more of one."""
        every = tuple(range(len(self.graph.ops)))
        backend = backend_called(self.profiling.profile.backend)
        pieces = segments(self.graph, self.base, FEW if backend.per_team else SEGMENTS)
        steps = [Chain(config, (every,), "cold", "segment") for config in configs]
        if backend.name == EAGER:
            steps += [Chain(config, tuple((v,) for v in every), "cold", "op") for config in configs]
        steps += [Chain(config, pieces, "cold", "segment") for config in configs]
        for number, chain in enumerate(steps):
            self.take(chain, f"{number + 1} of {len(steps)}", require=number == 0)

    def take(self, chain: Chain, where: str, *, require: bool = False) -> None:
        """Measures what of `chain` is not known yet, unless the time is over."""
        lacking = self.profiling.lacking(chain)
        if lacking is None or (self.over and not require):
            return
        what = {"op": "ops", "segment": "segments", "stage": "stages"}[chain.source]
        left = max(0.0, self.until - self.clock())
        self.progress(
            f"{where}: {len(lacking.parts)} {what}, {chain.config.name}, {chain.residency}, {left:.0f} s left"
        )
        try:
            self.profiling.add(self.measure(lacking))
        except NoRoom:  # who measures has told that
            self.profiling.skipped.update(lacking.keys())

    def refined(self, chosen: Sequence[Config] | None) -> Fit:
        """Plans and measures what decides, until nothing that does is unmeasured."""
        profiling = self.profiling
        for turn in range(MOST_TURNS):
            fit = self.fit()
            plans = list(self.plans(fit.table, chosen))
            if not plans:
                profiling.ended = "no plan was found in time"
                return fit
            best = plans[0].predicted.period_s
            near = [made for made in plans if made.predicted.period_s <= best * (1 + NEAR)]
            wanted = self.chains(near)
            profiling.turns.append(Turn(best, len(plans[0].stages), sum(len(chain.parts) for chain in wanted)))
            if not wanted:
                profiling.ended = "the plan and its near rivals are measured"
                return fit
            if self.over:
                profiling.ended = "the time was over"
                return fit
            for chain in wanted:
                self.take(chain, f"Plan {turn + 1}")
        profiling.ended = f"{MOST_TURNS} plans were measured"
        return self.fit()

    def fit(self) -> Fit:
        """The costs that follow from what is measured so far."""
        return profiled(self.profiling.profile, self.graph, self.machine, self.base)

    def plans(self, table: CostTable, chosen: Sequence[Config] | None) -> Iterable[Plan]:
        """The best plan, then what people do, and the best with other numbers of stages."""
        allowed = tuple(chosen) if chosen else None
        one = Limits(stages=1)
        wanted = [Limits(configurations=allowed), Limits(stages=1, max_replicas=1, configurations=(table.configs[-1],)),
                  Limits(stages=1, configurations=(table.configs[0],)), one, Limits(stages=2)]  # fmt: skip
        for number, limits in enumerate(wanted):
            self.progress(f"Planning, {number + 1} of {len(wanted)}")
            try:
                yield self.planner(table, limits)
            except (Infeasible, UsageError, NoPlanInTime):
                if number == 0:
                    return

    def chains(self, plans: Sequence[Plan]) -> list[Chain]:
        """What of the stages of `plans` is not measured: the plan that is best first, what binds it before the rest;
        what can be measured in turn together is one chain."""
        known = {(row.ops, row.configuration, heat) for row in self.profiling.profile.measurements
                 for heat in (("hot", "cold") if row.residency == "stream" else (row.residency,))}  # fmt: skip
        skipped = self.profiling.skipped
        near = self.base.caches.names[GROUP]
        found: dict[tuple[int, str, Heat], list[tuple[int, ...]]] = {}
        for number, made in enumerate(plans):
            for stage in sorted(made.stages, key=lambda s: -s.load.total_s / len(s.replicas)):
                part = tuple(sorted(self.graph.position[name] for name in stage.ops))
                name, heat = stage.replicas[0].configuration.name, HOT if stage.residency == near else COLD
                if (ranges(part), name, heat) not in known and (ranges(part), name, heat, "segment") not in skipped:
                    known.add((ranges(part), name, heat))
                    found.setdefault((number, name, heat), []).append(part)
        return [Chain(self._config(name), tuple(sorted(parts)), heat, "segment")
                for (_, name, heat), parts in found.items()]  # fmt: skip

    def _config(self, name: str) -> Config:
        return self.base.configs[self.base.index(name)]
