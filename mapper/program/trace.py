"""From a torch module to a `Program`, by torch.export with an empty decomposition table (bit-equal to the module)."""

from __future__ import annotations

import contextlib
import logging
import operator
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from mapper.errors import BadInput
from mapper.program.model import Input, Program, ProgramOp, TensorType, Weight

Tensors = dict[str, torch.Tensor]


def trace_program(
    model: torch.nn.Module, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, *, name: str = "model"
) -> tuple[Program, Tensors]:
    """The program of `model` called with `args` and `kwargs`, and its weights by name.

    Weights may be fake (a model on the meta device, see `without_weights`): the program is the same, the weights are
    then fake too.

    Raises: BadInput when the model cannot be exported, mutates its inputs or buffers, or draws random numbers.
    """
    if model.training:
        raise BadInput(
            name, "the model is in training mode, where it draws random numbers", advice="Call model.eval() first."
        )
    other = {tensor.device.type for tensor in model.parameters()} - {"cpu"}
    if other:
        raise BadInput(
            name, f"weights are on {', '.join(sorted(other))}, not on the CPU", advice="Call model.cpu() first."
        )
    exported = _export(model, tuple(args), dict(kwargs or {}), name)
    return _Reader(exported, _first_names(model), name).read()


def without_weights(build: Any) -> torch.nn.Module:
    """The module that `build()` returns, with fake weights: shapes and dtypes, no memory.

    The module is built on the meta device, where nothing is allocated or initialised; its weights are then replaced
    by fake CPU tensors, so that the traced program is the one of the real module.
    """
    with torch.device("meta"):
        module: torch.nn.Module = build()
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    fakes: dict[int, torch.Tensor] = {}

    def fake(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in fakes:
            with mode:
                made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
            parameter = isinstance(tensor, torch.nn.Parameter)
            fakes[id(tensor)] = torch.nn.Parameter(made, requires_grad=False) if parameter else made
        return fakes[id(tensor)]

    for part in module.modules():
        for table in (part._parameters, part._buffers):
            for key, tensor in table.items():
                if tensor is not None:
                    table[key] = fake(tensor)  # type: ignore[assignment]
    return module.eval()


def _first_names(model: torch.nn.Module) -> dict[str, str]:
    """For each parameter and buffer name the first name of the same tensor, so that shared weights count once."""
    first: dict[int, str] = {}
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {name: first.setdefault(id(tensor), name) for name, tensor in named}


def _export(model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> Any:
    modes = {t.fake_mode for t in model.parameters() if isinstance(t, FakeTensor)}
    try:
        with _quiet(), next(iter(modes), contextlib.nullcontext()):
            # a tensor given twice must become two inputs: each place gets a tensor object of its own
            own = torch.empty_like if modes else torch.Tensor.detach
            args, kwargs = torch.utils._pytree.tree_map_only(torch.Tensor, own, (args, kwargs))
            return torch.export.export(model, args, kwargs, strict=False).run_decompositions({})
    except Exception as error:  # torch.export raises whatever the model raises
        lines = [line for line in str(error).splitlines() if line.strip()]
        what = lines[0] if lines else type(error).__name__
        raise BadInput(name, f"torch.export cannot trace it: {what}", place=_place(error)) from error


def _place(error: BaseException) -> str:
    """The innermost line of model code that `error` passed through: outside torch and this package."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [f for f in frames if "/torch/" not in f.filename and "/mapper/program/" not in f.filename]
    return f"{inside[-1].filename}, line {inside[-1].lineno}" if inside else ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps torch's own deprecation notes, which nobody here can act on, off the user's terminal."""
    logger = logging.getLogger("torch.export")
    level = logger.level
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="torch")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


class _Reader:
    """Reads an exported program into ours."""

    def __init__(self, exported: Any, first_names: dict[str, str], name: str) -> None:
        self.exported = exported
        self.first = first_names
        self.name = name
        self.reference: dict[str, dict[str, str]] = {}
        self.inputs: list[Input] = []
        self.weights: dict[str, Weight] = {}
        self.tensors: Tensors = {}
        self.ops: list[ProgramOp] = []

    def read(self) -> tuple[Program, Tensors]:
        specs = {spec.arg.name: spec for spec in self.exported.graph_signature.input_specs if hasattr(spec.arg, "name")}
        self._refuse_mutations()
        graph = self.exported.graph_module.graph
        graph.eliminate_dead_code(is_impure_node=lambda node: node.op in ("placeholder", "output"))
        for node in graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node, specs[node.name])
            elif node.op == "call_function":
                self.reference[node.name] = {"op": node.name}
                self.ops.append(self._op(node))
            elif node.op != "output":
                raise BadInput(self.name, f"{node.op} {node.target!r} is no plain tensor op", place=_line(node))
        output = next(node for node in graph.nodes if node.op == "output")
        outputs, names = self._outputs(output)
        used = {name for op in self.ops for name in op.references("weight")} | {
            o["weight"] for o in outputs if "weight" in o
        }
        weights = tuple(weight for weight in self.weights.values() if weight.name in used)
        program = Program(
            name=self.name,
            inputs=tuple(self.inputs),
            weights=weights,
            ops=tuple(self.ops),
            outputs=tuple(outputs),
            output_names=tuple(names),
        )
        return program, {weight.name: self.tensors[weight.name] for weight in weights}

    def _refuse_mutations(self) -> None:
        for spec in self.exported.graph_signature.output_specs:
            if spec.kind.name not in ("USER_OUTPUT", "TOKEN"):
                what = spec.kind.name.lower().replace("_", " ")
                raise BadInput(
                    self.name,
                    f"the model changes its own state ({what} of {spec.target!r})",
                    advice="Only models whose items are independent of each other can be mapped.",
                )

    def _placeholder(self, node: torch.fx.Node, spec: Any) -> None:
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor):
            raise BadInput(
                self.name,
                f"the input {node.name!r} is a {type(value).__name__}, no tensor",
                advice="Bind other arguments before tracing (functools.partial or a small module).",
            )
        if spec.kind.name == "USER_INPUT":
            self.reference[node.name] = {"input": node.name}
            self.inputs.append(Input(name=node.name, type=tensor_type(value, node.name)))
            return
        target = self.first.get(spec.target, spec.target)
        self.reference[node.name] = {"weight": target}
        if target not in self.weights:
            self.weights[target] = Weight(name=target, type=tensor_type(value, target))
            state = self.exported.state_dict
            self.tensors[target] = (
                state[spec.target] if spec.target in state else self.exported.constants[spec.target]
            ).detach()

    def _op(self, node: torch.fx.Node) -> ProgramOp:
        target: Any = node.target
        if target is operator.getitem:
            name, view = "getitem", True
        elif isinstance(target, torch._ops.OpOverload):
            name = f"{target.namespace}.{target._opname}.{target._overloadname}"
            returns = target._schema.returns
            view = len(returns) == 1 and returns[0].alias_info is not None and not returns[0].alias_info.is_write
            if torch.Tag.nondeterministic_seeded in target.tags and _draws(node, target):
                raise BadInput(
                    self.name, f"{name} draws random numbers", place=_line(node), advice="Trace the model in eval mode."
                )
        else:
            raise BadInput(self.name, f"{target} is no torch operator", place=_line(node))
        value = node.meta.get("val")
        many = isinstance(value, tuple | list)
        parts: list[Any] = list(value) if isinstance(value, tuple | list) else [value]
        if not any(isinstance(part, torch.Tensor) for part in parts):
            raise BadInput(
                self.name,
                f"{name} turns a tensor into a number of the program",
                place=_line(node),
                advice="Keep it a tensor: no .item(), int() or float() of one.",
            )
        try:
            return ProgramOp(
                name=node.name,
                target=name,
                args=tuple(self._encode(a) for a in node.args),
                kwargs={key: self._encode(a) for key, a in node.kwargs.items()},
                many=many,
                view=view,
                outputs=tuple(tensor_type(p, node.name) if isinstance(p, torch.Tensor) else None for p in parts),
                module=_module(node),
            )
        except (ValueError, BadInput) as error:
            raise BadInput(self.name, f"{name} cannot be mapped: {error}", place=_line(node)) from error

    def _encode(self, argument: Any) -> Any:
        if isinstance(argument, torch.fx.Node):
            return self.reference[argument.name]
        if isinstance(argument, tuple | list):
            return [self._encode(a) for a in argument]
        return encode_constant(argument)

    def _outputs(self, node: torch.fx.Node) -> tuple[list[dict[str, str]], list[str]]:
        """References to the returned tensors, and what the model calls them."""
        returned: Any = node.args[0]
        outputs = [self.reference[part.name] for part in returned if isinstance(part, torch.fx.Node)]
        if not outputs:
            raise BadInput(self.name, "the model returns no tensor")
        spec = self.exported.call_spec.out_spec
        keys = list(spec.context) if spec is not None and isinstance(spec.context, list | tuple) else []
        if keys and isinstance(keys[0], list | tuple):
            keys = list(keys[0])
        named = len(keys) == len(outputs) and all(isinstance(k, str) for k in keys)
        return outputs, [str(k) for k in keys] if named else [f"output{i}" for i in range(len(outputs))]


