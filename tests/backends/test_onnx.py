"""Plans of ONNX models at work: split into ONNX models, right against the unsplit file in ONNX Runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mapper.backends.registry import backend_called
from mapper.errors import BadInput, UsageError
from mapper.execution.run import OutputsDiffer, drawn_items, run, sampled
from mapper.machine.discover import discover
from mapper.plans.file import save_plan
from mapper.plans.model import Plan
from mapper.plans.source import graph_of_source
from mapper.program.model import Program
from mapper.program.rebuild import rebuild
from mapper.program.split import split
from mapper.program.views import views
from mapper.solver.plan import plan as planned
from mapper.solver.problem import Limits
from mapper.sources.bundle import write_bundle
from mapper.sources.difference import difference_of
from mapper.sources.onnx import realised_onnx
from mapper.sources.source import realised_source
from tests.backends.stages import need
from tests.cli.commands import mapper

onnx = pytest.importorskip("onnx")
h = onnx.helper


def random(name: str, *shape: int) -> Any:
    """A weight with random numbers."""
    torch.manual_seed(len(name) + len(shape))
    return onnx.numpy_helper.from_array((torch.randn(shape) / 3).numpy(), name)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with what is peculiar to ONNX: a skipped input, two results of a node, views, folded shapes, constants, a
    transposed weight, and an output that is read again."""
    nodes = [
        h.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        h.make_node("Clip", ["c", "", "six"], ["r"], name="clip"),
        h.make_node("Constant", [], ["half"], value=onnx.numpy_helper.from_array(torch.tensor(0.5).numpy())),
        h.make_node("Mul", ["r", "half"], ["m"], name="mul"),
        h.make_node("Split", ["m"], ["left", "right"], name="split", axis=1, num_outputs=2),
        h.make_node("Add", ["left", "right"], ["a"], name="add"),
        h.make_node("Shape", ["a"], ["shape"], name="shape"),
        h.make_node("Relu", ["a"], ["again"], name="relu"),
        h.make_node("Reshape", ["again", "shape"], ["same"], name="reshape"),
        h.make_node("Flatten", ["same"], ["f"], name="flatten"),
        h.make_node("Transpose", ["g"], ["gt"], name="turned"),
        h.make_node("MatMul", ["f", "gt"], ["y"], name="project"),
        h.make_node("Softmax", ["y"], ["s"], name="softmax"),
    ]
    six = onnx.numpy_helper.from_array(torch.tensor(6.0).numpy(), "six")
    graph = h.make_graph(
        nodes, "g", [h.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [h.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("s", "y")],
        [random("w", 4, 3, 3, 3), random("b", 4), random("g", 10, 128), six],
    )  # fmt: skip
    path: Path = tmp_path_factory.mktemp("onnx") / "m.onnx"
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 20)], ir_version=10), path)
    return path


def plan_of(path: Path, stages: int = 2, batch: int = 2) -> Plan:
    graph, reference = graph_of_source(str(path), {"batch": batch})
    return planned(graph, discover(), model=reference, batch=batch, limits=Limits(stages=stages, max_replicas=1))


def test_the_program_has_the_ops_of_the_graph_and_its_names(file: Path) -> None:
    graph, reference = graph_of_source(str(file), {"batch": 2})
    program, weights, _ = realised_onnx(plan_of(file))
    seen = views(program)
    own = [op.name for op in program.ops if op.name not in seen.stageless and op.target != "getitem"]
    assert own == [op.name for op in graph.ops] and program.is_onnx
    assert program.sha256 == graph.sha256 == reference.graph_sha256
    assert {"half", "shape", "w", "g"} <= set(weights) and weights["shape"].tolist() == [2, 2, 8, 8]
    assert program.op["conv"].target == "onnx.Conv.v20" and program.op["clip"].args[1] is None
    assert [seen.root_of(("op", name)) for name in ("reshape", "flatten")] == [("op", "relu")] * 2
    with pytest.raises(BadInput, match=r"no operator onnx.Transpose.v20"):
        rebuild(program, weights)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("at", range(1, 8))
def test_stages_cut_anywhere_give_what_the_whole_file_does(file: Path, name: str, at: int, tmp_path: Path) -> None:
    backend = need(name)
    plan = plan_of(file)
    program, weights, whole = realised_onnx(plan)
    seen = views(program)
    ops = [op.name for op in program.ops if op.name not in seen.stageless and op.target != "getitem"]
    item = drawn_items(plan, realised_source(plan), 1)[0]
    values = {given.name: tensor for given, tensor in zip(program.inputs, item, strict=True)}
    before = torch.get_num_threads()
    try:
        for s, stage in enumerate(split(program, [ops[:at], ops[at:]])):
            assert backend.compile is not None
            (tmp_path / str(s)).mkdir()
            backend.compile(stage, weights, 1, tmp_path / str(s))
            loaded = backend.load(stage, weights, 1, tmp_path / str(s))
            outputs = loaded.compute(*(values[given.name] for given in stage.inputs))
            values |= {output: tensor.clone() for output, tensor in zip(stage.output_names, outputs, strict=True)}
        for output, expected in zip(program.outputs, whole(*item), strict=True):
            assert difference_of(values[output["op"]], expected).relative < 1e-5
    finally:
        torch.set_num_threads(before)


