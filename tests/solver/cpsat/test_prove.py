"""The proof as a whole: against enumeration, on published graphs, and whatever ends it early."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mapper.cost.imported import given_costs
from mapper.graph.importers.load import load_graph
from mapper.machine.files import load_machine
from mapper.solver.cpsat import prove as prove_module
from mapper.solver.cpsat import start as start_module
from mapper.solver.cpsat.linear import Linear, loads
from mapper.solver.cpsat.model import Answer
from mapper.solver.cpsat.prove import prove
from mapper.solver.cpsat.relaxation import Relaxed
from mapper.solver.cpsat.shrink import Windows
from mapper.solver.cpsat.start import State, narrowed
from mapper.solver.problem import Limits, Problem, Solution, StageChoice, problem_of
from mapper.solver.reductions.reduce import reduce
from mapper.solver.stop import Stop
from tests.solver.brute import load as brute_load
from tests.solver.linear_problems import ONE_EACH, chains, in_one_stage, instance, layered, least, linear_problems

MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FOLDER = Path(__file__).parents[4] / "shared" / "reference" / "workloads"
OPTIMA: dict[str, Any] = json.loads((FOLDER / "optima.json").read_text())["workloads"] if FOLDER.is_dir() else {}


def check(problem: Problem, limits: Limits, found: Solution, bound_s: float) -> None:
    """`found` is the best solution, its loads are right, and the bound is below it and near."""
    linear = instance(problem, limits)
    best = least(linear) * linear.unit_s
    assert sorted(v for stage in found.stages for v in stage.ops) == list(range(problem.ops))
    assert len(found.stages) <= linear.stages
    stage_of = {v: s for s, stage in enumerate(found.stages) for v in stage.ops}
    assert all(stage_of[t.producer] <= stage_of[r] for t in problem.tensors for r in t.readers)
    assert found.period_s == max(stage.load_s for stage in found.stages)
    assert best * (1 - 1e-9) <= found.period_s <= best * (1 + 3e-7)
    assert found.period_s * (1 - 1e-6) <= bound_s <= best * (1 + 1e-9)
    assert found.bound_s == bound_s


@MANY
@given(linear_problems(), st.data())
def test_the_best_is_found_and_proved_from_any_incumbent(problem: Problem, data: st.DataObject) -> None:
    linear = instance(problem)
    chain = data.draw(st.sampled_from(list(chains(linear))))
    check(problem, ONE_EACH, *prove(problem, ONE_EACH, _solution(problem, chain), 0.0))


@MANY
@given(linear_problems(most_ops=5), st.integers(1, 3))
def test_the_fewest_stages_are_taken(problem: Problem, stages: int) -> None:
    linear = instance(problem)
    best = least(linear)
    fewest = min(len(set(chain)) for chain in chains(linear) if max(loads(linear, chain)) == best)
    found, _ = prove(problem, ONE_EACH, in_one_stage(problem), 0.0)
    assert len(found.stages) == fewest


@MANY
@given(linear_problems(most_ops=5), st.sampled_from([0.1, 0.5]))
def test_the_fewest_stages_near_the_best_are_taken(problem: Problem, near: float) -> None:
    linear = instance(problem)
    best = least(linear)
    by_load = sorted((max(loads(linear, chain)), len(set(chain))) for chain in chains(linear))
    surely = min(stages for load, stages in by_load if load <= best * (1 + near) * (1 - 1e-6) or load == best)
    at_all = min(stages for load, stages in by_load if load <= best * (1 + near) * (1 + 1e-6))
    found, bound_s = prove(problem, ONE_EACH, in_one_stage(problem), 0.0, near_optimal=near)
    assert found.period_s <= best * linear.unit_s * (1 + near) * (1 + 1e-6)
    assert at_all <= len(found.stages) <= surely
    strict = found.strict or found
    check(problem, ONE_EACH, replace(strict, bound_s=bound_s), bound_s)
    assert found.best_period_s == strict.period_s


@MANY
@given(linear_problems(most_ops=5), st.data())
def test_exact_numbers_of_stages(problem: Problem, data: st.DataObject) -> None:
    stages = data.draw(st.integers(1, min(problem.ops, problem.cores)))
    limits = Limits(max_replicas=1, stages=stages)
    start = next(iter(chains(instance(problem, limits))))
    found, bound_s = prove(problem, limits, _solution(problem, start), 0.0)
    check(problem, limits, found, bound_s)
    assert len(found.stages) == stages


def _solution(problem: Problem, chain: tuple[int, ...]) -> Solution:
    stages = []
    for s in sorted(set(chain)):
        ops = tuple(v for v in range(problem.ops) if chain[v] == s)
        inside = set(ops)
        load = sum(float(problem.seconds[v, 0, 0]) for v in ops)
        for t in problem.tensors:
            crosses = bool(set(t.readers) - inside) if t.producer in inside else bool(set(t.readers) & inside)
            load += t.seconds * crosses
        assert brute_load(problem, ops, 0, False) is not None
        stages.append(StageChoice(ops, 0, 1, False, load, 0.0))
    period = max(stage.load_s for stage in stages)
    return Solution(tuple(stages), period, period, 0.0, True)


def test_what_is_not_linear_comes_back_unchanged() -> None:
    problem = layered(2, 2, 2)
    start = in_one_stage(problem)
    assert prove(problem, Limits(), start, 1.25) == (start, 1.25)


def test_dram_that_all_stages_share_is_a_bound() -> None:
    import numpy as np

    problem = replace(layered(2, 2, 4), dram_bytes=np.full((6, 1), 10.0), dram_bytes_per_s=5.0)
    found, bound_s = prove(problem, ONE_EACH, in_one_stage(problem), 0.0)
    assert found.period_s == bound_s == 12.0


# what ends it early


def test_an_interrupt_gives_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any, **more: Any) -> Answer:
        raise KeyboardInterrupt

    monkeypatch.setattr(prove_module, "solve", interrupted)
    problem = layered(3, 4, 3)
    found, bound_s = prove(problem, ONE_EACH, in_one_stage(problem), 0.0)
    assert float(problem.seconds[:, 0, 0].sum()) / 3 * (1 - 1e-6) <= bound_s <= found.period_s


@pytest.mark.slow
def test_a_signal_while_the_solver_works_leaves_no_thread_behind() -> None:
    """An interrupted Thread.join of CPython 3.11 gives up a thread that runs; the process then aborts at its end."""
    code = (
        "import os, signal, threading; from tests.solver.linear_problems import *;"
        "from mapper.solver.cpsat import prove as module; p = layered(12, 8, 6); module.WORK = 0.0;"
        "threading.Timer(4.0, os.kill, (os.getpid(), signal.SIGINT)).start();"
        "found, bound = module.prove(p, ONE_EACH, in_one_stage(p), 0.0, time_limit_s=120.0);"
        "print(found.stopped, bound <= found.period_s)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3], timeout=60
    )
    assert (done.returncode, done.stdout) == (0, b"True True\n")


def test_an_interrupt_is_noted_where_the_caller_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any, **more: Any) -> Answer:
        raise KeyboardInterrupt

    monkeypatch.setattr(start_module, "_relax", interrupted)
    stop, problem = Stop(), layered(3, 4, 3)
    found, _ = prove(problem, ONE_EACH, in_one_stage(problem), 0.0, stop=stop)
    assert stop.interrupted and found.stopped


def test_a_stop_from_outside_ends_it() -> None:
    stop, problem = Stop(), layered(12, 8, 6)
    stop.now()
    found, _ = prove(problem, ONE_EACH, in_one_stage(problem), 0.0, time_limit_s=60.0, stop=stop)
    assert found.stopped


@MANY
@given(linear_problems(), st.sampled_from([0.0, 0.5, 0.999, 1.0]))
def test_a_bound_that_is_known_stays(problem: Problem, part: float) -> None:
    linear = instance(problem)
    known = least(linear) * linear.unit_s * part
    found, bound_s = prove(problem, ONE_EACH, in_one_stage(problem), known)
    check(problem, ONE_EACH, replace(found, bound_s=bound_s), bound_s)
    assert bound_s >= known


def test_a_time_limit_gives_what_there_is() -> None:
    problem = layered(12, 8, 6)
    found, bound_s = prove(problem, ONE_EACH, in_one_stage(problem), 0.0, time_limit_s=0.0)
    total = float(problem.seconds[:, 0, 0].sum())
    assert total / 6 * (1 - 1e-6) <= bound_s <= found.period_s <= total


def test_a_refutation_of_what_a_checked_chain_keeps_proves_nothing() -> None:
    """OR-Tools 9.15 answers infeasible for feasible models of this kind."""
    linear = instance(layered(2, 2, 2))
    chain = (0,) * linear.ops
    state = State(linear, 1, chain, best=max(loads(linear, chain)), low=1)
    prove_module._heard(state, Answer("refuted", None, state.best + 5), state.best + 4)
    assert state.low == 1


def test_an_answer_that_is_no_chain_is_not_taken() -> None:
    linear = instance(layered(2, 2, 2))
    state = State(linear, 1, (0,) * linear.ops, best=max(loads(linear, (0,) * linear.ops)), low=1)
    state.offer(tuple(reversed(range(linear.ops))))
    state.offer((1, *(0,) * (linear.ops - 1)))
    assert state.chain == (0,) * linear.ops


# determinism


def test_workers_and_time_limits_change_nothing_of_what_is_proved() -> None:
    problem = layered(4, 4, 3)
    first = prove(problem, ONE_EACH, in_one_stage(problem), 0.0, workers=1)
    assert first[1] >= first[0].period_s * (1 - 1e-6)
    for workers, seconds in ((2, 60.0), (3, 120.0)):
        again = prove(problem, ONE_EACH, in_one_stage(problem), 0.0, workers=workers, time_limit_s=seconds)
        assert again == first


def test_after_the_clock_decided_the_stages_are_those_that_work_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any work before the clock the optimum comes from rounds by time; its stages must not depend on them."""
    problem = layered(4, 4, 3)
    monkeypatch.setattr(prove_module, "WORK", 0.0)
    found = [prove(problem, ONE_EACH, in_one_stage(problem), 0.0, workers=w, time_limit_s=30.0) for w in (1, 2)]
    assert found[0] == found[1]
    assert found[0][1] >= found[0][0].period_s * (1 - 1e-6)


