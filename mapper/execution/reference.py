"""What the outputs of a run have to be: computed by the unsplit model, never by the split one."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from mapper.backends import eager
from mapper.backends.threads import torch_threads
from mapper.errors import BadInput, PromiseBroken
from mapper.execution.measurement import Accuracy
from mapper.plans.model import Plan
from mapper.program.realise import COLUMNS
from mapper.program.rebuild import interpret
from mapper.sources.backend import allowed, bits_equal, rounding
from mapper.sources.difference import difference_of, noise_of
from mapper.sources.onnx import whole_of
from mapper.sources.source import Source

Outputs = tuple[torch.Tensor, ...]
_TOLERANCE = {
    torch.float64: 1e-8,
    torch.float32: 1e-4,
    torch.complex64: 1e-4,
    torch.float16: 1e-2,
    torch.bfloat16: 3e-2,
}


@dataclass(frozen=True)
class Reference:
    """The outputs of each item, bit by bit, and in words where they are from. For back ends that compute with fewer
    bits, `noise` says for each output how far rounding to bfloat16 moves it, relative to its largest magnitude."""

    outputs: tuple[Outputs, ...]
    origin: str
    noise: tuple[float, ...] = ()


def reference_of(
    plan: Plan, source: Source, items: Sequence[Sequence[torch.Tensor]], tolerance: float | None = None
) -> Reference:
    """The outputs of the unsplit model of `plan` for `items`, at the plan's number of threads.

    Where stages have different numbers of threads, sums are split differently in each: then the whole program is
    computed op by op with each stage's number, and only checked to be within `tolerance` of the module. So it is where
    ops are split into columns, whose sums a library may split differently, too.

    Back ends other than eager are compared with the module wherever there is one: with themselves, compiled whole,
    what they compile wrongly would be wrong on both sides.

    Raises: BadInput for an item that the model refuses; PromiseBroken when program and module, or program and a
    bundle's sample, are further apart than that.
    """
    found = _reference_of(plan, source, items, tolerance)
    if tolerance is not None or not rounding(plan) or source.program.is_onnx:
        return found
    return replace(found, noise=noise_of(source, items))


def limits_of(plan: Plan, reference: Reference, asked: float | None = None) -> list[float]:
    """For each output how far it may be from that of `reference`, relative to the largest magnitude of that tensor:
    what was `asked`, else what the back end of `plan` states, 0 where bits must be equal."""
    outputs = reference.outputs[0]
    noise = reference.noise or (0.0,) * len(outputs)
    return [allowed(plan, tensor, asked, own) for tensor, own in zip(outputs, noise, strict=True)]


def _reference_of(
    plan: Plan, source: Source, items: Sequence[Sequence[torch.Tensor]], tolerance: float | None
) -> Reference:
    """The outputs, without the noise."""
    teams = sorted({replica.configuration.threads for stage in plan.stages for replica in stage.replicas})
    with torch.inference_mode(), torch_threads(max(teams)):
        alike = len(teams) == 1 and not plan.model.options.get(COLUMNS)
        if source.module is not None and (alike or not bits_equal(plan)):
            return Reference(_outputs(lambda *item: _called(source, item), items), "the original model")
        teams = teams if bits_equal(plan) else teams[-1:]
        compute = _whole(plan, source, teams)
        outputs = _outputs(compute, items)
        origin = "the unsplit program" + (", with each stage's threads" if len(teams) > 1 else "")
        if source.module is not None:
            _within(outputs[0], _called(source, items[0]), tolerance, "the original model")
        if source.bundle is not None:
            sample = source.bundle.sample
            given = [sample.inputs[given.name] for given in source.program.inputs]
            _within(compute(*given), sample.outputs, tolerance, "the sample in the bundle")
    return Reference(outputs, origin)


def _outputs(compute: Callable[..., Outputs], items: Sequence[Sequence[torch.Tensor]]) -> tuple[Outputs, ...]:
    """What `compute` makes of each item. Raises: BadInput where the model itself refuses one."""
    found = []
    for number, item in enumerate(items):
        try:
            found.append(compute(*item))
        except Exception as error:
            reason = (str(error) or "it says nothing").splitlines()[0]
            raise BadInput(
                "items", f"the unsplit model raises {type(error).__name__}: {reason}", place=f"call {number}",
                advice="Items must be what the model takes: ids of tokens below the size of its vocabulary, and so on.",
            ) from error  # fmt: skip
    return tuple(found)


def _whole(plan: Plan, source: Source, teams: Sequence[int]) -> Callable[..., Outputs]:
    """What computes the whole program as the stages do, in one process."""
    if source.program.is_onnx:
        return whole_of(source.program, source.weights)
    if len(teams) == 1:
        return eager.prepare(source.program, source.weights, teams[0])
    threads = [stage.replicas[0].configuration.threads for stage in plan.stages]

    def threads_of(op: str) -> int:
        return threads[plan.stage_of.get(op, 0)]  # outputs that no stage computes are the first one's

    return lambda *item: interpret(source.program, source.weights, item, threads_of)


def _called(source: Source, item: Sequence[torch.Tensor]) -> Outputs:
    """What the module itself returns for `item`, in the order of the program's outputs."""
    assert source.module is not None, "asked only where there is a module"
    with _as_exported(source.module):
        leaves = torch.utils._pytree.tree_leaves(source.call(item))
    return tuple(leaf.clone() for leaf in leaves if isinstance(leaf, torch.Tensor))


