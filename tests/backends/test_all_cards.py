"""Every bundled card with the back ends that compile quickly: a stage for one thread, and one for a team."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mapper.execution.run import run
from mapper.graph.measure import graph_of
from mapper.program.cards import card_names
from mapper.program.items import random_items
from mapper.program.realise import realise
from mapper.program.trace import trace_program
from tests.backends.stages import need
from tests.tracing import Traced, cuts, plan_for


def card(name: str) -> tuple[Traced, list[dict[str, torch.Tensor]]]:
    """The card called `name` with its weights, and items of it."""
    made = realise(name)
    made.module.requires_grad_(False)
    program, weights = trace_program(made.module, made.args, made.kwargs, name=name)
    return Traced(made.module, program, weights, graph_of(program)), random_items(made.inputs, 2)


@pytest.mark.soak
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("model", card_names())
def test_outputs_are_within_tolerance(model: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # else the cache of the other tests is full of these
    made, items = card(model)
    half = len(made.graph.ops) // 2
    plan = plan_for(made, cuts(made.graph, [half, half]), threads=[1, 2])
    found = run(plan, made.module, items=3, warmup=0, inputs=items, oversubscribe=True, backend=name)
    assert found.outputs_within_tolerance and not found.outputs_identical
