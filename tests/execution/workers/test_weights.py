"""Weights on NUMA nodes: which replicas share a file, what is in it, and what happens where that is refused."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from typing import Any

import torch

from mapper.execution.executor import Executor
from mapper.execution.place import Places
from mapper.execution.workers.weights import placed_weights
from mapper.host.memory import Mode
from mapper.machine.synthetic import synthetic
from mapper.plans.model import Plan, WeightPlace
from mapper.program.weights import map_weights
from mapper.sources.source import source_of
from mapper.sources.stages import stage_programs
from tests.execution.models import mlp
from tests.tracing import cuts, plan_for

MLP = mlp()
MACHINE = synthetic("numa:2 group:2 core:1")


def plan(places: list[list[WeightPlace]]) -> Plan:
    """Two stages on two nodes of two cores, replicas with weights at `places`."""
    made = plan_for(MLP, cuts(MLP.graph, [4, 4]), replicas=[len(stage) for stage in places])
    core, stages = iter([0, 2, 1]), []
    for stage, given in zip(made.stages, places, strict=True):
        replicas = tuple(
            replica.model_copy(update={"cores": (next(core),), "weights": place})
            for replica, place in zip(stage.replicas, given, strict=True)
        )
        stages.append(stage.model_copy(update={"replicas": replicas}))
    return made.model_copy(update={"machine": MACHINE, "stages": tuple(stages)})


def on(*nodes: int) -> WeightPlace:
    return WeightPlace(policy="node" if len(nodes) == 1 else "interleave", nodes=nodes)


def node_of(pu: int) -> int:
    """The OS counts nodes the other way round, and from 4."""
    return {0: 5, 1: 5, 2: 4, 3: 4}[pu]


class Kernel:
    """Grants policies, or refuses them, and remembers what was asked."""

    def __init__(self, refuse: bool = False) -> None:
        self.refuse, self.asked = refuse, list[tuple[Mode, list[int]]]()

    def __call__(self, name: str, *arguments: Any) -> int:
        assert name == "mbind"
        _, _, mode, mask, _, _ = arguments
        self.asked.append((Mode(mode.value), [bit for bit in range(64) if mask[0] >> bit & 1]))
        return errno.EPERM if self.refuse else 0


PLACES: Places = (((0,), (2,)), ((1,),))


def placed(made: Plan, kernel: Kernel, stack: ExitStack, here: tuple[int, ...] = (4, 5)) -> Any:
    source = source_of(made, MLP.module)
    programs = stage_programs(made, source.program)
    whole = source.weights_fd()
    stack.callback(os.close, whole)
    files, note = placed_weights(made, programs, source, whole, PLACES, stack, here, node_of, kernel)
    return files, note, whole, programs


def test_replicas_on_a_node_share_a_file_with_the_weights_of_their_stages() -> None:
    kernel = Kernel()
    with ExitStack() as stack:
        files, note, _, programs = placed(plan([[on(0), on(1)], [on(0)]]), kernel, stack)
        assert note is None
        assert files[0, 0] == files[1, 0] != files[0, 1]
        assert kernel.asked == [(Mode.PREFERRED, [5]), (Mode.PREFERRED, [4])]
        for at, stages in {(0, 0): [0, 1], (0, 1): [0]}.items():
            found = map_weights(files[at], "weights")
            wanted = {weight.name for s in stages for weight in programs[s].weights}
            assert set(found) == wanted
            for name, tensor in found.items():
                assert torch.equal(tensor, MLP.weights[name])


def test_weights_on_all_nodes_are_interleaved() -> None:
    kernel = Kernel()
    with ExitStack() as stack:
        files, note, _, _ = placed(plan([[on(0, 1), on(0, 1)], [on(0)]]), kernel, stack)
        assert note is None and files[0, 0] == files[0, 1] != files[1, 0]
        assert kernel.asked == [(Mode.INTERLEAVE, [4, 5]), (Mode.PREFERRED, [5])]


def test_where_the_kernel_refuses_all_share_one_file_and_the_user_is_told() -> None:
    with ExitStack() as stack:
        files, note, whole, _ = placed(plan([[on(0), on(1)], [on(0)]]), Kernel(refuse=True), stack)
        assert set(files.values()) == {whole}
        assert note is not None and "not permitted" in note and "share one copy" in note


def test_on_one_node_nothing_is_asked() -> None:
    kernel = Kernel()
    with ExitStack() as stack:
        files, note, whole, _ = placed(plan([[on(0), on(1)], [on(0)]]), kernel, stack, here=(0,))
        assert set(files.values()) == {whole} and note is None and not kernel.asked


def test_a_run_computes_with_files_on_nodes(monkeypatch: Any) -> None:
    """The real kernel, asked for its only node."""
    monkeypatch.setattr("mapper.execution.workers.weights.nodes_here", lambda: (0, 1))
    made = plan_for(MLP, cuts(MLP.graph, [4, 4]), replicas=[1, 2])
    item = torch.randn(8, 64)
    with Executor(made, MLP.module, oversubscribe=True, timeout_s=60) as executor:
        (output,) = executor.map([item])
        assert not executor.notes
    with torch.inference_mode():
        assert torch.allclose(output, MLP.module(item), atol=1e-6)
