"""What is left to a compiler of a stage, and what is joined to its outputs."""

from __future__ import annotations

import pytest
import torch

from mapper.backends.core import core_of, zeros
from mapper.backends.eager import prepare
from mapper.program.model import Program, TensorType
from mapper.program.trace import trace_program
from tests.execution import models
from tests.program.modules import NAMES, case, same
from tests.tracing import traced


def whole(program: Program, weights: dict[str, torch.Tensor]) -> tuple[list[int], object]:
    core = core_of(program)
    run = prepare(core.program, weights, 1) if core.program.outputs else None
    return list(core.inputs), core.compute(weights, (lambda given: run(*given)) if run else tuple)


@pytest.mark.parametrize("name", NAMES)
def test_core_and_rest_are_the_stage(name: str) -> None:
    found = case(name)
    _, compute = whole(found.program, found.weights)
    with torch.inference_mode():
        assert same(list(compute(*found.inputs)), found.expected())  # type: ignore[operator]


def test_what_is_handed_through_or_constant_or_given_twice_is_not_compiled() -> None:
    found = models.strides()
    core = core_of(found.program)
    assert [kind for kind, _ in core.sources] == ["core"] * 5 + ["input", "core"]
    assert core.inputs == (0,) and core.sources[5] == ("input", 1)
    assert len(core.program.outputs) == len(set(map(str, core.program.outputs))) == 6

    class Constant(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.arange(6.0))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            y = x + 1
            return self.weight * 2, x, y, self.weight, y

    made = traced(Constant(), torch.ones(6), name="constant")
    core = core_of(made.program)
    assert core.sources == (("constant", 0), ("input", 0), ("core", 0), ("constant", 1), ("core", 0))
    assert core.program.weights == ()
    _, compute = whole(made.program, made.weights)
    x = torch.full((6,), 3.0)
    with torch.no_grad():
        assert same(list(compute(x)), list(made.module(x)))  # type: ignore[operator]


def test_a_stage_that_computes_nothing_has_no_core() -> None:
    class Through(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x

    program, weights = trace_program(Through().eval(), (torch.ones(2),), name="through")
    assert core_of(program).program.outputs == ()
    inputs, compute = whole(program, weights)
    assert inputs == [] and all(out.tolist() == [1, 1] for out in compute(torch.ones(2)))  # type: ignore[operator]


def test_example_inputs_lie_as_in_a_slot() -> None:
    kind = TensorType(shape=(2, 3), strides=(1, 4), dtype="int64")
    made = zeros(kind)
    assert (made.shape, made.stride(), made.dtype) == ((2, 3), (1, 4), torch.int64)
