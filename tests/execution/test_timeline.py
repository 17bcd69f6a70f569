"""Timelines of runs: what workers note, and what becomes of it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from mapper.errors import UsageError
from mapper.execution.executor import Executor
from mapper.execution.run import run
from mapper.plans.file import save_plan
from mapper.plans.timeline import Doing, Timeline
from tests.cli.commands import mapper
from tests.execution import models
from tests.execution.test_run import SOURCE
from tests.tracing import cuts, plan_for

MLP = models.mlp()


def test_a_run_tells_what_every_worker_did_with_every_call() -> None:
    plan = plan_for(MLP, cuts(MLP.graph, [4, 4]), replicas=[2, 1])
    found: list[Timeline] = []
    m = run(plan, MLP.module, items=30, oversubscribe=True, timeline=found.append)
    (timeline,) = found
    computed = [(s.stage, s.replica, s.call) for s in timeline.spans if s.doing is Doing.COMPUTING]
    assert {(stage, replica, call) for stage, replica, call in computed} >= {
        (stage, call % copies, call) for stage, copies in ((0, 2), (1, 1)) for call in range(m.warmup + m.items)
    }
    for stage, replica in ((0, 0), (0, 1), (1, 0)):
        mine = [s for s in timeline.spans if (s.stage, s.replica) == (stage, replica)]
        assert all(a.end_s == b.start_s and a.call <= b.call for a, b in itertools.pairwise(mine))
    before = {s.call: s.end_s for s in timeline.spans if s.stage == 0 and s.doing is Doing.COMPUTING}
    after = {s.call: s.start_s for s in timeline.spans if s.stage == 1 and s.doing is Doing.COMPUTING}
    assert all(before[call] <= after[call] for call in after), "one clock for all processes"
    assert min(s.start_s for s in timeline.spans) == 0 and timeline.source == "measured"


def test_only_the_last_calls_are_kept() -> None:
    plan = plan_for(MLP, cuts(MLP.graph, [8]))
    with Executor(plan, MLP.module, oversubscribe=True, traced=5) as executor:
        list(executor.map([MLP.module[0].weight.detach()[:8, :64] * 0] * 12))
        computed = [s.call for s in executor.timeline().spans if s.doing is Doing.COMPUTING]
    assert computed == list(range(7, 12))
    with pytest.raises(UsageError, match="before it is closed"):
        executor.timeline()


def test_commands_write_timelines_that_open_side_by_side(tmp_path: Path) -> None:
    plan = plan_for(MLP, cuts(MLP.graph, [4, 4]), replicas=[2, 1], source=SOURCE, request={"batch": 8})
    save_plan(plan, tmp_path / "plan.json")
    words = ["run", tmp_path / "plan.json", "--trust", "--oversubscribe", "--items", 10]
    ended = mapper(*words, "--trace", tmp_path / "run.json")
    assert ended.code == 0 and "run.json" in ended.out
    assert mapper("simulate", tmp_path / "plan.json", "--items", 10, "--trace", tmp_path / "sim.json").code == 0
    measured, simulated = (json.loads((tmp_path / name).read_text()) for name in ("run.json", "sim.json"))
    assert (measured["otherData"]["source"], simulated["otherData"]["source"]) == ("measured", "simulated")
    names = [
        {
            (e["ph"], e["name"], e["pid"], e.get("tid"), str(e["args"]))
            for e in document["traceEvents"]
            if e["ph"] == "M"
        }
        for document in (measured, simulated)
    ]
    assert names[0] == names[1], "the same stages and replicas in the same places"
