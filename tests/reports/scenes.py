"""What commands print of made-up results, for the golden files: nothing here is measured."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from mapper.cost.imported import given_costs
from mapper.cost.profile import MeasuredOps
from mapper.cost.profiled import Fit
from mapper.execution.measurement import MeasuredStage, Measurement
from mapper.machine.files import load_machine
from mapper.plans.check import Report
from mapper.plans.latency import Latency
from mapper.plans.model import Plan
from mapper.plans.problem_file import read_problem
from mapper.reports.check import check_text
from mapper.reports.compare import compared_text
from mapper.reports.host_study import host_study_text
from mapper.reports.problem import problem_text
from mapper.reports.study import study_text
from mapper.solver.problem import Limits
from mapper.solver.problem_plan import plan_of_file
from mapper.study.bench import Bench, Spread
from mapper.study.compare import compare
from mapper.study.host.record import (
    Asked,
    Build,
    Cell,
    Finding,
    HostStudy,
    MemoryRow,
    OpRow,
    Range,
    Ratio,
    Skipped,
    Way,
)  # fmt: skip
from mapper.study.profile import Profiled
from mapper.study.profiling import Turn
from mapper.study.sg2042.bands import Band
from mapper.study.sg2042.study import Gain, Influence, Knockout, Row, Shape, Study
from tests.cost.profiles import profile_with
from tests.reports.reported import chain

PROBLEM = Path(__file__).parents[1] / "golden" / "problem_small.json"


def measured(plan: Plan, found: Measurement, factor: float) -> Measurement:
    """`found` as a run of `plan` whose stages took `factor` times what is predicted, the last one more."""
    stages = tuple(
        MeasuredStage(
            id=stage.id, replicas=len(stage.replicas), predicted_load_s=stage.load.total_s,
            load_s=stage.load.total_s * (factor + 0.1 * (stage.id == len(plan.stages) - 1)),
            compute_s=stage.load.total_s * factor * 0.97, copy_s=stage.load.total_s * factor * 0.03,
            wait_in_s=0.0012 * stage.id, wait_out_s=0.0004,
        )
        for stage in plan.stages
    )  # fmt: skip
    rate = plan.predicted.throughput_per_s / (factor + 0.1)
    workers = found.workers[:1] * sum(stage.replicas for stage in stages)
    told = {"model": plan.model.name, "stages": stages, "workers": workers, "throughput_per_s": rate}
    return found.model_copy(update=told)


def slower(found: Bench) -> Bench:
    """The same comparison on another day, without its last way."""
    rows = tuple(
        row.model_copy(update={"throughput_per_s": Spread(median=rate, low=low, high=rate)})
        for row, rate, low in zip(found.alternatives, (101.0, 97.0), (95.0, 90.0), strict=False)
    )
    return found.model_copy(update={"alternatives": rows, "torch": "2.14"})


def compared(a: object, b: object) -> list[str]:
    return compared_text(compare(a, b))  # type: ignore[arg-type]


def problem() -> list[str]:
    file, reference = read_problem(PROBLEM)
    return problem_text(plan_of_file(file, reference, Limits(max_latency_s=60, max_replicas=1), 0.0), file)


def checked() -> list[str]:
    return check_text(Report(
        violations=(), verified=("cores exist, are used once and have the shape of their configuration",
                                 "stages cover the graph, each op once, and tensors only flow forward"),
        not_verified=("loads, bytes and bounds: the plan is of a profile, which is not at hand (--costs)",),
    ))  # fmt: skip


@cache
def profiled() -> Profiled:
    graph, machine = chain(6), load_machine("numa:1 group:2 core:2")
    whole = [
        MeasuredOps(ops=((0, 6),), configuration=name, residency="cold", source="segment", median_s=seconds,
                    low_s=seconds * 0.98, high_s=seconds * 1.02, rounds=5, others_busy=busy, noisy=busy > 0.1)
        for name, seconds, busy in (("1x1", 0.0123, 0.01), ("1x2", 0.0071, 0.0), ("2x2", 0.0044, 0.13))
    ]  # fmt: skip
    fit = Fit(given_costs(graph, 16e9), {("op", "1x1"): 1.07, ("op", "2x2"): 0.91}, ((whole[0], 0.0125),), 0)
    turns = (Turn(period_s=0.0043, stages=2, unmeasured=3), Turn(period_s=0.0044, stages=1, unmeasured=0))
    return Profiled(profile_with(graph, machine, whole), fit, turns, "all that decides the plan was measured")


def _gain(name: str, ratio: float) -> Gain:
    kind = "planner" if name.startswith("planner") else "pipeline" if "stages" in name else "copies"
    return Gain(name=name, kind=kind, per_s=1, calls_of=1, latency_s=1, ratio=ratio, low=0.7 * ratio, high=1.5 * ratio)


def study() -> list[str]:
    names = ("16 stages × 4", "4 copies × 16", "16 copies × 4", "64 copies × 1", "a pipeline a node: 4 × 4 stages",
             "planner", "planner, latency limit")  # fmt: skip
    rows = tuple(
        Row(model=model, item=item, native_s=0.33 * item, interleaved=1.25, best_native="native, 16 threads",
            best_native_ratio=1.4, best_pipeline=_gain("12 stages", 9.5),
            gains=tuple(_gain(name, 3.3 + i * 2.2) for i, name in enumerate(names)))
        for model in ("mobilenetv2", "gpt2_decode") for item in (1, 8)
    )  # fmt: skip
    knockouts = tuple(Knockout(model=row.model, item=row.item, mechanism=name, central=9.5, without=8.1)
                      for row in rows for name in ("fork and join", "caches of groups"))  # fmt: skip
    influences = tuple(Influence(model=row.model, item=row.item, parameter=name, central=9.5, low=7.0, high=12.0)
                       for row in rows[:2] for name in ("fork_join_factor", "memory.node_bandwidth"))  # fmt: skip
    shape = Shape(cores=64, cores_per_group=4, groups=16, nodes=4)
    found = Study(machine="sg2042", shape=shape, path="native-aten", ranged=25, unranged=("dispatch",), samples=20,
                  seed=0, rows=rows, influences=influences, knockouts=knockouts)  # fmt: skip
    bands = (Band(name="the best pipeline of MobileNetV2, items of 1", low=6, high=20, found=9.5,
                  where="mobilenetv2 with items of 1 element", met=True),
             Band(name="without fork and join", low=0.5, high=3, found=None, where="no case", met=None))  # fmt: skip
    return study_text(found, bands)


def _range(value: float) -> Range:
    return Range(median=value, low=0.97 * value, high=1.04 * value)


def _way(names: tuple[str, ...], rate: float, over: float | None) -> Way:
    ratio = None
    if over is not None:
        ratio = Ratio(median=over, low=over - 0.02, high=over + 0.03, confidence=0.95, disturbed=False)
    return Way(
        names=names, kinds=("native",), calls_of=1, pages="first touch", stages=1, workers=2, threads=1, teams=("0",),
        rate_per_s=_range(rate), latency_s=Latency(p50=1 / rate, p90=1.1 / rate, p99=1.3 / rate), over_native=ratio,
        predicted_rate_per_s=1.1 * rate, predicted_latency_s=0.9 / rate, outputs_identical=True, steady=over is None,
        rounds=7, disturbed_rounds=0, rates_per_s=(rate,), others_busy=(0.0,),
    )  # fmt: skip


def host_study() -> list[str]:
    ops = tuple(
        OpRow(sort=sort, sizes=sizes, items=1, threads=threads, seconds=_range(0.0031 / threads), flop=flop,
              busy_cores=0.9 * threads, rounds=7, others_busy=0.0, noisy=threads == 4)
        for sort, sizes, flop in (("matmul", (512, 512, 512), 2.7e8), ("conv.depthwise", (1, 960, 7, 7), 0.0))
        for threads in (1, 2, 4)
    )  # fmt: skip
    memory = tuple(MemoryRow(threads=2, cores_of=(node,), memory_of=(0, 1), bytes=10**8, bytes_per_s=_range(2.1e10),
                             rounds=7, others_busy=0.0) for node in (0, 1))  # fmt: skip
    ways = (_way(("native, 4 threads",), 61, None), _way(("2 copies × 2", "planner, latency limit"), 83, 1.36))
    cell = Cell(model="mobilenetv2", graph_sha256="0", item=1, ways=ways, notes=("the first call was left out",),
                seconds=12.0, skipped=(Skipped(what="8 stages × 1", reason="there are 4 cores"),))  # fmt: skip
    return host_study_text(HostStudy(
        mapper="0.1", build=Build(python="3.11", torch="2.13", openmp=True, onednn=True, mkl=False, nnpack=True,
                                  blas="OpenBLAS", capability="AVX2", pool="OpenMP"),
        asked=Asked(models=("mobilenetv2",), items=(1,), calls=(1,), rounds=7, round_s=1, limit_s=600, backend="eager"),
        system={}, machine=load_machine("numa:2 group:1 core:2"), others_before=0.12, calibrated=(), ops=ops,
        memory=memory, cells=(cell,), skipped=(), warnings=("the clock changed by 12 % meanwhile",), interrupted=False,
        findings=(Finding(mechanism="fork and join", value=8.3e-6, words="a team of 4 threads takes so long to begin "
                          "and to end its work"),
                  Finding(mechanism="copies", value=1.36, words="2 copies × 2 against native, 4 threads")),
    ))  # fmt: skip
