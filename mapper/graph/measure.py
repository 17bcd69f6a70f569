"""From a program to its graph: FLOP and bytes of every op.

FLOP count a multiply-add as two. Formulas are those of the operators' definitions; where torch's own counter has the
operator, the tests compare the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from mapper.errors import BadInput
from mapper.graph.model import Boundary, Graph, Kind, Op, Tensor, WeightUse
from mapper.program.model import Program, ProgramOp, TensorType
from mapper.program.views import Reference, Views, views

_KINDS: dict[Kind, tuple[str, ...]] = {
    "matmul": ("linear", "addmm", "mm", "bmm", "baddbmm", "matmul", "addmv", "mv", "dot", "einsum"),
    "conv": ("conv1d", "conv2d", "conv3d", "convolution", "conv_transpose1d", "conv_transpose2d",
             "conv_transpose3d"),
    "attention": ("scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu"),
    "softmax": ("softmax", "_softmax", "log_softmax", "_log_softmax"),
    "normalization": ("layer_norm", "native_layer_norm", "batch_norm", "_native_batch_norm_legit_no_training",
                      "group_norm", "native_group_norm", "rms_norm", "_fused_rms_norm"),
    "transcendental": ("gelu", "tanh", "exp", "log", "sigmoid", "silu", "erf", "pow", "sin", "cos", "mish", "softplus",
                       "elu", "hardswish"),
    "pool": ("max_pool2d", "avg_pool2d", "max_pool2d_with_indices", "adaptive_max_pool2d"),
    "reduce": ("mean", "sum", "amax", "amin", "max", "min", "var", "adaptive_avg_pool2d", "cumsum", "argmax", "any",
               "all"),
    "embedding": ("embedding", "index", "gather", "index_select"),
    "copy": ("clone", "cat", "pad", "constant_pad_nd", "contiguous", "stack", "copy", "_to_copy", "to", "new_ones",
             "repeat", "roll", "flip", "new_zeros", "full_like", "slice_scatter", "select_scatter", "constant"),
    "none": ("split", "split_with_sizes", "chunk", "unbind", "select", "slice", "narrow"),
}  # fmt: skip
KIND_OF: dict[str, Kind] = {name: kind for kind, names in _KINDS.items() for name in names}
"""Kind by operator name; what is not listed is elementwise, or `none` where it only shows another tensor."""


def graph_of(program: Program) -> Graph:
    """The graph of `program`: its ops without the free and the prepared ones, tuples and their parts as one op with
    several tensors. What is prepared is a weight of the ops that read it, in place of the weights behind it.

    Raises: BadInput when nothing is left to compute.
    """
    if views(program).stageless.issuperset(op.name for op in program.ops):
        raise BadInput(program.name, "the model computes nothing: no op, other than views, depends on its inputs")
    return _Measure(program).graph().with_program(program)


class _Measure:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.views: Views = views(program)
        self.prepared = _names_of_prepared(program, self.views)
        self.weight_bytes = {weight.name: weight.type.bytes for weight in program.weights} | {
            called: program.op[name].type.bytes for name, called in self.prepared.items()
        }
        self.owner = {op.name: self._owner(op) for op in program.ops if op.name not in self.views.stageless}
        self.pulled: set[str] = set()

    def _owner(self, op: ProgramOp) -> str:
        """The graph op that a program op belongs to: parts of a tuple belong to what returned it."""
        return next(op.references("op")) if op.target == "getitem" else op.name

    def graph(self) -> Graph:
        ops = [self._op(op) for op in self.program.ops if self.owner.get(op.name) == op.name]
        readers = self._readers()
        produced = [op for op in self.program.ops if op.name in self.owner and not op.many]
        tensors = [
            Tensor(
                name=op.name, producer=self.owner[op.name], readers=tuple(readers["op", op.name]), bytes=op.type.bytes
            )
            for op in produced
            if readers.get(("op", op.name))
        ]
        inputs = [
            Boundary(name=given.name, ops=tuple(readers.get(("input", given.name), ())), bytes=given.type.bytes)
            for given in self.program.inputs
        ]
        floats = [weight.type.dtype for weight in self.program.weights if "float" in weight.type.dtype]
        return Graph(
            name=self.program.name,
            ops=tuple(ops),
            tensors=tuple(tensors),
            inputs=tuple(inputs),
            outputs=tuple(self._outputs()),
            dtype=max(floats, key=floats.count) if floats else "float32",
            program_sha256=self.program.sha256,
        )

    def _root(self, reference: Reference) -> Reference | None:
        """The value that holds the data of `reference`; what is prepared is a weight."""
        root = self.views.root_of(reference)
        if root is not None and root[0] == "op" and root[1] in self.prepared:
            return ("weight", self.prepared[root[1]])
        return root

    def _operands(self, op: ProgramOp) -> list[tuple[Reference, TensorType]]:
        """What `op` reads, constants left out: the value that holds the data, and the type in which the op sees it."""
        out = []
        for kind, name in op.operands():
            root = self._root((kind, name))
            if root is not None and not (kind == "op" and self.program.op[name].many):
                out.append((root, self.program.type_of({kind: name})))
        return out

    def _types(self, op: ProgramOp) -> list[TensorType]:
        """The types of all tensors among the arguments of `op`, in their order, constants too."""
        return [self.program.type_of({kind: name}) for kind, name in op.operands()]

    def _readers(self) -> dict[Reference, list[str]]:
        """The graph ops that read each value, in order, once each; reads within an op are left out."""
        out: dict[Reference, list[str]] = {}
        for op in self.program.ops:
            if op.name in self.views.stageless:
                continue
            for root, _ in self._operands(op):
                if root[0] == "op" and self.owner[root[1]] == self.owner[op.name]:
                    continue
                names = out.setdefault(root, [])
                if self.owner[op.name] not in names:
                    names.append(self.owner[op.name])
        return out

    def _outputs(self) -> list[Boundary]:
        out = []
        for name, reference in zip(self.program.output_names, self.program.outputs, strict=True):
            ((kind, value),) = reference.items()
            root = self._root((kind, value))
            owner = (self.owner[root[1]],) if root is not None and root[0] == "op" else ()
            out.append(Boundary(name=name, ops=owner, bytes=self.program.type_of(reference).bytes))
        return out

    def _op(self, op: ProgramOp) -> Op:
        kind = kind_of(op)
        operands = self._operands(op)
        results = [t for t in op.outputs if t is not None]
        write = 0 if kind == "none" else sum(t.bytes for t in results)
        reads = {root: t.bytes for root, t in operands if root[0] != "weight"}
        weights = {root[1]: self._use(op, kind, root[1], results) for root, t in operands if root[0] == "weight"}
        touched_input = min(sum(reads.values()), write * 2) if kind == "embedding" else sum(reads.values())
        return Op(
            name=op.name,
            kind=kind,
            target=op.target,
            module=op.module,
            flop=flop_of(op, kind, self._types(op)),
            elements=max((t.elements for t in results), default=0),
            read_bytes=0 if kind == "none" else touched_input,
            write_bytes=write,
            weights=tuple(weights.values()),
            nodes=1 + self._pull(op),
        )

    def _use(self, op: ProgramOp, kind: Kind, name: str, results: list[TensorType]) -> WeightUse:
        whole = self.weight_bytes[name]
        touched = min(whole, sum(t.bytes for t in results)) if kind == "embedding" else whole
        return WeightUse(name=name, bytes=whole, touched_bytes=touched)

    def _pull(self, op: ProgramOp) -> int:
        """How many free ops, and parts of tuples, run for `op` and for none before it. Prepared ones have run."""
        parts = (
            sum(1 for other in self.program.ops if other.target == "getitem" and self._owner(other) == op.name)
            if op.many
            else 0
        )
        pulled = self.views.free - self.views.prepared
        pending, count = [n for n in op.references("op") if n in pulled], 0
        while pending:
            name = pending.pop()
            if name not in self.pulled:
                self.pulled.add(name)
                count += 1
                pending += [n for n in self.program.op[name].references("op") if n in pulled]
        return parts + count


def _names_of_prepared(program: Program, found: Views) -> dict[str, str]:
    """What each prepared tensor is called as a weight: as its op, with as many ' as make it no other's name."""
    out: dict[str, str] = {}
    taken = {*program.weight, *program.op}
    for op in program.ops:
        if op.name in found.prepared and op.name not in found.free and not op.many:
            called = op.name
            while called in program.weight or (called != op.name and called in taken):
                called += "'"
            taken.add(called)
            out[op.name] = called
    return out


def kind_of(op: ProgramOp) -> Kind:
    """What sort of work `op` is, for the cost model."""
    return KIND_OF.get(_name(op), "none" if op.view else "elementwise")


def _name(op: ProgramOp) -> str:
    return op.target.split(".")[1] if "." in op.target else op.target


def flop_of(op: ProgramOp, kind: Kind, operands: list[TensorType]) -> float:
    """FLOP of `op` from the types of the tensors among its arguments, in their order, and of what it returns."""
    result = next((t for t in op.outputs if t is not None), None)
    if result is None or kind in ("none", "copy", "embedding"):
        return 0.0
    formula = _FLOP.get(_name(op)) or _FLOP_OF_KIND.get(kind)
    return float(formula(op, operands, result)) if formula else float(result.elements)


def _inner(op: ProgramOp, operands: list[TensorType], result: TensorType) -> float:
    """2·k for each element of the result, k the length of the sums: the last dimension of the first factor."""
    return 2 * result.elements * operands[0].shape[-1]


def _inner_of_second(op: ProgramOp, operands: list[TensorType], result: TensorType) -> float:
    """As `_inner`, for operators whose first operand is what the product is added to."""
    return 2 * result.elements * operands[1].shape[-1]


def _einsum(op: ProgramOp, operands: list[TensorType], result: TensorType) -> float:
    return einsum_flop(str(op.args[0]), [operand.shape for operand in operands], result.elements)


def einsum_flop(equation: str, shapes: Sequence[Sequence[int]], elements: int) -> float:
    """2 · the sizes of the indices that are summed over, for each of the result's `elements`."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    if not arrow:
        right = "".join(letter for letter in left if left.count(letter) == 1)
    sizes: dict[str, int] = {}
    for letters, shape in zip(left.split(","), shapes, strict=True):
        before, _, after = letters.partition("...")
        sizes |= dict(zip(before, shape, strict=False))
        sizes |= dict(zip(reversed(after), reversed(shape), strict=False))
    return 2 * elements * math.prod(size for letter, size in sizes.items() if letter not in right)


