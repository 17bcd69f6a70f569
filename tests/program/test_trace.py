"""From a module to its program: what comes back is the module, and what cannot be mapped is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from mapper.errors import BadInput
from mapper.graph.trace import trace
from mapper.jsonio import dumps, parse_json, plain
from mapper.program.model import Program
from mapper.program.rebuild import rebuild
from mapper.program.trace import trace_program, without_weights
from tests.program.modules import NAMES, case, module_of, same


class Model(nn.Module):
    """A module whose forward is `compute`, with a weight, a counter and layers to use in it."""

    def __init__(self, compute: Callable[..., Any]) -> None:
        super().__init__()
        self.compute = compute
        self.weight = nn.Parameter(torch.randn(4, 4))
        self.register_buffer("count", torch.zeros(1))
        self.norm, self.dropout = nn.BatchNorm1d(4), nn.Dropout()

    def forward(self, *args: Any) -> Any:
        return self.compute(self, *args)


def program_of(compute: Callable[..., Any], *inputs: Any) -> tuple[Program, dict[str, torch.Tensor]]:
    return trace_program(Model(compute).eval(), inputs or (torch.randn(4, 4),), name="mine")


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_that_torch_stumbles_over_is_one_still(end: type[BaseException]) -> None:
    """Ctrl-C while tracing came out as "torch.export cannot trace it: Trying to pop from empty mode stack"."""

    def compute(self: Model, x: torch.Tensor) -> torch.Tensor:
        try:
            raise end
        finally:
            raise RuntimeError("Trying to pop from empty mode stack")

    with pytest.raises(end):
        program_of(compute)


@pytest.mark.parametrize("name", NAMES)
def test_a_program_comes_back_from_its_json(name: str) -> None:
    program = case(name).program
    again = Program.model_validate(parse_json(dumps(plain(program)), "program.json"))
    assert again == program
    assert again.sha256 == program.sha256


@pytest.mark.parametrize("name", NAMES)
def test_a_model_without_weights_has_the_same_program(name: str) -> None:
    known = case(name)
    program, weights = trace_program(without_weights(lambda: module_of(name)), known.inputs, name=name)
    assert program == known.program
    assert program.sha256 == known.program.sha256
    assert {k: (v.shape, v.stride()) for k, v in weights.items()} == {
        k: (v.shape, v.stride()) for k, v in known.weights.items()
    }


def test_the_hash_changes_with_the_program_only() -> None:
    known = case("mlp")
    other = known.program.model_copy(update={"ops": known.program.ops[:-1], "outputs": ({"op": "linear_2"},)})
    assert other.sha256 != known.program.sha256
    assert trace_program(module_of("mlp"), (torch.zeros(4, 8),), name="mlp")[0].sha256 == known.program.sha256
    assert trace_program(module_of("mlp"), (torch.zeros(2, 8),), name="mlp")[0].sha256 != known.program.sha256


def test_tied_weights_are_one_weight() -> None:
    assert [weight.name for weight in case("tied").program.weights] == ["embedding.weight", "positions.weight"]


def test_ops_say_which_module_they_come_from() -> None:
    modules = {op.target: op.module for op in case("attention").program.ops}
    assert modules["aten.layer_norm.default"] == "norm"
    assert modules["aten.linear.default"] == "out"


def test_weights_and_inputs_that_nothing_reads() -> None:
    program, weights = program_of(lambda self, x, y: x + 1, torch.ones(4), torch.ones(3))
    assert [given.name for given in program.inputs] == ["args_0", "args_1"]
    assert program.weights == () and weights == {}


def test_a_tensor_given_twice_is_two_inputs() -> None:
    x = torch.randn(4)
    program, weights = program_of(lambda self, a, b: a - b, x, x)
    assert [list(op.references("input")) for op in program.ops] == [["args_0", "args_1"]]
    assert same(list(rebuild(program, weights)(x, x + 1)), [x - (x + 1)])


def test_keyword_inputs_and_named_outputs() -> None:
    class Named(nn.Module):
        def forward(self, left: torch.Tensor, right: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"total": left + right, "left": left}

    program, _ = trace_program(Named().eval(), (), {"left": torch.ones(2), "right": torch.ones(2)})
    assert [given.name for given in program.inputs] == ["left", "right"]
    assert program.output_names == ("total", "left")
    assert program.outputs == ({"op": "add"}, {"input": "left"})


def test_infinite_arguments_dtypes_and_devices_are_json() -> None:
    def compute(self: Model, x: torch.Tensor) -> torch.Tensor:
        return x.masked_fill(x > 0, float("-inf")).to(torch.float64) + torch.zeros(4, dtype=torch.float64)

    program, weights = program_of(compute)
    text = json.dumps(plain(program), allow_nan=False)
    assert '{"float": "-inf"}' in text and '{"dtype": "float64"}' in text
    x = torch.randn(4, 4)
    assert same(list(rebuild(program, weights)(x)), [compute(Model(compute), x)])


def test_trace_takes_a_tensor_a_tuple_or_keywords() -> None:
    module, x = module_of("mlp"), torch.zeros(4, 8)
    graphs = [trace(module, x), trace(module, (x,)), trace(module, {"input": x})]
    assert [graph.name for graph in graphs] == ["Sequential"] * 3
    assert len({graph.sha256 for graph in graphs}) == 1


def counting(self: Model, x: torch.Tensor) -> torch.Tensor:
    self.count += 1
    return x * self.count


def number(self: Model, x: torch.Tensor) -> torch.Tensor:
    return x * x.sum().item()


def branch(self: Model, x: torch.Tensor) -> torch.Tensor:
    return x if x.sum() > 0 else -x


def failing(self: Model, x: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("the model's own words")


REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "counter": (counting, "changes its own state .buffer mutation of 'count' by aten.add.Tensor"),
    "input": (
        lambda self, x: x.add_(1),
        "changes what it is given .user input mutation of 'args_0' by aten.add.Tensor",
    ),
    "statistics": (
        lambda self, x: functional.batch_norm(x, self.norm.running_mean, self.norm.running_var, training=True),
        "changes its own state .buffer mutation of 'norm.running_mean'",
    ),
    "rand": (lambda self, x: x + torch.rand_like(x), r"test_trace.py.*aten.rand_like.default draws random numbers"),
    "dropout": (lambda self, x: functional.dropout(x, 0.5), "native_dropout.default draws random numbers"),
    "attention": (
        lambda self, x: functional.scaled_dot_product_attention(x[None], x[None], x[None], dropout_p=0.1),
        "scaled_dot_product_attention.default draws random numbers",
    ),
    "nonzero": (lambda self, x: x.nonzero() * 2, r"nonzero.default cannot be mapped.*depends on the data"),
    "mask": (lambda self, x: x[x > 0], r"index.Tensor cannot be mapped.*depends on the data"),
    "item": (number, r"aten.item.default turns a tensor into a number"),
    "branch": (branch, r"test_trace.py, line \d+: torch.export cannot trace it: bool\(\) of a tensor"),
    "raise": (failing, r"test_trace.py, line \d+: torch.export cannot trace it: the model's own words"),
    "nothing": (lambda self, x: None, "returns no tensor"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_mapped_is_refused(name: str) -> None:
    compute, message = REFUSED[name]
    with pytest.raises(BadInput, match=message) as caught:
        program_of(compute)
    assert caught.value.exit_code == 3


def test_training_mode_is_refused() -> None:
    with pytest.raises(BadInput, match=r"training mode.*\nCall model.eval"):
        trace_program(Model(lambda self, x: x + 1).train(), (torch.ones(4),))
    partly = Model(lambda self, x: self.dropout(x)).eval()
    partly.dropout.train()
    with pytest.raises(BadInput, match="draws random numbers"):
        trace_program(partly, (torch.ones(4),))


@pytest.mark.parametrize("other", [2, 0.5, True, None, "text"])
def test_an_input_that_is_no_tensor_is_refused(other: object) -> None:
    with pytest.raises(BadInput, match=f"'args_1' is a {type(other).__name__}, no tensor"):
        program_of(lambda self, x, y: x + 1, torch.ones(4), other)


def test_weights_on_another_device_are_refused() -> None:
    with pytest.raises(BadInput, match=r"'0\.weight' is on meta, not on the CPU\nCall model\.cpu"):
        trace_program(module_of("mlp").to("meta"), (torch.ones(4, 8),))


def test_a_model_that_computes_nothing_is_refused() -> None:
    for compute in (lambda self, x: x, lambda self, x: x.t(), lambda self, x: torch.arange(3)):
        with pytest.raises(BadInput, match="computes nothing"):
            trace(Model(compute).eval(), torch.ones(4, 4))
