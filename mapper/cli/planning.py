"""From the options of `mapper plan` to plans: what to plan, on which machine, and how."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mapper.cli.graph import given_table, graph_of_file, most_replicas, refuse_model_options
from mapper.cli.limits import limits_of, objective_of
from mapper.cli.output import Progress
from mapper.cli.peers import compared, pipedream_instance, pipedream_plan
from mapper.cli.problem import write_problem
from mapper.cli.source import columns_of, model_options

if TYPE_CHECKING:
    from mapper.cost.table import CostTable
    from mapper.graph.model import Graph
    from mapper.machine.model import Machine
    from mapper.plans.model import ModelRef, Plan
    from mapper.solver.peers.against import Rival
    from mapper.solver.problem import Limits
    from mapper.solver.stop import Stop

AUTO = "auto"
"""`--batch auto`: the number of elements an item that gives most elements a second."""


@dataclass(frozen=True)
class Asked:
    """The options of `mapper plan` that say what to plan, as typed."""

    model: str | None
    graph: Path | None
    bandwidth: str | None
    batch: str
    micro_batches: str
    length: int | None
    lengths: str | None
    columns: list[str] | None
    weights: Path | None
    seed: int | None
    trust: bool
    objective: str
    stages: int | None
    max_stages: int | None
    replicas: str | None
    max_cores: int | None
    max_latency: str | None
    min_throughput: str | None
    memory_per_node: str | None
    together: list[str] | None
    apart: list[str] | None
    configurations: str | None
    near_optimal: str | None
    planner: str
    placement: str
    against: str | None
    objective_model: str | None
    problem_out: Path | None
    costs: list[Path] | None
    backend: str | None

    @classmethod
    def of(cls, parameters: dict[str, Any]) -> Asked:
        """Those of all options of the command."""
        return cls(**{field.name: parameters[field.name] for field in fields(cls)})

    def limits(self, machine: Machine, costed: bool) -> Limits:
        """What the plan must keep."""
        from mapper.cost.configurations import configurations, parse_configurations

        text = self.configurations
        return limits_of(
            stages=self.stages, max_stages=self.max_stages, replicas=most_replicas(self.replicas, costed),
            max_cores=self.max_cores, max_latency=self.max_latency, min_throughput=self.min_throughput,
            memory=self.memory_per_node, together=self.together, apart=self.apart,
            configurations=parse_configurations(text, configurations(machine)) if text else None,
        )  # fmt: skip

    def sizes(self) -> Sequence[int | None]:
        """The sequence lengths to plan for: those of `--lengths`, else the one of `--length` (None: the card's)."""
        from mapper.errors import UsageError

        if self.lengths is None:
            return [self.length]
        parts = [part.strip() for part in self.lengths.split(",")]
        if self.length is not None or not all(part.isdigit() and int(part) > 0 for part in parts):
            raise UsageError(
                f"--lengths {self.lengths}: numbers such as 32,128,512 were expected, and no --length beside them"
            )
        return sorted({int(part) for part in parts})


@dataclass(frozen=True)
class Made:
    """A plan, and those of other planners where they were asked for."""

    plan: Plan
    rivals: tuple[Rival, ...] = ()


def planned(asked: Asked, machine: Machine, length: int | None, stop: Stop, progress: Progress) -> Made:
    """The plan for one sequence length, of the best batch and number of micro-batches where these are left open."""
    from mapper.solver.batches import best_batch

    _require_solver()
    if asked.batch != AUTO:
        return _of_batch(asked, machine, length, _number(asked.batch, "--batch"), stop, progress)
    made: dict[int, Made] = {}

    def of_batch(size: int) -> Plan:
        progress.say(f"Items of {size} ...")
        made[size] = _of_batch(asked, machine, length, size, stop, progress)
        return made[size].plan

    return made[best_batch(of_batch).request.batch]


def _require_solver() -> None:
    """Where ortools is not installed that is said at once: tracing and searching take minutes on a small board.

    Raises: ModuleNotFoundError, as its import would.
    """
    if importlib.util.find_spec("ortools") is None:
        raise ModuleNotFoundError("No module named 'ortools'", name="ortools")


def _number(text: str, option: str) -> int:
    """The number that `text` is. Raises: UsageError."""
    from mapper.errors import UsageError

    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{option} {text}: a number from 1 was expected, or {AUTO}")
    return int(text)


def _of_batch(asked: Asked, machine: Machine, length: int | None, batch: int, stop: Stop, progress: Progress) -> Made:
    """The plan for items of `batch` elements."""
    from mapper.errors import UsageError
    from mapper.plans.check import value_of
    from mapper.solver.micro_batches import best_count

    def of_count(count: int) -> Made:
        if count > 1:
            progress.say(f"Items of {batch} in {count} micro-batches ...")
        return _planned(asked, machine, length, (batch, count), stop, progress)

    if asked.micro_batches == AUTO:
        return best_count(of_count, batch, lambda made: value_of(asked.objective, made.plan.predicted))
    count = _number(asked.micro_batches, "--micro-batches")
    if batch % count:
        raise UsageError(f"{batch} elements are not split into {count} equal micro-batches",
                         advice="Give a --batch that is a multiple of --micro-batches.")  # fmt: skip
    if count > 1 and (asked.against or asked.objective_model or asked.problem_out):
        raise UsageError("other planners and problem files know no micro-batches")
    return of_count(count)


def _planned(
    asked: Asked, machine: Machine, length: int | None, sizes: tuple[int, int], stop: Stop, progress: Progress
) -> Made:
    """The plan for items of `sizes`: elements, and micro-batches that these come in."""
    from mapper.plans.micro_batches import require_batched
    from mapper.plans.source import in_columns
    from mapper.solver.columns import Columns, Split, best_columns
    from mapper.solver.plan import plan
    from mapper.units import parse_fraction

    batch, calls = sizes
    work, reference, table = work_of(asked, machine, length, batch // calls, progress)
    if calls > 1:
        require_batched(work, batch // calls)
    auto = asked.columns == [AUTO]
    if not auto:
        work, reference = in_columns(work, reference, columns_of(asked.columns))
    table = _measured(asked, work, machine) or table
    limits = asked.limits(machine, work.costed)
    _write_problem(asked, work, table, machine, limits, progress, length)
    if asked.objective_model is not None:
        return Made(pipedream_plan(work, reference, machine, asked.bandwidth, asked.replicas, limits,
                                   asked.near_optimal, stop, progress.say))  # fmt: skip

    def in_parts(columns: Columns) -> Split:
        graph, split = in_columns(work, reference, columns)
        if columns:
            progress.say(f"Columns: {', '.join(f'{op}={count}' for op, count in columns.items())} ...")
        made = plan(
            graph, machine, costs=table, model=split, batch=batch, micro_batches=calls, progress=progress.say,
            limits=limits, stop=stop, objective=objective_of(asked.objective), planner=asked.planner,
            strategy=asked.placement, near_optimal=parse_fraction(asked.near_optimal or ("0" if work.costed else "1%")),
        )  # fmt: skip
        return Split(made, graph, columns)

    found = best_columns(in_parts, lambda: stop.reached) if auto else in_parts({})
    return Made(found.plan, compared(found.plan, found.graph, table, limits, asked.against, progress.say))


def _measured(asked: Asked, work: Graph, machine: Machine) -> CostTable | None:
    """The costs of the profile that was given, None if none was. Raises: as `profile_given` and `profile_costs`."""
    from mapper.cli.costs import profile_given
    from mapper.errors import UsageError
    from mapper.plans.costs import profile_costs

    if not asked.costs:
        return None
    if asked.graph is not None or asked.objective_model is not None or asked.columns == [AUTO]:
        raise UsageError("--costs is a profile of a model as it is: it goes with no --graph, --objective-model or "
                         f"--columns {AUTO}")  # fmt: skip
    profile = profile_given(asked.costs, machine, asked.backend)
    assert profile is not None, "some files were given"
    return profile_costs(profile, work, machine, ", ".join(map(str, asked.costs)))


def _write_problem(
    asked: Asked, work: Graph, table: CostTable | None, machine: Machine, limits: Limits, progress: Progress,
    length: int | None,
) -> None:  # fmt: skip
    """Writes the instance of the request where that was asked for."""
    if asked.problem_out is None:
        return
    graph, costs, kept = work, table, limits
    if asked.objective_model is not None:
        graph, costs, kept = pipedream_instance(work, machine, asked.bandwidth, asked.replicas, limits)
    write_problem(asked.problem_out, graph, machine, costs, kept, progress, length if asked.lengths else None)


def work_of(
    asked: Asked, machine: Machine, length: int | None, batch: int, progress: Progress
) -> tuple[Graph, ModelRef, CostTable | None]:
    """What is to be planned: the graph of a model or of a file, with the costs that a file brings."""
    from mapper.plans.source import graph_of_source

    options = model_options(batch, asked.seed, asked.weights, length)
    if asked.graph is not None:
        refuse_model_options(options | ({"batch": batch} if asked.batch == AUTO else {}))
        progress.say(f"Reading {asked.graph} ...")
        work, reference = graph_of_file(asked.graph)
        return work, reference, given_table(work, machine, asked.bandwidth)
    progress.say(f"Tracing {asked.model} ...")
    work, reference = graph_of_source(str(asked.model), options, trust=asked.trust)
    return work, reference, None