def _convolution(op: ProgramOp, operands: list[TensorType], result: TensorType) -> float:
    """2 · channels a group · kernel elements for each element of the result; of the input where transposed."""
    transposed = "transpose" in op.target or (_name(op) == "convolution" and op.args[6] is True)
    return 2 * (operands[0] if transposed else result).elements * math.prod(operands[1].shape[1:])


def _attention(op: ProgramOp, operands: list[TensorType], result: TensorType) -> float:
    """Two products of query length × key length × head size, for each batch and head."""
    query, key, value = operands[:3]
    *batch, length, size = query.shape
    return 2 * math.prod(batch) * length * key.shape[-2] * (size + value.shape[-1])


Formula = Callable[[ProgramOp, list[TensorType], TensorType], float]

_FLOP: dict[str, Formula] = {
    "einsum": _einsum,
    "addmm": _inner_of_second,
    "baddbmm": _inner_of_second,
    "addmv": _inner_of_second,
}
_FLOP_OF_KIND: dict[Kind, Formula] = {
    "matmul": _inner,
    "conv": _convolution,
    "attention": _attention,
    "softmax": lambda op, operands, result: 3 * result.elements,
    "normalization": lambda op, operands, result: 5 * result.elements,
    "pool": lambda op, operands, result: operands[0].elements if operands else result.elements,
    "reduce": lambda op, operands, result: operands[0].elements if operands else result.elements,
}
