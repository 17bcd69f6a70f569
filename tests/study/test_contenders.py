"""Who takes part, what torch's launcher sets up, and what happens where memory is short."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
import torch

from mapper.errors import BadInput, SystemRefused
from mapper.machine.synthetic import synthetic
from mapper.plans.source import graph_of_source
from mapper.study.arrivals import Arrivals
from mapper.study.contenders import contenders, library_set_ups
from mapper.study.launcher import MODULE, lacking, launcher, modes
from mapper.study.seating import Course, Starter, measured, need_bytes
from tests.execution import models
from tests.study.fakes import Fake, quiet
from tests.tracing import cuts, plan_for

pytestmark = pytest.mark.machine

MLP = models.mlp()


def model() -> tuple[torch.nn.Module, torch.Tensor]:
    """What plans of these tests name as their source."""
    return MLP.module, torch.zeros(8, 64)


def test_modes_of_torch_s_launcher() -> None:
    two = modes(synthetic("core:2"))
    assert [(m.names, m.instances, m.cores) for m in two] == [(("default", "throughput"), 1, 2)]
    eight = modes(synthetic("group:2 core:4"))
    assert [(m.names, m.instances, m.cores) for m in eight] == [
        (("default", "throughput"), 1, 8), (("latency",), 2, 4)
    ]  # fmt: skip
    nodes = modes(synthetic("numa:2 group:2 core:4"))
    assert [(m.names, m.instances, m.cores) for m in nodes] == [
        (("default",), 1, 16), (("throughput",), 2, 8), (("latency",), 4, 4)
    ]  # fmt: skip


def test_modes_are_those_of_the_launcher_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it would start, asked of its own code: it is given a machine, and what it starts is written down."""
    run_cpu = pytest.importorskip(MODULE)
    text = "\n".join(f"{cpu},{cpu},0,{cpu // 8}" for cpu in range(16))
    started: list[dict[int, tuple[str, ...]]] = []

    class Context:
        def wait(self) -> None:
            pass

    def start(**given: Any) -> Context:
        started.append(given["args"])
        return Context()

    monkeypatch.setattr(run_cpu, "start_processes", start)
    monkeypatch.setattr(run_cpu._Launcher, "set_multi_thread_and_allocator", lambda *args, **kwargs: None)
    monkeypatch.setattr(run_cpu._Launcher, "is_numactl_available", lambda self: False)
    own = run_cpu._CPUinfo
    monkeypatch.setattr(run_cpu, "_CPUinfo", lambda: own(text))
    for mode in modes(synthetic("numa:2 group:2 core:4")):
        from argparse import ArgumentParser

        parser = ArgumentParser()
        run_cpu.create_args(parser)
        flag = {"default": [], "throughput": ["--throughput-mode"], "latency": ["--latency-mode"]}[mode.names[-1]]
        run_cpu.main(parser.parse_args([*flag, "--no-python", "true"]))
        shapes = [words[words.index("-c") + 1] for words in started[-1].values()]
        sizes = {1 + int(shape.partition("-")[2]) - int(shape.partition("-")[0]) for shape in shapes}
        assert (len(shapes), sizes) == (mode.instances, {mode.cores})


def test_the_launcher_is_run_by_its_own_flag_or_on_a_list_of_cores() -> None:
    here = synthetic("core:4")
    listed = launcher(modes(here)[0], here, "eager").launcher
    assert "--core-list" in listed or "--throughput-mode" in listed
    assert listed[-1] == "--no-python"


def test_the_field_on_eight_cores() -> None:
    graph, reference = graph_of_source("tests.study.test_contenders:model")
    found = contenders(graph, synthetic("group:2 core:4"), reference, 1, "eager")
    names = {name for titles, _ in found.plans for name in titles}
    assert {"chosen", "native", "native, 1 thread", "native, 2 threads", "native, 4 threads", "streams", "two stages",
            "8 stages"} <= names  # fmt: skip
    plans = [plan for _, plan in found.plans]
    assert all(a.stages != b.stages for i, a in enumerate(plans) for b in plans[:i]), "one plan, one contender"
    assert all(plan.request.backend == "eager" for plan in plans)
    if lacking() is None:
        assert any(set_up.launcher for set_up, _ in found.outside)
    else:
        assert any(MODULE in note for note in found.notes)