def tensor_type(tensor: torch.Tensor, name: str) -> TensorType:
    """The type of `tensor`; dynamic shapes are refused."""
    if any(isinstance(n, torch.SymInt) for n in (*tensor.shape, *tensor.stride())):
        raise BadInput(
            name, f"its shape {tuple(tensor.shape)} depends on the data", advice="Only fixed shapes can be mapped."
        )
    dtype = str(tensor.dtype).removeprefix("torch.")
    return TensorType(shape=tuple(tensor.shape), strides=tuple(tensor.stride()), dtype=dtype)


def encode_constant(value: Any) -> Any:
    """`value` as JSON, in the form that `mapper.program.model` describes."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else {"float": str(value)}
    for kind in (torch.dtype, torch.layout, torch.memory_format):
        if isinstance(value, kind):
            return {kind.__name__: str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    raise ValueError(f"the argument {value!r} is neither a tensor nor plain data")


def _draws(node: torch.fx.Node, target: Any) -> bool:
    """Whether an operator that can draw random numbers does so with these arguments."""
    given = {a.name: a.default_value for a in target._schema.arguments if a.has_default_value()}
    given |= dict(zip((a.name for a in target._schema.arguments), node.args, strict=False)) | node.kwargs
    if "dropout_p" in given:
        return bool(given["dropout_p"])
    return bool(given.get("train", True) and given.get("p", 1))


def _module(node: torch.fx.Node) -> str:
    """The dotted path of the innermost module, empty for the model itself."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack else ""


def _line(node: torch.fx.Node) -> str:
    """The line of the model's source that made `node`, where torch knows it."""
    lines = [line.strip() for line in str(node.meta.get("stack_trace") or "").splitlines() if "File " in line]
    return lines[-1] if lines else node.name
