"""What a back end compiles of a stage: the outputs that depend on its inputs, once each.

An output that is an input handed through, or depends on weights alone, needs no compiler, and compilers treat such
outputs each in their own way. So they are left out, and joined to the compiled ones at each call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from mapper.backends.lowered import lowered
from mapper.backends.registry import BFLOAT16, FLOAT32, Compute
from mapper.program.model import Program, TensorType
from mapper.program.rebuild import rebuild
from mapper.program.views import views
from mapper.program.weights import laid_out

Run = Callable[[Sequence[torch.Tensor]], Sequence[torch.Tensor]]
"""What was compiled: takes the core's inputs, gives its outputs, which are good until the next call."""


@dataclass(frozen=True)
class Core:
    """`program` is what is compiled; `inputs` are the positions of its inputs among the stage's. `sources` says for
    each output of the stage what it is: ("input", position), ("core", position) or ("constant", position)."""

    program: Program
    inputs: tuple[int, ...]
    sources: tuple[tuple[str, int], ...]
    constants: Program

    def compute(self, weights: Mapping[str, torch.Tensor], run: Run) -> Compute:
        """The whole stage, with `run` for its core."""
        constants = self.constant_results(weights)
        inputs, sources = self.inputs, self.sources
        if len(inputs) > 0 and all(kind == "core" for kind, _ in sources):
            every = list(inputs)
            plain = [i for _, i in sources] == list(range(len(sources)))

            def direct(*given: torch.Tensor) -> tuple[torch.Tensor, ...]:
                results = run([given[i] for i in every])
                return tuple(results) if plain else tuple(results[i] for _, i in sources)

            return direct

        def joined(*given: torch.Tensor) -> tuple[torch.Tensor, ...]:
            results = run([given[i] for i in inputs]) if self.program.outputs else ()
            places = {"input": given, "core": results, "constant": constants}
            return tuple(places[kind][i] for kind, i in sources)

        return joined

    def constant_results(self, weights: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The outputs that depend on weights alone."""
        if not self.constants.outputs:
            return ()
        results: tuple[torch.Tensor, ...] = rebuild(self.constants, laid_out(self.constants, weights))()
        return results


def core_of(program: Program) -> Core:
    """The part of `program` that is to be compiled."""
    inputless = views(program).inputless
    position = {given.name: i for i, given in enumerate(program.inputs)}
    computed: list[str] = []
    constant: list[dict[str, str]] = []
    sources: list[tuple[str, int]] = []
    for output in program.outputs:
        ((kind, name),) = output.items()
        if kind == "input":
            sources.append(("input", position[name]))
        elif kind == "weight" or (name in inputless and not program.is_onnx):  # torch computes those, but no ONNX
            constant.append(output)
            sources.append(("constant", len(constant) - 1))
        else:
            if name not in computed:
                computed.append(name)
            sources.append(("core", computed.index(name)))
    core = _needed(program, [{"op": name} for name in computed])
    inputs = tuple(position[given.name] for given in core.inputs)
    return Core(core, inputs, tuple(sources), _needed(program, constant))


def _needed(program: Program, outputs: Sequence[dict[str, str]]) -> Program:
    """What `outputs` of `program` depend on."""
    wanted = {pair for output in outputs for pair in output.items()}
    ops = []
    for op in reversed(program.ops):
        if ("op", op.name) in wanted:
            ops.append(op)
            wanted.update(op.operands())
    names = tuple(name for output in outputs for name in output.values())
    return program.model_copy(update={
        "inputs": tuple(given for given in program.inputs if ("input", given.name) in wanted),
        "weights": tuple(weight for weight in program.weights if ("weight", weight.name) in wanted),
        "ops": tuple(reversed(ops)), "outputs": tuple(outputs), "output_names": names,
    })  # fmt: skip


def zeros(kind: TensorType) -> torch.Tensor:
    """Zeros as they would lie in a slot of a ring."""
    count = kind.extent_bytes // kind.item_bytes
    return torch.zeros(count, dtype=getattr(torch, kind.dtype)).as_strided(kind.shape, kind.strides)


def exported(
    program: Program, weights: Mapping[str, torch.Tensor], precision: str = FLOAT32
) -> torch.export.ExportedProgram:
    """`program` as compilers take it, for inputs that lie as its types say; what depends on weights alone is done."""
    module = rebuild(program, laid_out(program, weights))
    if precision == BFLOAT16:
        module = lowered(module, program)
    return torch.export.export(module, tuple(zeros(given.type) for given in program.inputs), strict=False)
