"""Stages run one after another are the model, whatever the cuts."""

from __future__ import annotations

from random import Random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mapper.program.model import Program
from mapper.program.split import split
from mapper.program.views import views
from tests.program.modules import NAMES, Case, case, convex, partitions, run_pieces, same
from tests.tracing import cuts

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def run(known: Case, pieces: tuple[Program, ...]) -> list[torch.Tensor]:
    """Runs `pieces` of `known` in order."""
    return run_pieces(known.program, known.weights, known.inputs, pieces)


@pytest.mark.parametrize("stages", [2, 3, 7])
@pytest.mark.parametrize("name", NAMES)
@QUICK
@given(random=st.randoms(use_true_random=False))
def test_random_convex_stages_are_bit_equal_to_the_module(name: str, stages: int, random: Random) -> None:
    known = case(name)
    parts = convex(known.graph, stages, random)
    assert len(parts) == min(stages, len(known.graph.ops))
    assert same(run(known, split(known.program, parts)), known.expected())


@pytest.mark.parametrize("name", NAMES)
@QUICK
@given(data=st.data())
def test_stages_in_a_row_are_bit_equal_to_the_module(name: str, data: st.DataObject) -> None:
    known = case(name)
    pieces = split(known.program, data.draw(partitions(known.graph)))
    assert same(run(known, pieces), known.expected())


def read_by(program: Program, stage: list[str]) -> set[str]:
    """The tensors behind all that the ops of `stage` read, by name: model inputs and ops of the whole program."""
    found, owner = views(program), {op.name: op for op in program.ops}
    parts = {op.name for op in program.ops if op.target == "getitem" and next(op.references("op")) in stage}
    out = set()
    for name in stage:
        for reference in owner[name].operands():
            root = found.root_of(reference)
            if root is not None and root[0] != "weight" and root[1] not in found.prepared:
                out.add(root[1])
    return out - set(stage) - parts


@pytest.mark.parametrize("name", NAMES)
@QUICK
@given(data=st.data())
def test_exactly_what_is_needed_crosses_a_border(name: str, data: st.DataObject) -> None:
    known = case(name)
    program = known.program
    stages = data.draw(partitions(known.graph))
    pieces = split(program, stages)
    inputs = {given.name for given in program.inputs}
    returned = {value for output in program.outputs for value in output.values()}
    behind = {root[1] for value in returned - inputs if (root := views(program).root[value]) is not None}
    available = set(inputs)
    for s, piece in enumerate(pieces):
        entering = {given.name for given in piece.inputs}
        passed_on = returned & inputs if s == 0 else set()
        assert entering == read_by(program, stages[s]) | passed_on
        assert entering <= available
        read_later = set().union(*(read_by(program, later) for later in stages[s + 1 :]))
        assert set(piece.output_names) <= read_later | returned, "nothing leaves that nobody reads"
        available |= set(piece.output_names)
    assert behind <= {name for piece in pieces for name in [op.name for op in piece.ops]} | inputs
    assert returned <= available


def test_a_tensor_read_in_three_stages_leaves_once_and_enters_each() -> None:
    known = case("views")
    linear = next(op.name for op in known.program.ops if op.target == "aten.linear.default")
    rest = [op.name for op in known.graph.ops if op.name != linear]
    pieces = split(known.program, [[linear], rest[:2], rest[2:-1], rest[-1:]])
    assert pieces[0].output_names.count(linear) == 1
    assert [linear in [given.name for given in piece.inputs] for piece in pieces[1:]] == [True, True, True]
    assert same(run(known, pieces), known.expected())


def test_an_expanded_tensor_crosses_as_what_is_behind_it() -> None:
    known = case("views")
    names = [op.name for op in known.graph.ops]
    mean = next(name for name in names if name.startswith("mean"))
    at = names.index(mean) + 1
    first, second = split(known.program, [names[:at], names[at:]])
    assert mean in first.output_names and not any(name.startswith("expand") for name in first.output_names)
    assert second.input[mean].type.shape == (1, 6)
    assert any(op.target == "aten.expand.default" for op in second.ops), "it is expanded where it is read"


def test_pieces_keep_only_the_weights_that_they_read() -> None:
    program = case("mlp").program
    pieces = split(program, cuts(case("mlp").graph, [2, 2, 0]))
    assert [[weight.name for weight in piece.weights] for piece in pieces] == [
        ["0.weight", "0.bias"], ["2.weight", "2.bias"], ["4.weight", "4.bias"],
    ]  # fmt: skip
    tied = case("tied")
    ends = split(tied.program, cuts(tied.graph, [2, 0]))
    assert all("embedding.weight" in piece.weight for piece in ends), "a shared weight goes with both of its readers"


def test_parts_of_a_tuple_stay_with_the_op_that_returns_it() -> None:
    known = case("attention")
    names = [op.name for op in known.graph.ops]
    assert not any(name.startswith("getitem") for name in names)
    at = next(i for i, op in enumerate(known.graph.ops) if "split" in op.target) + 1
    first, second = split(known.program, [names[:at], names[at:]])
    assert sorted(first.output_names) == ["getitem", "getitem_1", "getitem_2"]
    assert sorted(given.name for given in second.inputs) == ["getitem", "getitem_1", "getitem_2", "x"]


@pytest.mark.parametrize("change", ["missing", "twice", "unknown"])
def test_what_is_no_partition_is_refused(change: str) -> None:
    names = [op.name for op in case("mlp").graph.ops]
    stages = {
        "missing": [names[:2], names[3:]],
        "twice": [names[:3], names[2:]],
        "unknown": [names[:2], [*names[2:], "nothing"]],
    }[change]
    with pytest.raises(ValueError, match={"missing": "in no stage", "twice": "in two", "unknown": "nothing"}[change]):
        split(case("mlp").program, stages)
