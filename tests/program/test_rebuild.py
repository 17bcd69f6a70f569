"""A program is rebuilt into the module; a program from a stranger can name nothing but operators that compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mapper.errors import BadInput
from mapper.jsonio import plain, validated
from mapper.program.model import Program
from mapper.program.rebuild import interpret, rebuild
from tests.program.modules import NAMES, case, same

TENSOR = {"shape": [4], "strides": [1], "dtype": "float32"}


def document(target: str = "aten.relu.default", args: Any = ({"input": "x"},), **changes: Any) -> dict[str, Any]:
    """A program of one op."""
    op = {"name": "only", "target": target, "args": list(args), "outputs": [TENSOR]}
    return {
        "schema": "mapper-program/1", "name": "p", "inputs": [{"name": "x", "type": TENSOR}], "weights": [],
        "ops": [op], "outputs": [{"op": "only"}], **changes,
    }  # fmt: skip


def program_of(*arguments: Any, **changes: Any) -> Program:
    return validated(Program, document(*arguments, **changes), "program.json")


@pytest.mark.parametrize("name", NAMES)
def test_the_rebuilt_program_is_bit_equal_to_the_module(name: str) -> None:
    known = case(name)
    module = rebuild(known.program, known.weights)
    with torch.no_grad():
        assert same(list(module(*known.inputs)), known.expected())
        assert same(list(interpret(known.program, known.weights, known.inputs, lambda op: None)), known.expected())


def test_a_view_of_what_this_torch_lays_out_otherwise_is_computed() -> None:
    """Attention with an expanded mask, traced with torch 2.13, could not be run with 2.6: its result has other strides
    there."""
    tensor = {"shape": [2, 3, 4], "strides": [12, 4, 1], "dtype": "float32"}
    flat = {"shape": [6, 4], "strides": [4, 1], "dtype": "float32"}
    op = {"name": "only", "target": "aten.view.default", "args": [{"input": "x"}, [6, 4]], "outputs": [flat], "view": 1}
    program = program_of(inputs=[{"name": "x", "type": tensor}], ops=[op])
    laid_out_otherwise = torch.arange(24.0).reshape(3, 2, 4).transpose(0, 1)
    for (found,) in (
        rebuild(program, {})(laid_out_otherwise),
        interpret(program, {}, [laid_out_otherwise], lambda op: None),
    ):
        assert torch.equal(found, laid_out_otherwise.reshape(6, 4))


def test_the_interpreter_switches_threads_and_switches_back() -> None:
    known = case("mlp")
    before, seen = torch.get_num_threads(), []

    def threads_of(name: str) -> int:
        seen.append(torch.get_num_threads())
        return 1 + len(seen) % 2

    interpret(known.program, known.weights, known.inputs, threads_of)
    assert seen == [before, 2, 1, 2, 1, 2]
    assert torch.get_num_threads() == before


def test_weights_are_used_in_place() -> None:
    known = case("mlp")
    module = rebuild(known.program, known.weights)
    assert {b.data_ptr() for b in module.buffers()} == {w.data_ptr() for w in known.weights.values()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "'0.weight' is missing"),
        (torch.ones(8, 7), r"'0.weight' is torch.float32\[8, 7\], not float32\[8, 8\]"),
        (torch.ones(8, 8, dtype=torch.float64), r"'0.weight' is torch.float64\[8, 8\], not float32"),
    ],
)
def test_weights_of_another_type_are_refused(change: torch.Tensor | None, message: str) -> None:
    known = case("mlp")
    weights = {name: tensor for name, tensor in known.weights.items() if name != "0.weight"}
    with pytest.raises(BadInput, match=message):
        rebuild(known.program, weights if change is None else weights | {"0.weight": change})


@pytest.mark.parametrize(
    "target",
    ["os.system.default", "getattr", "eval", "aten.relu", "builtins.eval.default", "torch.ops.aten.relu.default",
     "aten.relu.default; import os", "aten.__class__.__init__.x", "aten.1.default", "quantized.linear.default", ""],
)  # fmt: skip
def test_a_name_outside_torch_s_operators_is_refused_when_read(target: str) -> None:
    with pytest.raises(BadInput, match=r"/ops/0/target: .*not an operator of torch's own namespaces") as caught:
        program_of(target)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("target", ["aten.nothing.default", "aten.relu.nothing", "prims.nothing.default"])
def test_an_op_that_this_torch_lacks_is_refused(target: str) -> None:
    with pytest.raises(BadInput, match=f"only: torch .* has no operator {target}\n"):
        rebuild(program_of(target), {})


@pytest.mark.parametrize(
    "target", ["aten.relu_.default", "aten.add.out", "aten.__init__.__doc__", "aten.relu.__class__"]
)
def test_operators_that_do_more_than_compute_are_refused(target: str) -> None:
    with pytest.raises(BadInput, match="no operator"):
        rebuild(program_of(target), {})


def test_operators_that_open_files_are_refused(tmp_path: Path) -> None:
    args = [str(tmp_path / "f"), False, 4]
    with pytest.raises(BadInput, match=r"aten\.from_file\.default is no operator that only computes"):
        rebuild(program_of("aten.from_file.default", args), {})


GETITEM = {"name": "part", "target": "getitem", "args": [{"op": "only"}, 0], "outputs": [TENSOR]}


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"args": [{"op": "later"}]}, "/ops/0: only reads the op 'later'"),
        ({"args": [{"op": "only"}]}, "/ops/0: only reads the op 'only'"),
        ({"args": [[{"weight": "w"}]]}, "/ops/0: only reads the weight 'w'"),
        ({"args": [{"input": "y"}]}, "/ops/0: only reads the input 'y'"),
        ({"outputs": [{"op": "other"}]}, "/outputs/0: .* refers to no tensor"),
        ({"outputs": [{"op": "only", "input": "x"}]}, "/outputs/0: .* refers to no tensor"),
        ({"outputs": ["only"]}, "/outputs/0: 'only' refers to no tensor"),
        ({"inputs": [{"name": "x", "type": TENSOR}] * 2}, "/inputs/1: a second input is called 'x'"),
        ({"ops": [document()["ops"][0]] * 2}, "/ops/1: a second op or input is called 'only'"),
        ({"ops": [document()["ops"][0], GETITEM]}, "/ops/1: part reads 'only': only getitem reads tuples"),
        ({"ops": [{**GETITEM, "args": [0]}]}, "/ops/0: getitem takes an op that returns a tuple"),
        ({"ops": [{**GETITEM, "args": [{"op": "only"}, "__class__"]}]}, "/ops/0: getitem takes an op"),
        ({"inputs": [{"name": "x", "type": {**TENSOR, "dtype": "object"}}]}, "/inputs/0/type: unknown dtype"),
        ({"inputs": [{"name": "x", "type": {**TENSOR, "strides": [-1]}}]}, "/inputs/0/type: shape and strides"),
        ({"code": "import os"}, "/code: unknown field"),
        ({"schema": "mapper-program/2"}, "/schema"),
    ],
)  # fmt: skip
def test_a_program_that_makes_no_sense_is_refused(changes: dict[str, Any], place: str) -> None:
    with pytest.raises(BadInput, match=f"program.json, {place}"):
        program_of(**changes)


@pytest.mark.parametrize("argument", [{"dtype": "Tensor"}, {"layout": "float32"}, {"code": "1"}, {"dtype": "load"}])
def test_arguments_that_mapper_does_not_know_are_refused(argument: dict[str, str]) -> None:
    with pytest.raises(BadInput, match="no argument that mapper knows"):
        rebuild(program_of("aten.relu.default", [{"input": "x"}, argument]), {})


def test_names_of_a_stranger_never_become_code() -> None:
    name = "x): __import__('os').abort() #"
    program = program_of(
        "aten.relu.default", [{"input": name}], inputs=[{"name": name, "type": TENSOR}],
    )  # fmt: skip
    program = program.model_copy(update={"ops": (program.ops[0].model_copy(update={"name": name + "op"}),),
                                         "outputs": ({"op": name + "op"},)})  # fmt: skip
    x = torch.tensor([-1.0, 1, 2, 3])
    assert same(list(rebuild(program, {})(x)), [torch.relu(x)])


def test_a_program_of_one_op_reads_back() -> None:
    """The document that the refusals above change is right by itself."""
    program = program_of()
    assert plain(program)["ops"][0]["target"] == "aten.relu.default"
    assert same(list(rebuild(program, {})(torch.tensor([-1.0, 0, 1, 2]))), [torch.tensor([0.0, 0, 1, 2])])
