"""What came of a search: its plan, placed by every strategy, as `mapper plan` with the same options makes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mapper.cost.configurations import configurations
from mapper.cost.roofline import roofline
from mapper.errors import Infeasible, NoPlanInTime, UsageError
from mapper.graph.model import Graph
from mapper.jsonio import Record
from mapper.machine.model import Machine
from mapper.plans.check import optimal_gap
from mapper.plans.model import ModelRef, Proof, Request, Solver, Status
from mapper.simulator.simulate import simulate
from mapper.solver.peers.plans import chosen_stages, placed_by
from mapper.solver.placement.candidates import Case
from mapper.solver.placement.fitting import Fitting, fitting
from mapper.solver.placement.strategies import OPTIMAL
from mapper.solver.problem import StageChoice, problem_of
from mapper.solver.search.space import Space
from mapper.solver.stop import Stop
from mapper.study.exploration.points import Search


class Simulation(Record):
    """What the simulator says of a plan in a closed loop: items a second, and percentiles of latency."""

    throughput_per_s: float
    latency_p50_s: float
    latency_p90_s: float
    latency_p99_s: float


class Made(Record):
    """A plan in figures, as in its file. `replicas` and `threads` (of one replica) are those of each stage."""

    period_s: float
    throughput_per_s: float
    latency_s: float
    cores_used: int
    dram_bytes_per_item: float
    limited_by: str
    bound_s: float
    gap: float
    status: Status
    replicas: tuple[int, ...]
    threads: tuple[int, ...]
    simulated: Simulation | None = None


class Outcome(Record):
    """The plan that a strategy placed, or why there is none."""

    strategy: str
    made: Made | None = None
    reason: str = ""


@dataclass(frozen=True)
class Subject:
    """What is explored: the model's graph for each batch with how plans name it, the machines, the placements, whether
    plans are simulated, and after how many seconds a search ends."""

    graphs: dict[int, tuple[Graph, ModelRef]]
    machines: tuple[Machine, ...]
    strategies: tuple[str, ...]
    simulated: bool = False
    time_limit_s: float | None = None


def searcher(subject: Subject) -> Callable[[Search], tuple[Outcome, ...]]:
    """What makes searches of `subject`, one after another."""
    return Searcher(subject).outcomes


class Searcher:
    """Searches one after another. Those of one batch and machine, one behind the other, share costs and ideals."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.stop = Stop(subject.time_limit_s)
        self._of: tuple[int, int] | None = None
        self._cases: dict[bool, Case] = {}

    def outcomes(self, search: Search) -> tuple[Outcome, ...]:
        """What came of `search`: an outcome a strategy.

        Raises: KeyboardInterrupt, also where the search took it as its end; BadInput for a machine without a figure.
        """
        self.stop.began, self.stop.interrupted = self.stop.clock(), False
        case = self._case(search)
        limits = search.limits(case.machine)
        tolerance = optimal_gap(case.table.source) / 4
        try:
            found = fitting(case, limits, limits, 0.0, tolerance)
        except (Infeasible, NoPlanInTime, UsageError) as error:
            return tuple(Outcome(strategy=name, reason=error.what) for name in self.subject.strategies)
        if self.stop.interrupted:
            raise KeyboardInterrupt
        stages = chosen_stages(case, found)
        return tuple(self._placed(search, case, found, stages, name) for name in self.subject.strategies)

    def _placed(
        self, search: Search, case: Case, found: Fitting, stages: Sequence[StageChoice], strategy: str
    ) -> Outcome:
        """The plan with its cores chosen by `strategy`."""
        try:
            placed = found if strategy == OPTIMAL else placed_by(case, tuple(stages), found, strategy)
        except UsageError as error:
            return Outcome(strategy=strategy, reason=error.what.removeprefix(f"--placement {strategy}: "))
        return Outcome(strategy=strategy, made=self._made(search, case, placed))

    def _made(self, search: Search, case: Case, placed: Fitting) -> Made:
        predicted, best = placed.evaluation.predicted, placed.best_period_s
        bound = min(placed.bound_s, best)
        gap = max(0.0, (best - bound) / best)
        status: Status = "optimal" if gap <= optimal_gap(case.table.source) * (1 + 1e-6) else "feasible"
        solver = Solver(
            status=status, objective=predicted.period_s, best_objective=best, bound=bound, gap=gap, near_optimal=0.0,
            proved=Proof(space=""),
        )  # fmt: skip
        return Made(
            period_s=predicted.period_s, throughput_per_s=predicted.throughput_per_s, latency_s=predicted.latency_s,
            cores_used=predicted.cores_used, dram_bytes_per_item=predicted.dram_bytes_per_item,
            limited_by=predicted.limited_by, bound_s=bound, gap=gap, status=status,
            replicas=tuple(len(stage.replicas) for stage in placed.evaluation.stages),
            threads=tuple(stage.replicas[0].configuration.threads for stage in placed.evaluation.stages),
            simulated=self._simulated(search, case, placed, solver) if self.subject.simulated else None,
        )  # fmt: skip

    def _simulated(self, search: Search, case: Case, placed: Fitting, solver: Solver) -> Simulation:
        """The plan in the simulator."""
        model = self.subject.graphs[search.batch][1]
        plan = placed.evaluation.as_plan(model, case.machine, Request(batch=search.batch), solver)
        seen = simulate(plan)
        return Simulation(
            throughput_per_s=seen.throughput_per_s, latency_p50_s=seen.latency_s.p50,
            latency_p90_s=seen.latency_s.p90, latency_p99_s=seen.latency_s.p99,
        )  # fmt: skip

    def _case(self, search: Search) -> Case:
        """The space of plans; for an exact number of stages the one that keeps ops of no work apart, as those need."""
        if self._of != (search.machine, search.batch):
            self._of, self._cases = (search.machine, search.batch), {}
        exact = search.stages is not None
        if exact not in self._cases:
            graph, machine = self.subject.graphs[search.batch][0], self.subject.machines[search.machine]
            known = next(iter(self._cases.values()), None)
            table = known.table if known else roofline(graph, machine, configurations(machine))
            space = Space(problem_of(graph, machine, table), idle=not exact, stop=self.stop)
            self._cases[exact] = Case(graph, machine, table, space)
        return self._cases[exact]