def test_what_libraries_bring_is_measured_with_their_back_end_or_when_asked() -> None:
    here = synthetic("core:2")
    assert library_set_ups(here, "eager", False) == []
    (own,) = library_set_ups(here, "openvino", False)
    assert own.engine == "throughput" and own.pus == (0, 1)
    assert [s.engine for s in library_set_ups(here, "onnxruntime", False)] == ["session", "shared"]
    assert {s.backend for s in library_set_ups(here, "eager", True)} <= {"openvino", "onnxruntime"}


class Memory:
    """So many bytes, of which what is up takes its part."""

    def __init__(self, size: int) -> None:
        self.free = size

    def starter(self, name: str, size: int, log: list[str]) -> Starter:
        """A contender that takes `size` while it is up."""

        def start(stack: ExitStack) -> Any:
            self.free -= size
            stack.callback(self._back, size)
            return Fake(name, [10.0], log)

        return Starter(name, size, start)

    def _back(self, size: int) -> None:
        self.free += size


def test_what_does_not_fit_at_once_is_measured_in_turn_each_time_beside_the_chosen_plan() -> None:
    memory, log = Memory(100), []  # type: tuple[Memory, list[str]]
    starters = [memory.starter(name, size, log) for name, size in
                (("chosen", 40), ("a", 50), ("b", 60), ("huge", 90), ("c", 10))]  # fmt: skip
    seats, notes = measured(starters, Course(2, 0.1), quiet, free=lambda: memory.free)
    assert [seat.series.name for seat in seats] == ["chosen", "a", "c", "b"]
    assert [seat.chosen.name for seat in seats] == ["chosen"] * 4
    assert seats[3].chosen is not seats[0].series, "the chosen plan was measured again beside b"
    assert any("b, huge ran after" in note for note in notes) and any("huge is left out" in note for note in notes)
    assert memory.free == 100
    with pytest.raises(SystemRefused, match="chosen takes about"):
        measured(starters, Course(2, 0.1), quiet, free=lambda: 30)


def test_open_loop_rounds_of_all_have_the_rates_of_the_chosen_plan() -> None:
    memory, log = Memory(100), []  # type: tuple[Memory, list[str]]
    starters = [memory.starter(name, 60, log) for name in ("chosen",)] + [memory.starter("a", 10, log)]
    seats, _ = measured(starters, Course(3, 0.5, Arrivals()), quiet, free=lambda: memory.free)
    assert [list(seat.open) for seat in seats] == [[5.0, 7.0, 9.0]] * 2
    assert all(len(rounds) == 1 for seat in seats for rounds in seat.open.values())


def test_copies_of_weights_are_counted_for_libraries_that_make_them() -> None:
    plan = plan_for(MLP, cuts(MLP.graph, [8]))
    other = plan.model_copy(update={"request": plan.request.model_copy(update={"backend": "openvino"})})
    need, needed = (need_bytes(p, 4, 10**9, forked=True) for p in (plan, other))
    assert needed - need == 8 * 10**9 and need > 10**9
    assert need_bytes(plan, 4, 10**9, forked=False) > need, "each has loaded all by itself"


def test_what_is_somebody_elses_and_cannot_be_started_is_left_out() -> None:
    def fails(stack: ExitStack) -> Any:
        raise BadInput("stage 0", "the library cannot compile it")

    memory, log = Memory(100), []  # type: tuple[Memory, list[str]]
    chosen = memory.starter("chosen", 10, log)
    seats, notes = measured([chosen, Starter("own way", 1, fails, optional=True)], Course(2, 0.1), quiet)
    assert [seat.series.name for seat in seats] == ["chosen"]
    assert notes == ["own way is left out: stage 0: the library cannot compile it"]
    with pytest.raises(BadInput):
        measured([chosen, Starter("a plan", 1, fails)], Course(2, 0.1), quiet)
