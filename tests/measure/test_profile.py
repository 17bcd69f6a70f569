"""Parts of a program timed by real processes, the command that does so, and what a run says of its stages."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mapper import jsonio
from mapper.cost.configurations import configurations
from mapper.cost.profile import MeasuredOps, load_profile, merged
from mapper.cost.profiled import profiled
from mapper.cost.roofline import roofline
from mapper.errors import ExecutionFailed, MachineMismatch, UsageError
from mapper.execution import place
from mapper.host.affinity import allowed_pus
from mapper.machine.discover import discover
from mapper.machine.files import load_machine
from mapper.machine.restrict import restrict
from mapper.measure.forked import Barrier, answers
from mapper.measure.parts import parted
from mapper.measure.profile import Chain, PartTimer, add_to, empty_profile, pus_here, recorded
from mapper.plans.file import load_plan
from mapper.plans.source import graph_of_source
from mapper.solver.plan import plan
from mapper.sources.source import Source
from tests.cli.commands import TINY, mapper
from tests.cost.profiles import measured
from tests.planning.test_machines import block_chain
from tests.program.modules import Case, case

pytestmark = pytest.mark.machine

QUICK = ("--rounds", "1", "--seconds", "0.001", "--budget", "20s", "-q")


@cache
def attention() -> Case:
    return case("attention")


def timer(backend: str = "eager") -> PartTimer:
    tiny = attention()
    return PartTimer(tiny.graph, discover(), Source(tiny.program, tiny.weights), tiny.inputs, backend,
                     rounds=2, seconds=0.001)  # fmt: skip


@pytest.fixture
def own_claims(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Cores that no other run of this machine can have taken, and a cache of its own."""
    monkeypatch.setattr(place, "_name", lambda pu: f"\0mapper-test-{os.getpid()}-{pu}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return iter(())


def test_every_part_is_timed_in_turn_and_alone_with_every_configuration() -> None:
    ops = range(len(attention().graph.ops))
    with timer() as parts:
        for config in configurations(discover()):
            chain = Chain(config, tuple((v,) for v in ops), "cold", "op")
            rows = parts.measure(chain)
            assert [row.what for row in rows] == list(chain.keys())
            assert all(0 < row.low_s <= row.median_s <= row.high_s < 1 and row.rounds == 2 for row in rows)
        halves = Chain(config, (tuple(ops[:2]), tuple(ops[2:])), "hot", "segment")
        assert [row.count for row in parts.measure(halves)] == [2, len(ops) - 2]
        middle = Chain(config, (tuple(ops[2:4]),), "cold", "segment")  # what enters it is computed beforehand
        assert parts.measure(middle)[0].ops == ((2, 4),)
        pid = parts._process.pid
    assert pid is not None and not Path(f"/proc/{pid}").exists()


def test_what_cannot_be_loaded_is_told_and_the_next_question_answered() -> None:
    config = configurations(discover())[0]
    with timer() as parts:
        with pytest.raises(ExecutionFailed, match="no op that a stage could have"):
            parts._process.value("parts", 10, parts=[["nothing"]], backend="eager", threads=1, teams=[[0]],
                                 artefacts=[None], alone=False, sweep_bytes=0, rounds=1, seconds=0.0)  # fmt: skip
        assert parts.measure(Chain(config, ((0,),), "cold", "op"))


def test_a_graph_without_a_program_cannot_be_profiled() -> None:
    with pytest.raises(UsageError, match="traced model"):
        PartTimer(block_chain(2), discover(), Source(attention().program, {}), ())


def test_parts_are_what_they_would_be_as_stages() -> None:
    tiny = attention()
    names = [op.name for op in tiny.graph.ops]
    first, last = parted(tiny.program, [names[:2], names[-1:]])
    assert [name for name in names if name in first.op] == names[:2]
    assert [name for name in names if name in last.op] == names[-1:]
    assert len(last.outputs) == len(tiny.program.outputs)


def test_children_wait_for_each_other_and_not_for_one_that_failed() -> None:
    barrier, pus = Barrier(3), list(allowed_pus())

    def child(number: int) -> Any:
        def work() -> int:
            try:
                if number == 2:
                    raise ValueError("no more")
                for _ in range(5):
                    barrier.wait(number)
                return number
            finally:
                barrier.leave(number)

        return work

    with pytest.raises(RuntimeError, match="no more"):
        answers([(pus, child(i)) for i in range(3)])
    assert answers([(pus, lambda i=i: [i] * 20_000) for i in range(2)])[1] == [1] * 20_000  # more than a pipe holds


@pytest.mark.usefixtures("own_claims")
def test_a_profile_is_made_planned_with_and_checked(tmp_path: Path) -> None:
    file, planned = tmp_path / "a.profile.json", tmp_path / "plan.json"
    made = mapper("profile", "--model", TINY, "-o", file, *QUICK)
    assert made.code == 0 and "It ended because" in made.out, made.err
    found = load_profile(file)
    assert {row.source for row in found.measurements} == {"op", "segment"}
    assert {row.configuration for row in found.measurements} == {c.name for c in configurations(discover())}
    assert not list((tmp_path / "cache").rglob("*.jsonl"))  # what was kept is no longer needed
    assert mapper("plan", "--model", TINY, "--costs", file, "-o", planned, "-q").code == 0
    costs = load_plan(planned).request.costs
    assert costs["source"] == "profile" and costs["profile_sha256"] == found.sha256
    checked = mapper("check", planned, "--costs", file, "--trust")
    assert checked.code == 0 and "every load" in checked.out
    without = mapper("check", planned, "--trust")
    assert without.code == 0 and "--costs: the profile" in without.out


def test_stale_profiles_are_refused_by_the_command(tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    graph, machine = graph_of_source(TINY)[0], discover()
    row = measured(graph, machine, roofline(graph, machine), [0], configurations(machine)[0])
    rows = empty_profile(graph, machine, "eager").model_copy(update={"measurements": (row,)})
    whole = jsonio.plain(rows)

    def told(change: dict[str, Any], *options: str, model: str = TINY) -> tuple[int, str]:
        file.write_text(json.dumps(whole | change))
        result = mapper("plan", "--model", model, "--costs", file, "-q", *options)
        return result.code, result.err

    other = {**whole["machine"], "cpu_model": "another"}
    for change, options, code, words in (
        ({}, ("--backend", "openvino"), 3, "--backend openvino"),
        ({"versions": {"torch": "1.0"}}, (), 3, "Profile the model again"),
        ({"graph_sha256": "0" * 64}, (), 3, "/graph_sha256"),
        ({"machine": other}, (), 6, "CPU model 'another'"),
        ({}, ("--topo", "sg2042"), 6, "SG2042"),
        ({}, ("--columns", "auto"), 2, "--columns auto"),
    ):
        found = told(change, *options)
        assert found[0] == code and words in found[1], found
    assert told({})[0] == 0
    assert mapper("plan", "--graph", file, "--topo", "uniform:2", "--costs", file, "-q").code == 3


@pytest.mark.usefixtures("own_claims")
def test_interrupted_it_writes_what_it_has_and_goes_on_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, asked = tmp_path / "p.json", []

    def interrupted(self: PartTimer, chain: Chain) -> Sequence[MeasuredOps]:
        asked.append(chain)
        if len(asked) == 3:
            raise KeyboardInterrupt
        table = roofline(self.graph, self.machine)
        how = (chain.config, chain.residency, chain.source)
        return [measured(self.graph, self.machine, table, part, *how) for part in chain.parts]

    monkeypatch.setattr(PartTimer, "measure", interrupted)
    first = mapper("profile", "--model", TINY, "-o", file, *QUICK)
    assert first.code == 130 and "Interrupted" in first.out
    kept = load_profile(file).measurements
    assert kept and list((tmp_path / "cache").rglob("profile-*.jsonl"))
    second = mapper("profile", "--model", TINY, "-o", file, *QUICK)
    assert second.code == 0 and f"going on after {len(kept)} measurements" in second.err
    assert load_profile(file).measurements[: len(kept)] == kept
    assert asked[3] == asked[2]  # it takes up what it was at


def test_what_a_run_measured_becomes_costs(tmp_path: Path) -> None:
    tiny = attention()
    machine = discover()
    made = plan(tiny.graph, machine)
    stages = tuple(SimpleNamespace(compute_s=0.5 + s.id, load_s=0.6 + s.id) for s in made.stages)
    workers = tuple(
        SimpleNamespace(stage=s.id, load_s=0.6 + s.id) for s in made.stages for _ in s.replicas
    )  # fmt: skip
    run: Any = SimpleNamespace(stages=stages, workers=workers, items=40, others_busy=0.0, backend="eager")
    found = recorded(made, run)
    assert [row.median_s for row in found.measurements] == [stage.compute_s for stage in stages]
    assert all(row.residency == "stream" and row.source == "stage" for row in found.measurements)
    whole = merged([empty_profile(tiny.graph, machine, "eager"), found])
    assert [whole.names(row) for row in whole.measurements] == [stage.ops for stage in made.stages]
    fit = profiled(whole, tiny.graph, machine, roofline(tiny.graph, machine))
    assert all(seconds == pytest.approx(row.median_s, rel=0.02) for row, seconds in fit.fitted_s)
    first = add_to(tmp_path / "p.json", found)
    again: Any = SimpleNamespace(**{**vars(run), "items": 80})
    assert add_to(tmp_path / "p.json", recorded(made, again)) == load_profile(tmp_path / "p.json")
    rounds = {row.rounds for row in load_profile(tmp_path / "p.json").measurements}
    assert len(first.measurements) == len(made.stages) and max(rounds) > max(row.rounds for row in first.measurements)
    with pytest.raises(MachineMismatch, match="CPU model"):
        recorded(made, run, machine.model_copy(update={"cpu_model": "another"}))


def test_cores_are_found_under_the_numbers_that_they_have_now() -> None:
    machine = load_machine("pack:1 numa:1 group:2 core:2")
    turned = machine.model_copy(update={"nodes": tuple(
        node.model_copy(update={"groups": tuple(tuple((3 - pu,) for (pu,) in group) for group in node.groups)})
        for node in machine.nodes
    )})  # fmt: skip
    assert pus_here(machine, machine) == (0, 1, 2, 3) and pus_here(machine, turned) == (3, 2, 1, 0)
    part = restrict(machine, cores="1-3")
    assert pus_here(part, turned) == (2, 1, 0)
    with pytest.raises(MachineMismatch, match="core 0"):
        pus_here(machine, part)
    with pytest.raises(MachineMismatch, match="another machine than this one: shape"):
        pus_here(load_machine("sg2042"), machine)
