"""What two results are compared by: the figures of a plan, a run, a simulation or a comparison in one form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from mapper.cost.profile import Profile
from mapper.errors import BadInput, UsageError
from mapper.execution.measurement import Measurement
from mapper.jsonio import Record
from mapper.plans.model import Plan, Stage
from mapper.plans.problem_plan import ProblemPlan
from mapper.simulator.result import Simulated

if TYPE_CHECKING:
    from mapper.study.bench import Bench, BenchRow
    from mapper.study.results import Result

Kind = Literal["predicted", "measured", "simulated"]


class StageFigures(Record):
    """A stage of one side; what its file does not tell is null or empty. Seconds are of a call of one replica:
    `load_s` is computing (`compute_s`) and handing over (`hand_over_s`), waiting is apart. `cores` are those of all
    replicas, by logical number."""

    id: int
    ops: tuple[str, ...] = ()
    replicas: int
    configuration: str = ""
    cores: tuple[int, ...] = ()
    weight_bytes: float | None = None
    residency: str = ""
    load_s: float
    predicted_load_s: float
    compute_s: float | None = None
    hand_over_s: float | None = None
    wait_in_s: float | None = None
    wait_out_s: float | None = None


class Alternative(Record):
    """What `mapper bench` measured of one way: medians of the rounds, the least and the largest rate of them, and the
    chosen plan's rate over this one's, round by round (null for the chosen plan)."""

    names: tuple[str, ...]
    chosen: bool
    throughput_per_s: float
    low_per_s: float
    high_per_s: float
    latency_s: float
    chosen_over_this: float | None


class Side(Record):
    """One of the two. `throughput_per_s` is items a second, of `batch` elements each (null: the file does not tell);
    `latency_s` is the sum of the loads where it is predicted, else the median. `about` has what the result was asked
    for and made with; what is not stated is null. A comparison is there with its chosen plan, and all its
    `alternatives`."""

    name: str
    kind: Kind
    model: str
    title: str = ""
    machine: str = ""
    item: str = "item"
    batch: int | None = None
    throughput_per_s: float
    latency_s: float
    latency_p90_s: float | None = None
    latency_p99_s: float | None = None
    stage_count: int
    workers: int
    cores_used: int | None = None
    dram_bytes_per_item: float | None = None
    gap: float | None = None
    limited_by: str = ""
    others_busy: float | None = None
    about: dict[str, Any]
    stages: tuple[StageFigures, ...] = ()
    alternatives: tuple[Alternative, ...] = ()


def side_of(found: Result, name: str) -> Side:
    """`found` as a side called `name`.

    Raises: UsageError for a profile, which has neither a rate nor stages; BadInput for a comparison of nothing.
    """
    if isinstance(found, Plan):
        return _plan(found, name)
    if isinstance(found, ProblemPlan):
        return _problem_plan(found, name)
    if isinstance(found, Measurement):
        return _measurement(found, name)
    if isinstance(found, Simulated):
        return _simulated(found, name)
    if isinstance(found, Profile):
        raise UsageError(
            f"{name} is a profile: it has neither a rate nor stages that could be compared",
            advice="Compare plans that were made with it: mapper plan --costs PROFILE -o PLAN.",
        )
    return _bench(found, name)


def _plan(plan: Plan, name: str) -> Side:
    request, its, more = plan.request, plan.predicted, plan.request.model_extra or {}
    about = {
        "graph": plan.model.graph_sha256[:12], "batch": request.batch,
        "micro-batches": request.micro_batches, "objective": request.objective, "limits": request.limits,
        "planner": more.get("planner", ""), "placement": more.get("placement", ""), "back end": request.backend,
        "costs": request.costs, "near optimal": plan.solver.near_optimal, "status": plan.solver.status,
        "weights": plan.model.weights or None, "torch": plan.model.torch or None,
    }  # fmt: skip
    return Side(
        name=name, kind="predicted", model=plan.model.name, title=plan.model.title,
        machine=plan.machine.title or plan.machine.name, item=plan.model.item_name,
        batch=request.batch, throughput_per_s=its.throughput_per_s, latency_s=its.latency_s,
        stage_count=len(plan.stages), workers=sum(len(stage.replicas) for stage in plan.stages),
        cores_used=its.cores_used, dram_bytes_per_item=its.dram_bytes_per_item, gap=plan.solver.gap,
        limited_by=its.limited_by, about=about, stages=tuple(map(_planned, plan.stages)),
    )  # fmt: skip


def _planned(stage: Stage) -> StageFigures:
    load, replicas = stage.load, stage.replicas
    return StageFigures(
        id=stage.id, ops=stage.ops, replicas=len(replicas), configuration=replicas[0].configuration.name,
        cores=tuple(sorted(core for replica in replicas for core in replica.cores)), weight_bytes=stage.weight_bytes,
        residency=stage.residency, load_s=load.total_s, predicted_load_s=load.total_s,
        compute_s=load.compute_s + load.dispatch_s + load.fork_join_s, hand_over_s=load.in_s + load.out_s,
    )  # fmt: skip


def _problem_plan(plan: ProblemPlan, name: str) -> Side:
    request, its = plan.request, plan.predicted
    about = {"problem": plan.problem.sha256[:12], "objective": request.objective, "limits": request.limits.given,
             "status": plan.solver.status}  # fmt: skip
    stages = tuple(
        StageFigures(
            id=stage.id, ops=tuple(f"op {v}" for v in stage.ops), replicas=stage.replicas,
            configuration=stage.configuration.name, weight_bytes=stage.weight_bytes, residency=stage.residency,
            load_s=stage.load_s, predicted_load_s=stage.load_s,
        )
        for stage in plan.stages
    )  # fmt: skip
    return Side(
        name=name, kind="predicted", model=plan.problem.name, batch=1, throughput_per_s=its.throughput_per_s,
        latency_s=its.latency_s, stage_count=len(stages), workers=sum(stage.replicas for stage in stages),
        cores_used=its.cores_used, dram_bytes_per_item=its.dram_bytes_per_item, gap=plan.solver.gap,
        limited_by=its.limited_by, about=about, stages=stages,
    )  # fmt: skip


def _measurement(found: Measurement, name: str) -> Side:
    outputs = (
        "identical" if found.outputs_identical else "within tolerance" if found.outputs_within_tolerance else "differ"
    )
    about = {"back end": found.backend, "torch": found.torch, "items": found.items, "in flight": found.window,
             "outputs": outputs}  # fmt: skip
    stages = tuple(
        StageFigures(
            id=stage.id, replicas=stage.replicas, load_s=stage.load_s, predicted_load_s=stage.predicted_load_s,
            compute_s=stage.compute_s, hand_over_s=stage.copy_s, wait_in_s=stage.wait_in_s, wait_out_s=stage.wait_out_s,
        )
        for stage in found.stages
    )  # fmt: skip
    latency = found.latency_s
    return Side(
        name=name, kind="measured", model=found.model, throughput_per_s=found.throughput_per_s, latency_s=latency.p50,
        latency_p90_s=latency.p90, latency_p99_s=latency.p99, stage_count=len(stages), workers=len(found.workers),
        others_busy=found.others_busy, about=about, stages=stages,
    )  # fmt: skip


def _simulated(found: Simulated, name: str) -> Side:
    about = {"items": found.items, "in flight": found.window, "arrivals": found.arrivals,
             "jitter": found.spread, "seed": found.seed}  # fmt: skip
    stages = tuple(
        StageFigures(
            id=stage.id, replicas=stage.replicas, load_s=stage.load_s, predicted_load_s=stage.predicted_load_s,
            compute_s=stage.compute_s, hand_over_s=stage.read_s + stage.write_s, wait_in_s=stage.wait_in_s,
            wait_out_s=stage.wait_out_s,
        )
        for stage in found.stages
    )  # fmt: skip
    latency = found.latency_s
    return Side(
        name=name, kind="simulated", model=found.model, machine=found.machine, throughput_per_s=found.throughput_per_s,
        latency_s=latency.p50, latency_p90_s=latency.p90, latency_p99_s=latency.p99, stage_count=len(stages),
        workers=sum(stage.replicas for stage in stages), about=about, stages=stages,
    )  # fmt: skip


def _bench(found: Bench, name: str) -> Side:
    chosen = next((row for row in found.alternatives if row.name == found.chosen), None)
    if chosen is None:
        raise BadInput(name, f"no alternative is called {found.chosen!r}", place="/chosen")
    latency = chosen.latency_s
    about = {"back end": found.backend, "torch": found.torch, "rounds": found.rounds,
             "seconds a round": found.seconds, "verdict": found.verdict}  # fmt: skip
    return Side(
        name=name, kind="measured", model=found.model, machine=found.machine, item=found.counts.removesuffix("s"),
        batch=1 if found.counts == "elements" else found.batch, throughput_per_s=chosen.throughput_per_s.median,
        latency_s=latency.p50, latency_p90_s=latency.p90, latency_p99_s=latency.p99, stage_count=chosen.stages,
        workers=chosen.workers, others_busy=found.others_busy, about=about,
        alternatives=tuple(_alternative(row, row is chosen) for row in found.alternatives),
    )  # fmt: skip


def _alternative(row: BenchRow, chosen: bool) -> Alternative:
    rate, ratio = row.throughput_per_s, row.chosen_over_this
    return Alternative(
        names=(row.name, *(name for name in row.names if name != row.name)), chosen=chosen,
        throughput_per_s=rate.median, low_per_s=rate.low, high_per_s=rate.high, latency_s=row.latency_s.p50,
        chosen_over_this=None if ratio is None else ratio.median,
    )  # fmt: skip