@contextlib.contextmanager
def _as_exported(module: torch.nn.Module) -> Iterator[None]:
    """Lets `module` compute with the operators that its export has: products of three-dimensional tensors take
    another path for weights that require gradients, and nn.TransformerEncoder has a fused one that export leaves out.
    """
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    fused = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        for parameter in learning:
            parameter.requires_grad_(False)
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for parameter in learning:
            parameter.requires_grad_(True)


def _within(found: Outputs, expected: Outputs, tolerance: float | None, what: str) -> None:
    for difference, tensor in zip(map(difference_of, found, expected), expected, strict=True):
        allowed = tolerance_of(tensor, tolerance)
        if difference.relative > allowed:
            raise PromiseBroken(
                f"the unsplit program differs from {what} by {difference.largest:g} "
                f"({difference.relative:.1e} relative, {allowed:g} is allowed)",
                advice="Another processor or torch version sums in another order; --tolerance allows a difference.",
            )


def tolerance_of(tensor: torch.Tensor, asked: float | None) -> float:
    """The relative difference allowed for `tensor`: what was `asked`, else what its dtype suggests."""
    return _TOLERANCE.get(tensor.dtype, 0.0) if asked is None else asked


def accuracy_of(found: Sequence[Outputs], expected: Sequence[Outputs]) -> Accuracy:
    """Compares the outputs of items, tensor by tensor, with what they should be. Only tensors of floats count."""
    largest, mean, cosine, agreed, rows = 0.0, 0.0, 1.0, 0, 0
    for outputs, wanted in zip(found, expected, strict=True):
        for a, b in zip(outputs, wanted, strict=True):
            if not b.is_floating_point() or b.numel() == 0:
                continue
            largest = max(largest, difference_of(a, b).relative)
            x, y = (t.to(torch.float64).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0) for t in (a, b))
            gap, scale = float((x - y).abs().mean()), float(y.abs().mean())
            mean = max(mean, gap / scale if scale else math.inf if gap else 0.0)
            norms = float(x.norm() * y.norm())
            cosine = min(cosine, float((x * y).sum()) / norms if norms else float(not gap))
            if b.ndim in (2, 3) and b.shape[-1] > 1:
                agreed += int((a.argmax(-1) == b.argmax(-1)).sum())
                rows += b.numel() // b.shape[-1]
    return Accuracy(
        items=len(found), max_relative_difference=largest if math.isfinite(largest) else None,
        mean_relative_difference=mean if math.isfinite(mean) else None, cosine_similarity=min(cosine, 1.0),
        top1_agreement=agreed / rows if rows else None,
    )  # fmt: skip
