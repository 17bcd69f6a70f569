"""Tuning with contenders that take no time, whose speed is another than the model's; and the command, once for real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mapper.cost.configurations import configurations
from mapper.cost.profile import load_profile
from mapper.cost.table import CostTable
from mapper.errors import NoPlanInTime
from mapper.execution import place
from mapper.graph.model import Graph
from mapper.machine.files import load_machine
from mapper.measure.journal import Journal
from mapper.measure.profile import empty_profile
from mapper.plans.check import check, mapping_of
from mapper.plans.costs import costs_of
from mapper.plans.evaluate import evaluate
from mapper.plans.model import Plan
from mapper.reports.tune import tuning_text
from mapper.solver.plan import plan
from mapper.solver.problem import Limits
from mapper.study.sittings import KIND, Kept, Sitting
from mapper.study.trials import SITTINGS, Named, Trial, in_sittings, ratios, stage_rows
from mapper.study.tune import Search, Settings, Tuned, best_of
from tests.cli.commands import TINY, mapper
from tests.planning.test_machines import block_chain
from tests.study.test_profiling import true_costs

pytestmark = pytest.mark.machine

MACHINE = load_machine("pack:1 numa:1 group:2 core:2")
QUICK = Settings(rounds=7, screening=3, round_s=0.0)


class Compete:
    """Plans at the speed that a truth gives them, a little noise on top; notes who sat together."""

    def __init__(self, graph: Graph, truth: CostTable, noise: float = 0.01, seed: int = 0) -> None:
        self.graph, self.truth, self.noise = graph, truth, noise
        self.rng, self.sittings = np.random.default_rng(seed), list[list[str]]()

    def __call__(self, plans: Sequence[Named], rounds: int) -> list[Trial]:
        self.sittings.append([" = ".join(names) for names, _ in plans])
        found: list[Trial] = []
        for names, made in plans:
            really = evaluate(self.graph, MACHINE, self.truth, mapping_of(made))
            noise = np.exp(self.rng.normal(0, self.noise, rounds))
            rates = tuple(float(x / really.predicted.period_s) for x in noise)
            loads = [[s.load.compute_s for s in really.stages]] * rounds
            first = found[0].rates if found else rates
            over = tuple(a / b for a, b in zip(rates, first, strict=True))
            rows = stage_rows(made, self.graph, loads, 0.0)
            found.append(Trial(names, made, rates, (False,) * rounds, over, rows, 0.0))
        return found

    def rate(self, made: Plan) -> float:
        return 1 / evaluate(self.graph, MACHINE, self.truth, mapping_of(made)).predicted.period_s


def rivals(graph: Graph) -> list[Named]:
    whole, one = plan(graph, MACHINE).machine, plan(graph, MACHINE)
    assert whole == MACHINE
    streams = plan(graph, MACHINE, limits=Limits(stages=1))
    native = plan(graph, MACHINE, limits=Limits(stages=1, max_replicas=1))
    two = plan(graph, MACHINE, limits=Limits(stages=2))
    found: list[Named] = []
    for name, made in (("chosen", one), ("streams", streams), ("native", native), ("two stages", two)):
        if all(made.stages != other.stages for _, other in found):
            found.append(((name,), made))
    return found


def tuned(graph: Graph, compete: Compete, settings: Settings = QUICK) -> Tuned:
    search = Search(graph, MACHINE, empty_profile(graph, MACHINE, "eager"), compete,
                    lambda table: plan(graph, MACHINE, costs=table), settings)  # fmt: skip
    return search.tuned(rivals(graph))


@pytest.mark.parametrize("seed", range(5))
def test_it_keeps_a_plan_that_no_rival_beats_and_that_keeps_its_promises(seed: int) -> None:
    graph = block_chain(8)
    compete = Compete(graph, true_costs(graph, seed), seed=seed)
    made = tuned(graph, compete)
    best_rival = max(compete.rate(other) for _, other in rivals(graph))
    assert compete.rate(made.plan) >= best_rival * 0.98
    report = check(made.plan, graph, costs_of(made.plan, graph, made.profile))
    assert report.violations == () and len(report.verified) == 5
    assert made.plan.provenance["tuned"]["stopped"] == made.tuning.stopped
    assert [row.kept for row in made.tuning.tried].count(True) == 1


@pytest.mark.parametrize(
    ("over_streams", "kept"),
    [
        ([1.01, 1.0, 1.02, 0.99, 1.01, 1.0, 1.02], "streams"),  # within the noise
        ([1.01, 1.01, 1.01, 1.02, 1.01, 1.01, 1.01], "two stages"),  # little, but in every round
        ([1.4, 0.9, 1.3, 1.2, 0.8, 1.3, 1.1], "two stages"),  # loud, and far ahead
    ],
)
def test_of_plans_that_nothing_tells_apart_the_one_with_fewest_stages_is_kept(
    over_streams: list[float], kept: str
) -> None:
    one, other = (plan(block_chain(8), MACHINE, limits=Limits(stages=count)) for count in (1, 2))
    quiet, rates = (False,) * len(over_streams), (1.0,) * len(over_streams)
    streams = Trial(("streams",), one, rates, quiet, rates, (), 0.0)
    two = Trial(("two stages",), other, tuple(over_streams), quiet, tuple(over_streams), (), 0.0)
    assert best_of([streams, two]).name == best_of([two, streams]).name == kept


def test_planning_again_finds_what_the_model_did_not() -> None:
    """Native scales much better than the model thinks: the plan changes, and the table says so."""
    graph = block_chain(8)
    truth = true_costs(graph, 0, columns=0.0)
    truth.compute_s[:, -1] /= 4
    truth.seconds[:, -1] /= 4
    made = tuned(graph, Compete(graph, truth))
    assert {s.replicas[0].configuration.name for s in made.plan.stages} == {"2x2"}
    text = "\n".join(tuning_text(made.tuning))
    assert "It stopped because planning again gives a plan that was measured" in text and "kept" in text


def test_it_stops_when_the_plan_was_measured_and_measures_nothing_twice_before_the_end() -> None:
    graph = block_chain(8)
    compete = Compete(graph, true_costs(graph, 3))
    made = tuned(graph, compete)
    assert made.tuning.stopped.startswith("planning again gives a plan that was measured")
    tried = [name for names in compete.sittings[:-SITTINGS] for name in names[bool(names != compete.sittings[0]) :]]
    assert len(tried) == len(set(tried))
    assert all(len(names) <= 3 for names in compete.sittings[:-SITTINGS])
    assert len({tuple(names) for names in compete.sittings[-SITTINGS:]}) == 1


@pytest.mark.parametrize(("rounds", "shares"), [(1, [1]), (2, [1, 1]), (7, [3, 2, 2]), (15, [5, 5, 5])])
def test_rounds_that_decide_are_shared_out_to_several_starts(rounds: int, shares: list[int]) -> None:
    """A plan that one start favours by 5 % does not win by it."""
    graph = block_chain(4)
    compete, asked = Compete(graph, true_costs(graph, 0), noise=0.001), list[int]()
    ahead = iter([1.05, 1.0, 1.0])

    def measure(count: int) -> list[Trial]:
        asked.append(count)
        one, other = compete([(("a",), made), (("b",), made)], count)
        favour = next(ahead)
        return [one, replace(other, over_first=tuple(favour * over for over in other.over_first))]

    made = plan(graph, MACHINE)
    one, other = in_sittings(measure, rounds)
    assert asked == shares and one.names == ("a",) and other.plan is made
    assert len(one.rates) == len(one.disturbed) == len(other.over_first) == rounds
    assert all(row.rounds == rounds and row.low_s <= row.median_s <= row.high_s for row in one.stages)
    assert [row.ops for row in one.stages] == [row.ops for row in compete([(("a",), made)], 1)[0].stages]
    if rounds == 15:
        assert np.median(other.over_first) < 1.01


def test_without_time_what_people_do_is_measured_nevertheless() -> None:
    graph = block_chain(6)
    compete = Compete(graph, true_costs(graph, 1))
    search = Search(graph, MACHINE, empty_profile(graph, MACHINE, "eager"), compete,
                    lambda table: plan(graph, MACHINE, costs=table), QUICK, over=lambda: True)  # fmt: skip
    made = search.tuned(rivals(graph))
    assert made.tuning.stopped == "the time was over"
    assert {row.name for row in made.tuning.tried} == {names[0] for names, _ in rivals(graph)}


def test_a_search_that_finds_nothing_in_time_ends_the_turns() -> None:
    graph, left = block_chain(6), [1]

    def planner(table: CostTable) -> Plan:
        if left:
            left.pop()
            raise NoPlanInTime("too little time")
        return plan(graph, MACHINE, costs=table)

    search = Search(graph, MACHINE, empty_profile(graph, MACHINE, "eager"), Compete(graph, true_costs(graph, 1)),
                    planner, QUICK)  # fmt: skip
    assert search.tuned(rivals(graph)).tuning.stopped == "no plan was found in time"


def test_rounds_that_others_disturbed_do_not_count_unless_there_are_no_others() -> None:
    graph = block_chain(2)
    made = plan(graph, MACHINE)
    quiet = Trial(("a",), made, (1.0, 2.0, 9.0), (False, False, True), (1.0, 1.0, 1.0), (), 0.0)
    other = Trial(("b",), made, (1.0, 1.0, 1.0), (True, False, False), (1.0, 1.0, 1.0), (), 0.0)
    assert ratios(quiet, other) == [2.0] and quiet.rate_per_s == 1.5
    loud = Trial(("c",), made, (1.0, 2.0, 4.0), (True, True, True), (1.0, 1.0, 1.0), (), 0.5)
    assert ratios(loud, other) == [1.0, 2.0, 4.0] and loud.rate_per_s == 2.0


@pytest.mark.parametrize(("seed", "at"), [(3, 1), (3, 2), (5, 4), (5, 5)])  # with 5, the last three decide
def test_an_interrupted_search_goes_on_with_what_it_has_and_comes_to_the_same(
    tmp_path: Path, seed: int, at: int
) -> None:
    graph, told = block_chain(8), list[str]()
    truth = true_costs(graph, seed)
    limits = [Limits(stages=1, max_replicas=1, configurations=(one,)) for one in configurations(MACHINE)]
    named = [*rivals(graph), *(((f"native {i}",), plan(graph, MACHINE, limits=one)) for i, one in enumerate(limits))]

    class Interrupted(Compete):
        def __call__(self, plans: Sequence[Named], rounds: int) -> list[Trial]:
            if len(self.sittings) == at:
                raise KeyboardInterrupt
            return super().__call__(plans, rounds)

    def searched(compete: Compete | Kept) -> Tuned:
        return Search(graph, MACHINE, empty_profile(graph, MACHINE, "eager"), compete,
                      lambda table: plan(graph, MACHINE, costs=table), QUICK).tuned(named)  # fmt: skip

    def journal() -> Journal[Sitting]:
        return Journal(tmp_path, "key", 100.0, told.append, KIND).read()

    undisturbed, first, later = Compete(graph, truth), Interrupted(graph, truth), Compete(graph, truth)
    whole = searched(undisturbed)
    assert len(undisturbed.sittings) > at
    with journal() as kept, pytest.raises(KeyboardInterrupt):
        searched(Kept(first, kept))
    later.rng = first.rng  # the noise goes on where it was
    with journal() as kept:
        assert len(kept.entries) == at
        again = Kept(later, kept)
        assert searched(again) == whole and again.replayed_s > 0
    assert first.sittings + later.sittings == undisturbed.sittings and not told


COMMAND = """
import os
from mapper.execution import place
place._name = lambda pu: f"\\0mapper-test-{os.getpid()}-{pu}"
from mapper.cli.main import main
main()
"""


@pytest.mark.slow
def test_the_command_tunes_a_tiny_model_and_goes_on_where_it_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of its own, interrupted after its first sitting, then the same command again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file, costs = tmp_path / "plan.json", tmp_path / "p.json"
    words = ["tune", "--model", TINY, "--rounds", "2", "--screening", "1", "--seconds", "0.01", "-q", "-o", str(file),
             "--profile-out", str(costs)]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        until = time.monotonic() + 120
        while not any(path.read_bytes().count(b"\n") > 1 for path in tmp_path.rglob("tune-*.jsonl")):
            assert process.poll() is None and time.monotonic() < until, process.communicate()
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and "Traceback" not in err and not file.exists(), err
    assert "the same command goes on from there" in err, err
    (journal,) = tmp_path.rglob("tune-*.jsonl")
    kept = journal.read_bytes().count(b"\n") - 1
    monkeypatch.setattr(place, "_name", lambda pu: f"\0mapper-test-{os.getpid()}-{pu}")
    made = mapper(*words, "--json")
    assert made.code == 0, made.err
    assert f"going on after {kept} sitting" in made.err
    assert not list(tmp_path.rglob("tune-*.jsonl")), "it is done"
    document = json.loads(made.out)
    assert document["plan"] == json.loads(file.read_text()) and document["stopped"]
    assert sum(row["kept"] for row in document["tried"]) == 1
    assert all(row.source == "stage" for row in load_profile(costs).measurements)
    checked = mapper("check", file, "--costs", costs, "--trust")
    assert checked.code == 0 and "every load" in checked.out, checked.err