@pytest.mark.slow
def test_hash_seeds_change_nothing() -> None:
    code = (
        "from tests.solver.linear_problems import *; from mapper.solver.cpsat.prove import prove;"
        "p = layered(5, 4, 4); print(prove(p, ONE_EACH, in_one_stage(p), 0.0))"
    )
    out = [
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, stdout=subprocess.PIPE,
            check=True, cwd=Path(__file__).parents[3],
        ).stdout
        for seed in ("0", "7")
    ]  # fmt: skip
    assert out[0] == out[1] and b"Solution" in out[0]


# published graphs with too many ideals


@pytest.mark.skipif(not OPTIMA, reason="the published graphs are not beside this checkout")
@pytest.mark.parametrize(
    ("name", "stages"),
    [("layer_gnmt_inference", 4), ("layer_gnmt_inference", 8), ("layer_bert24_inference", 16), ("vgg16/graph", 8)],
)
def test_published_optima_are_found_and_proved(name: str, stages: int) -> None:
    path = next(key for key in OPTIMA if name in key)
    known = OPTIMA[path]["max_stage_load"][str(stages)]
    graph = load_graph(FOLDER / path)
    problem = problem_of(graph, load_machine(f"uniform:{stages}"), given_costs(graph, 16e9))
    exact = reduce(problem).problem
    found, bound_s = prove(exact, ONE_EACH, in_one_stage(exact), 0.0, time_limit_s=60.0)
    assert found.period_s * 1e3 == pytest.approx(known["best"], rel=1e-6)
    assert bound_s * 1e3 == pytest.approx(known["best"], rel=1e-6)
    assert bound_s * 1e3 <= known["best"] * (1 + 1e-9)


def test_windows_without_a_choice_end_the_narrowing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once no op has a choice left, a round takes a tenth of nothing away: it must not go on for ever."""
    linear = instance(layered(3, 3, 3))
    calls = []

    def settled(linear: Linear, windows: Windows, period: int) -> Relaxed:
        calls.append(period)
        assert len(calls) < 9
        return Relaxed(0, Windows(windows.earliest, windows.earliest), ())

    monkeypatch.setattr(start_module, "relaxed", settled)
    _, found = narrowed(linear, sum(linear.work))
    assert calls and found.places == 0