def test_a_plan_of_an_onnx_file_runs_and_a_wrong_weight_in_a_stage_is_caught(file: Path, tmp_path: Path) -> None:
    need("onnxruntime")
    plan = plan_of(file)
    assert plan.request.backend == "onnxruntime" and len(plan.stages) == 2
    save_plan(plan, tmp_path / "plan.json")
    done = mapper("run", tmp_path / "plan.json", "--items", 5, "--oversubscribe")
    assert (done.code, done.err) == (0, "") and "of those of the original model" in done.out.replace(
        "to those", "of those"
    )
    source = realised_source(plan)
    wrong = replace(source, weights={**source.weights, "g": source.weights["g"] * 1.01})
    with pytest.raises(OutputsDiffer, match="is allowed"):
        run(plan, wrong, items=2, oversubscribe=True)


def test_a_bundle_of_it_is_compared_with_its_whole_program(file: Path, tmp_path: Path) -> None:
    need("onnxruntime")
    plan = plan_of(file)
    source = realised_source(plan)
    write_bundle(tmp_path / "b.bundle", source.program, source.weights, plan, sampled(plan, source))
    m = run(plan, tmp_path / "b.bundle", items=2, oversubscribe=True)
    assert m.outputs_within_tolerance and m.compared_with == "the unsplit program"
    again = run(plan, file, items=2, oversubscribe=True)
    assert again.outputs_within_tolerance and again.compared_with == "the original model"


@pytest.mark.soak
@pytest.mark.parametrize("name", ["openvino", "onnxruntime:int8", "openvino:bfloat16"])
def test_an_onnx_plan_runs_with_the_other_back_ends(file: Path, name: str) -> None:
    need(name)
    m = run(plan_of(file), items=3, oversubscribe=True, backend=name)
    assert m.outputs_within_tolerance and (m.accuracy is None) == (name == "openvino")


def test_back_ends_of_torch_and_other_files_are_refused(file: Path, tmp_path: Path) -> None:
    plan = plan_of(file)
    for name in ("eager", "inductor"):
        with pytest.raises(UsageError, match="is an ONNX model, which the back end") as raised:
            run(plan, oversubscribe=True, backend=name)
        assert "--backend onnxruntime or openvino" in raised.value.advice
    model = onnx.load(file)
    model.graph.initializer[0].raw_data = bytes(len(model.graph.initializer[0].raw_data))
    onnx.save(model, tmp_path / "m.onnx")
    moved = plan.model_copy(update={"model": plan.model.model_copy(update={"source": str(tmp_path / "m.onnx")})})
    with pytest.raises(BadInput, match="not the file that was planned"):
        run(moved, oversubscribe=True)


def test_weights_in_a_file_of_their_own_are_read(file: Path, tmp_path: Path) -> None:
    onnx.save(onnx.load(file), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    program, weights, whole = realised_onnx(plan_of(tmp_path / "m.onnx"))
    same, expected, _ = realised_onnx(plan_of(file))
    assert program.sha256 == same.sha256 and all(torch.equal(weights[name], expected[name]) for name in expected)
    assert whole(torch.zeros(2, 3, 8, 8))[0].shape == (2, 10)
    (tmp_path / "m.data").unlink()
    with pytest.raises(BadInput, match=r"m.onnx.*cannot be read"):
        realised_onnx(plan_of(tmp_path / "m.onnx"))


def test_a_node_with_graphs_in_it_is_planned_and_named_when_run(tmp_path: Path) -> None:
    then = h.make_graph([h.make_node("Relu", ["x"], ["t"])], "t", [], [h.make_tensor_value_info("t", 1, [4])])
    other = h.make_graph([h.make_node("Neg", ["x"], ["e"])], "e", [], [h.make_tensor_value_info("e", 1, [4])])
    nodes = [
        h.make_node("Relu", ["x"], ["r"], name="relu"),
        h.make_node("If", ["yes"], ["y"], name="choice", then_branch=then, else_branch=other),
        h.make_node("Add", ["r", "y"], ["z"], name="add"),
    ]
    given = [h.make_tensor_value_info("x", 1, [4]), h.make_tensor_value_info("yes", onnx.TensorProto.BOOL, [])]
    graph = h.make_graph(nodes, "g", given, [h.make_tensor_value_info("z", 1, [4])])
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 20)], ir_version=10), tmp_path / "m.onnx")
    plan = plan_of(tmp_path / "m.onnx", stages=1, batch=1)
    with pytest.raises(BadInput, match="op choice: If has graphs of its own"):
        run(plan, oversubscribe=True)


@pytest.mark.parametrize("node", ["", "!", "AAAA", None])
def test_an_op_that_holds_no_node_is_refused(file: Path, node: str | None, tmp_path: Path) -> None:
    need("onnxruntime")
    program, weights, _ = realised_onnx(plan_of(file))
    kwargs = {} if node is None else {"node": node}
    ops = tuple(op.model_copy(update={"kwargs": kwargs}) if op.name == "conv" else op for op in program.ops)
    wrong = Program.model_validate(program.model_copy(update={"ops": ops}).model_dump(by_alias=True))
    compile = backend_called("onnxruntime").compile
    assert compile is not None
    with pytest.raises(BadInput, match="conv, node"):
        compile(wrong, weights, 1, tmp_path)
