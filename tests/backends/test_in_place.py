"""Results written where they belong are those that come into buffers of the back end, bit by bit."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import pytest
import torch

from mapper.backends import in_place
from mapper.backends.core import core_of, zeros
from mapper.backends.eager import prepare
from mapper.backends.registry import BACKENDS, Loaded
from mapper.execution.executor import Executor
from mapper.execution.rings.layout import lay_out
from mapper.program.model import Program, TensorType
from mapper.sources.backend import compiled, with_backend
from mapper.sources.source import Source
from mapper.sources.stages import stage_programs
from tests.backends.stages import MLP, need, two_stages
from tests.execution import models
from tests.tracing import Traced, cuts, plan_for

IN_PLACE = ["onnxruntime", pytest.param("openvino", marks=pytest.mark.soak)]
STRIDES = models.strides()


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Loading sets the number of threads of this process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def loaded(name: str, model: Traced, sizes: list[int], stage: int) -> tuple[Program, Loaded]:
    """A stage of `model`, ready in this process."""
    plan = with_backend(plan_for(model, cuts(model.graph, sizes)), name)
    program = stage_programs(plan, model.program)[stage]
    source = Source(model.program, model.weights)
    weights = source.weights_fd()
    try:
        folder = compiled(plan, stage_programs(plan, model.program), model.weights, weights, print, print)[stage, 1]
    finally:
        os.close(weights)
    return program, need(name).load(program, model.weights, 1, folder)


def drawn(kind: TensorType, seed: int) -> torch.Tensor:
    """An input as it would lie in a slot."""
    given = zeros(kind)
    generator = torch.Generator().manual_seed(seed)
    given.copy_(torch.randn(kind.shape, generator=generator) > 0 if kind.dtype == "bool"
                else torch.randn(kind.shape, generator=generator))  # fmt: skip
    return given


def target_of(kind: TensorType) -> torch.Tensor:
    """Memory of the shape and dtype, with other values in it."""
    return torch.ones(kind.shape, dtype=getattr(torch, kind.dtype))


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.uint8)


@pytest.mark.soak
@pytest.mark.parametrize("name", IN_PLACE)
def test_bits_are_the_same_in_place_and_not(name: str) -> None:
    need(name)
    program, stage = loaded(name, MLP, [4, 4], 0)
    assert stage.into is not None and BACKENDS[name].in_place
    (kind,) = (program.type_of(output) for output in program.outputs)
    slots = [target_of(kind) for _ in range(3)]
    inputs = [drawn(program.inputs[0].type, seed) for seed in range(2)]
    inputs[1][0, :3] = torch.tensor([float("nan"), float("inf"), -0.0])
    stage.prepare([*slots[:2], inputs[0]])  # the others it meets for the first time
    for number in range(12):
        given, target = inputs[number % 2], slots[number % 3]
        target.fill_(7)
        (result,) = stage.into([given], [target])
        assert result is target
        (expected,) = stage.compute(given)
        assert expected is not target and torch.equal(bits(expected), bits(target))
        (own,) = stage.into([given], [None])
        assert own is not target and torch.equal(bits(own), bits(target))


@pytest.mark.parametrize("stage", range(3))
def test_what_is_handed_through_or_known_before_is_left_to_be_copied(stage: int) -> None:
    """With eager as the library: the outputs are transposed, expanded, inputs, constants, or there twice."""
    plan = plan_for(STRIDES, cuts(STRIDES.graph, [3, 6, 9]))
    program = stage_programs(plan, STRIDES.program)[stage]
    twice = program.model_copy(update={
        "outputs": (*program.outputs, *program.outputs), "output_names": (*program.output_names, *program.output_names)
    })  # fmt: skip
    core = core_of(twice)
    compute = prepare(core.program, STRIDES.weights, 1)
    made: list[torch.Tensor] = []

    def value(tensor: torch.Tensor) -> torch.Tensor:
        assert tensor.is_contiguous()
        made.append(tensor)
        return tensor

    def infer(given: Sequence[torch.Tensor], results: Sequence[torch.Tensor]) -> None:
        for result, computed in zip(results, compute(*given), strict=True):
            result.copy_(computed)

    ready = in_place.computed_by(in_place.Engine(1, value, infer), core, STRIDES.weights)
    assert ready.into is not None
    given = [drawn(given.type, seed) for seed, given in enumerate(program.inputs)]
    kinds = [twice.type_of(output) for output in twice.outputs]
    targets = [target_of(kind) if 0 not in kind.strides else None for kind in kinds]
    ready.prepare([*given, *(target for target in targets if target is not None)])
    prepared = len(made)
    expected = prepare(twice, STRIDES.weights, 1)(*given)
    for places in (targets, [None] * len(targets)):
        results = ready.into(given, places)
        for result, wanted, kind in zip(results, expected, kinds, strict=True):
            assert torch.equal(result, wanted), kind
        written = [result is place for result, place in zip(results, places, strict=True)]
        first = {source: i for i, source in reversed(list(enumerate(core.sources)))}
        assert written == [
            places[i] is not None and source[0] == "core" and first[source] == i
            for i, source in enumerate(core.sources)
        ]
    assert all(any(one is tensor for one in made[:prepared]) for tensor in given if tensor.is_contiguous())
    assert not any(one is tensor for one in made[prepared:] for tensor in [*given, *targets]), "each is made once"


@pytest.mark.parametrize("name", IN_PLACE)
def test_workers_copy_nothing_and_have_a_slot_more(name: str) -> None:
    need(name)
    plan = two_stages(replicas=[1, 2])
    items = [torch.randn(8, 64) for _ in range(9)]
    with Executor(plan, MLP.module, oversubscribe=True, backend=name) as executor, torch.no_grad():
        for item, output in zip(items, executor.map(items), strict=True):
            assert isinstance(output, torch.Tensor) and torch.allclose(output, MLP.module(item), atol=1e-5)
        assert [stage.copy_s for stage in executor.statistics().stages] == [0, 0]
    programs = stage_programs(plan, MLP.program)
    for backend, slots in (("eager", 2), (name, 3)):
        layout = lay_out(with_backend(plan, backend), MLP.program, programs)
        assert [channel.slots for channel in layout.channels] == [plan.predicted.window + 1, slots, slots, slots]
