"""Plans with other back ends, in real workers: right within the stated tolerance, and wrong weights are caught."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mapper.backends import artefacts
from mapper.backends.core import zeros
from mapper.backends.eager import prepare
from mapper.backends.registry import BACKENDS
from mapper.errors import BadInput
from mapper.execution.executor import Executor
from mapper.execution.run import OutputsDiffer, run, sampled
from mapper.program.model import TensorType
from mapper.program.split import split
from mapper.sources.backend import compiled, with_backend
from mapper.sources.bundle import write_bundle
from mapper.sources.difference import difference_of
from mapper.sources.source import source_of
from mapper.sources.stages import stage_programs
from tests.backends.stages import BRIEFLY, MLP, NOT_FIRST, NOT_FIRST_FEWER, need, two_stages
from tests.cli.commands import mapper
from tests.execution import models
from tests.program.modules import NAMES, case
from tests.tracing import cuts, plan_for, traced


@pytest.mark.parametrize("name", ["onnxruntime", *NOT_FIRST])
@pytest.mark.usefixtures("own_cache")
def test_replicas_and_teams_are_within_tolerance_and_compiled_once(name: str) -> None:
    need(name)
    told: list[str] = []
    plan = two_stages(replicas=[2, 1], threads=[1, 2])
    with Executor(plan, MLP.module, oversubscribe=True, backend=name, say=told.append) as executor:
        items = [torch.randn(8, 64) for _ in range(8)]
        with torch.no_grad():
            for item, output in zip(items, executor.map(items), strict=True):
                assert isinstance(output, torch.Tensor)
                assert difference_of(output, MLP.module(item)).relative < BACKENDS[name].allowed("float32")
        workers = executor.statistics().workers
        assert [(w.stage, w.threads) for w in workers] == [(0, 1), (0, 1), (1, 2)]
        masks = [mask for worker in workers for mask in masks_of(worker.pid)]
        assert len(masks) == 3, "no thread is bound by the library"
    assert told == [f"Compiling stage {i} of 2 for {name} ..." for i in (1, 2)], "one for both replicas"
    programs = stage_programs(plan, MLP.program)
    assert len(compiled(with_backend(plan, name), programs, MLP.weights, -1, told.append, told.append)) == 2
    assert len(told) == 2, "a second start compiles nothing"


def masks_of(pid: int) -> set[str]:
    """The PUs that the threads of a process may use."""
    lines = [
        line for task in Path(f"/proc/{pid}/task").iterdir() for line in (task / "status").read_text().splitlines()
    ]
    return {line for line in lines if line.startswith("Cpus_allowed_list")}


@pytest.mark.parametrize("name", ["eager", "onnxruntime", *NOT_FIRST])
def test_a_wrong_weight_in_one_stage_is_caught(name: str, own_cache: Path) -> None:
    """In one stage alone, behind the checks of files: of what was compiled, a few bytes of weights and their hash."""
    need(name)
    plan = with_backend(two_stages(), name)
    programs = stage_programs(plan, MLP.program)
    last = [w.name for w in programs[1].weights if len(w.type.shape) == 2][-1]
    wrong = {**MLP.weights, last: MLP.weights[last] * 1.01}
    if name == "eager":
        source = replace(source_of(plan, (MLP.program, wrong)), module=MLP.module)
    else:
        source = source_of(plan, MLP.module)
        fd = replace(source, weights=wrong).weights_fd()
        found = compiled(plan, programs, wrong, fd, print, print)
        key = artefacts.key_of(BACKENDS[name], programs[1], hashes(source.weights), 1)
        found[1, 1].rename(found[1, 1].parent / key)
        os.close(fd)
    with pytest.raises(OutputsDiffer, match="is not that of the original model") as raised:
        run(plan, source, items=3, oversubscribe=True)
    measured = raised.value.measurement
    assert raised.value.exit_code == 9 and ("torch" if name == "eager" else name) in raised.value.advice
    assert not measured.outputs_within_tolerance and measured.backend == name
    assert measured.tolerance == (0 if name == "eager" else 1e-4) and measured.accuracy is None
    assert measured.max_relative_difference is not None and 1e-3 < measured.max_relative_difference < 0.1


def hashes(weights: Mapping[str, torch.Tensor]) -> dict[str, str]:
    return {name: artefacts.weight_hash(tensor) for name, tensor in weights.items()}


FEWER = ["eager:bfloat16", *NOT_FIRST_FEWER]


@pytest.mark.parametrize("name", FEWER)
def test_fewer_bits_are_compared_with_float32_and_reported(name: str) -> None:
    need(name)
    m = run(two_stages(), MLP.module, items=3, oversubscribe=True, backend=name)
    assert not m.outputs_identical and m.outputs_within_tolerance and m.backend == name
    assert m.accuracy is not None and m.accuracy.items == 4 and m.max_relative_difference is not None
    assert m.accuracy.max_relative_difference == pytest.approx(m.max_relative_difference)
    assert 1e-4 < m.max_relative_difference < m.tolerance < 0.2, "what float32 would allow is exceeded"
    assert m.accuracy.cosine_similarity > 0.999 and m.accuracy.top1_agreement is not None
    assert m.accuracy.top1_agreement > 0.8 and 0 < (m.accuracy.mean_relative_difference or 0) < 0.05


@pytest.mark.parametrize("name", FEWER)
def test_with_fewer_bits_a_weight_that_is_off_by_half_is_caught(name: str) -> None:
    need(name)
    plan = two_stages()
    wrong = dict(MLP.weights)
    last = [w.name for w in MLP.program.weights if len(w.type.shape) == 2][-1]
    wrong[last] = wrong[last] * 1.5
    source = replace(source_of(plan, (MLP.program, wrong)), module=MLP.module)
    with pytest.raises(OutputsDiffer, match="is allowed") as raised:
        run(plan, source, items=3, oversubscribe=True, backend=name)
    assert "or the model needs more bits" in raised.value.advice
    assert raised.value.measurement.accuracy is not None


def test_the_tolerance_of_fewer_bits_follows_the_model() -> None:
    """Two scores that nearly cancel lose most of their digits; a tolerance for all models would be useless for both."""

    class Cancelling(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.linear = torch.nn.Linear(64, 64)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.linear(x)
            return y - y * (1 + 2**-6) + 0.001 * self.linear(y)

    cancelling = traced(Cancelling(), torch.randn(8, 64), name="cancelling")
    plan = plan_for(cancelling, [[op.name for op in cancelling.graph.ops]])
    m = run(plan, cancelling.module, items=2, oversubscribe=True, backend="eager:bfloat16")
    assert m.outputs_within_tolerance and m.tolerance > 0.1
    asked = run(plan, cancelling.module, items=2, oversubscribe=True, backend="eager:bfloat16", tolerance=0.9)
    assert asked.tolerance == 0.9


@pytest.mark.parametrize("model", ["strides", "skip"])
@pytest.mark.parametrize("name", [*BRIEFLY, "eager:bfloat16", *NOT_FIRST_FEWER])
def test_stages_alone_are_within_tolerance_for_all_that_they_give(name: str, model: str, tmp_path: Path) -> None:
    backend = need(name)
    found = getattr(models, model)()
    before = torch.get_num_threads()
    try:
        for s, piece in enumerate(split(found.program, cuts(found.graph, [3, 9]))):
            folder = tmp_path / str(s)
            folder.mkdir()
            if backend.compile is not None:
                backend.compile(piece, found.weights, 1, folder)
            loaded = backend.load(piece, found.weights, 1, folder)
            for seed in (0, 1):  # the second call must not see what the first one left
                torch.manual_seed(seed)
                given = [drawn(x.type) for x in piece.inputs]
                with torch.inference_mode():
                    outputs, expected = loaded.compute(*given), prepare(piece, found.weights, 1)(*given)
                for output, wanted in zip(outputs, expected, strict=True):
                    difference = difference_of(output, wanted)
                    assert difference.identical or difference.relative <= backend.allowed(str(wanted.dtype)[6:])
    finally:
        torch.set_num_threads(before)


def drawn(kind: TensorType) -> torch.Tensor:
    """Random numbers that lie as they would in a slot."""
    out = zeros(kind)
    with torch.no_grad():
        return out.copy_(torch.randn(kind.shape)) if kind.dtype == "float32" else out


@pytest.mark.soak
@pytest.mark.parametrize("model", NAMES)
@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "inductor"])
def test_every_small_module(name: str, model: str) -> None:
    need(name)
    found = case(model)
    plan = plan_for(traced(found.module, *found.inputs, name=model), [[op.name for op in found.graph.ops]])
    m = run(plan, found.module, items=3, inputs=[found.inputs], oversubscribe=True, backend=name)
    assert m.outputs_within_tolerance


def test_a_small_output_is_compared_by_its_own_size() -> None:
    small = torch.tensor([1e-28, 2e-28])
    assert difference_of(small * 1.01, small).relative == pytest.approx(0.01, rel=1e-3)
    assert difference_of(torch.tensor([1e-9]), torch.tensor([0.0])).relative == float("inf")
    assert difference_of(torch.tensor([-0.0]), torch.tensor([0.0])).relative == 0
    assert difference_of(small, small.clone()).identical


@pytest.mark.soak
def test_a_tolerance_means_something_where_outputs_are_small() -> None:
    class Faint(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x) * 1e-20

    faint = traced(Faint(), torch.randn(8), name="faint")
    plan = plan_for(faint, [[op.name for op in faint.graph.ops]])
    other = traced(torch.nn.Sequential(torch.nn.ReLU(), torch.nn.ReLU()), torch.randn(8), name="other")
    source = replace(source_of(plan, faint.module), module=other.module)
    with pytest.raises(OutputsDiffer):
        run(plan, source, items=3, oversubscribe=True, tolerance=1e-4)


@pytest.mark.soak
def test_a_bundle_is_compiled_where_it_runs(tmp_path: Path) -> None:
    need("openvino")
    plan = with_backend(two_stages(), "openvino")
    source = source_of(plan, MLP.module)
    write_bundle(tmp_path / "b.bundle", MLP.program, MLP.weights, plan, sampled(plan, source))
    assert len(list((tmp_path / "b.bundle").iterdir())) == 4
    done = mapper("run", tmp_path / "b.bundle", "--items", 5, "--oversubscribe")
    assert (done.code, done.err) == (0, "")
    first, second = done.out.splitlines()[:2]
    assert "outputs within tolerance 0.0001 of those of the unsplit program" in first or "identical" in first
    assert "back end openvino" in second


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("openvino", "op special_bessel_j0 "),
        pytest.param("onnxruntime", "an op that reads relu", marks=pytest.mark.soak),
    ],
)
def test_an_op_that_cannot_be_compiled_is_named_with_its_stage(name: str, place: str) -> None:
    need(name)

    class Hard(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(torch.relu(x)) + 1

    hard = traced(Hard(), torch.randn(4, 4), name="hard")
    plan = plan_for(hard, [[op.name for op in hard.graph.ops]])
    with pytest.raises(BadInput, match=rf"(?s)stage 0, {place}.*: {name} cannot compile it: .*bessel_j0") as raised:
        run(plan, hard.module, items=1, oversubscribe=True, backend=name)
    assert raised.value.exit_code == 3


@pytest.mark.parametrize("name", BRIEFLY)
def test_inputs_that_are_not_contiguous_do_not_share_a_copy(name: str, tmp_path: Path) -> None:
    """A copy that was given back after it was handed in was the next one's memory: the second input for both."""
    backend = need(name)

    class Difference(torch.nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return torch.relu(x) - torch.relu(y)

    x, y = torch.randn(48, 64).t(), torch.randn(48, 64).t()
    made = traced(Difference(), x, y, name="difference")
    assert backend.compile is not None
    backend.compile(made.program, made.weights, 1, tmp_path)
    loaded = backend.load(made.program, made.weights, 1, tmp_path)
    with torch.inference_mode():
        (output,) = loaded.compute(x, y)
    assert difference_of(output, torch.relu(x) - torch.relu(y)).relative < 1e-6
