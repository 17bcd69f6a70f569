"""Files of items and of outputs: what is read, what is refused, and what is written whole or not at all."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import resource
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mapper.cli.run import Rate, targets
from mapper.errors import BadInput, SystemRefused, UsageError
from mapper.execution.items_file import open_items
from mapper.execution.results_file import converted, names_of, results_file
from mapper.execution.run import OutputsDiffer, run
from mapper.plans.file import save_plan
from mapper.plans.model import Plan
from tests.execution import models
from tests.execution.test_executor import reference
from tests.tracing import Traced, cuts, plan_for, traced

MLP, STRIDES = models.mlp(), models.strides()
WHOLE = plan_for(MLP, cuts(MLP.graph, [8]), request={"batch": 8})
SOURCE = "tests.execution.test_files:model"


def model() -> tuple[torch.nn.Module, torch.Tensor]:
    """What plans of these tests name as their source."""
    return MLP.module, torch.zeros(8, 64)


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def written(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def whole(model: Traced, **request: Any) -> Plan:
    return plan_for(model, [[op.name for op in model.graph.ops]], request=request)


@pytest.mark.parametrize(("shape", "count", "rows"), [((3, 8, 64), 3, False), ((24, 64), 3, True), ((8, 64), 1, True)])
def test_items_and_rows_are_the_same_items(tmp_path: Path, shape: tuple[int, ...], count: int, rows: bool) -> None:
    array = numbers(*shape)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "items.npz", input=array)
        found = open_items(tmp_path / "items.npz", WHOLE, MLP.program)
        assert (len(found), found.rows, found.notes) == (count, rows, [])
        for _ in range(2):
            read = np.concatenate([item[0].numpy() for item in found])
            assert np.array_equal(read, array.reshape(-1, 64))


def test_items_of_micro_batches_and_without_a_batch(tmp_path: Path) -> None:
    path = written(tmp_path / "items.npz", input=numbers(48, 64))
    assert len(open_items(path, whole(MLP, batch=16, micro_batches=2), MLP.program)) == 3
    arrays = {"x": numbers(4, 5, 6), "mask": np.ones((4, 3), dtype=bool)}
    found = open_items(written(path, **arrays), whole(STRIDES), STRIDES.program)
    assert len(found) == 4 and not found.rows
    assert [(t.dtype, tuple(t.shape)) for t in next(iter(found))] == [(torch.float32, (5, 6)), (torch.bool, (3,))]
    assert len(open_items(written(path, **{n: a[0] for n, a in arrays.items()}), whole(STRIDES), STRIDES.program)) == 1


def test_what_is_of_another_byte_order_or_lacks_a_type_is_converted(tmp_path: Path) -> None:
    array = numbers(8, 64)
    found = open_items(written(tmp_path / "a.npz", input=array.astype(">f4")), WHOLE, MLP.program)
    assert np.array_equal(next(iter(found))[0].numpy(), array)

    class Half(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x)

    half = traced(Half(), torch.zeros(2, 3, dtype=torch.bfloat16), name="half")
    plan = whole(half, batch=2)
    found = open_items(written(tmp_path / "b.npz", x=numbers(2, 3)), plan, half.program)
    assert next(iter(found))[0].dtype == torch.bfloat16
    assert found.notes == ["x is bfloat16, which numpy has no type for: it was rounded from float32"]
    assert "written as float32, exactly" in converted(half.program)[0]
    output = torch.relu(next(iter(found))[0])
    with results_file(tmp_path / "out.npz", plan, half.program, 1, rows=True) as put:
        put([output])
    assert np.array_equal(np.load(tmp_path / "out.npz")[names_of(half.program)[0]], output.float().numpy())
    with pytest.raises(BadInput, match=r"x: its dtype is float16, float32 was expected \(for bfloat16"):
        open_items(written(tmp_path / "c.npz", x=np.zeros((2, 3), np.float16)), plan, half.program)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "its arrays are called nothing, 'input' was expected"),
        ({"x": numbers(8, 64)}, "its arrays are called 'x', 'input' was expected"),
        ({"input": numbers(8, 64), "more": numbers(1)}, "'input', 'more', 'input' was expected"),
        ({"input": numbers(12, 64)}, r"input: its shape is \[12, 64\], \[items, 8, 64\] or \[rows, 64\], rows a mult"),
        ({"input": numbers(0, 8, 64)}, r"its shape is \[0, 8, 64\]"),
        ({"input": numbers(0, 64)}, r"its shape is \[0, 64\]"),
        ({"input": numbers(2, 2, 8, 64)}, r"its shape is \[2, 2, 8, 64\]"),
        ({"input": np.float32(1)}, r"its shape is \[\]"),
        ({"input": numbers(8, 64).astype(np.float64)}, "its dtype is float64, float32 was expected"),
        ({"input": np.array([{"a": 1}], dtype=object)}, "Python objects are not read"),
        ({"input": np.zeros(8, dtype=[("a", "f4")])}, "is no number"),
        ({"input": np.asfortranarray(numbers(8, 64))}, "in Fortran order; write numpy.ascontiguousarray"),
    ],
)
def test_other_arrays_are_refused_by_name_and_shape(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message) as raised:
        open_items(written(tmp_path / "items.npz", **arrays), WHOLE, MLP.program)
    assert "items.npz" in str(raised.value)


def test_arrays_of_different_numbers_of_items_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "items.npz", x=numbers(4, 5, 6), mask=np.ones((3, 3), dtype=bool))
    with pytest.raises(BadInput, match="different numbers of items: 4 of x, 3 of mask"):
        open_items(path, whole(STRIDES), STRIDES.program)


def archive(path: Path, content: bytes, name: str = "input.npy", kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as out:
        out.writestr(name, content)
    return path


def array_bytes(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def test_broken_files_are_refused(tmp_path: Path) -> None:
    path, good = tmp_path / "items.npz", array_bytes(numbers(16, 64))
    for make, message in (
        (lambda: path.write_bytes(b"not a zip"), "is no .npz file that can be read"),
        (lambda: archive(path, b"not an array"), "is no .npz file that can be read: "),
        (lambda: archive(path, good[:-7]), "its content is not as long as its shape says"),
        (lambda: archive(path, good + b"more"), "its content is not as long as its shape says"),
        (lambda: archive(path, good.replace(b"(16, 64)", b"(2**9,2)")), "is no .npz file that can be read"),
        (lambda: archive(path, b"\x93NUMPY\x09\x00" + good[8:]), "format .9, 0. is not known"),
        (lambda: path.write_bytes(archive(path, good).read_bytes()[:2000]), "is no .npz file that can be read"),
        (lambda: archive(path, good, "../input.npy"), "its arrays are called '../input'"),
    ):
        make()
        with pytest.raises(BadInput, match=message):
            list(open_items(path, WHOLE, MLP.program))
    for other, message in ((tmp_path, "is a folder"), (tmp_path / "absent.npz", "no such file")):
        with pytest.raises(BadInput, match=message):
            open_items(other, WHOLE, MLP.program)
    data = bytearray(archive(path, good).read_bytes())
    data[3000] ^= 1  # in the content: only its check sum tells
    path.write_bytes(data)
    with pytest.raises(BadInput, match="CRC"):
        list(open_items(path, WHOLE, MLP.program))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 4600), st.binary(max_size=6), st.integers(0, 6))
def test_no_damage_is_anything_but_refused_or_read(tmp_path_factory: Any, at: int, new: bytes, drop: int) -> None:
    path = tmp_path_factory.mktemp("damaged") / "items.npz"
    data = archive(path, array_bytes(numbers(16, 64)), kind=zipfile.ZIP_DEFLATED).read_bytes()
    path.write_bytes(data[:at] + new + data[at + drop :])
    try:
        for (tensor,) in open_items(path, WHOLE, MLP.program):
            assert tuple(tensor.shape) == (8, 64)
    except BadInput as error:
        assert "items.npz" in str(error)


def test_outputs_are_written_in_the_form_of_the_inputs(tmp_path: Path) -> None:
    path, outputs = tmp_path / "out.npz", [numbers(8, 64, seed=i) for i in range(3)]
    for rows, shape in ((True, (24, 64)), (False, (3, 8, 64))):
        with results_file(path, WHOLE, MLP.program, 3, rows) as put:
            for output in outputs:
                put([torch.from_numpy(output)])
        (name,) = names_of(MLP.program)
        found = np.load(path, allow_pickle=False)
        assert list(found) == [name] and found[name].shape == shape
        assert np.array_equal(found[name].reshape(24, 64), np.concatenate(outputs))
    assert os.listdir(tmp_path) == ["out.npz"]


def test_several_outputs_of_all_types(tmp_path: Path) -> None:
    with torch.inference_mode():
        outputs = list(STRIDES.module(torch.randn(5, 6), torch.rand(3) > 0.5).values())
    with results_file(tmp_path / "out.npz", whole(STRIDES), STRIDES.program, 2, rows=False) as put:
        put(outputs)
        put(outputs)
    found = np.load(tmp_path / "out.npz", allow_pickle=False)
    assert list(found) == names_of(STRIDES.program) and len(set(found)) == len(outputs)
    for array, output in zip(found.values(), outputs, strict=True):
        assert array.dtype == output.numpy().dtype
        assert np.array_equal(array, np.stack([output.numpy()] * 2))


def test_whatever_ends_the_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.npz"
    path.write_bytes(b"old")
    for program, plan in ((MLP.program, WHOLE), (STRIDES.program, whole(STRIDES))):
        for error in (KeyboardInterrupt, SystemExit, ZeroDivisionError):
            with pytest.raises(error), results_file(path, plan, program, 3, rows=False) as put:
                put([torch.zeros(program.type_of(output).shape) for output in program.outputs])
                raise error
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["out.npz"]
    with pytest.raises(SystemRefused, match=r"absent/out.npz cannot be written: No such file"):
        results_file(tmp_path / "absent" / "out.npz", WHOLE, MLP.program, 1, rows=False).__enter__()
    with pytest.raises(SystemRefused, match=r"/proc/out.npz cannot be written") as raised:
        results_file(Path("/proc/out.npz"), WHOLE, MLP.program, 1, rows=False).__enter__()
    assert raised.value.exit_code == 10


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """A limit on the size of files stands for the disk: with the signal ignored, writing fails as on a full one. No
    fixture: the outcome of a test is written to a file, too, perhaps."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_the_old_outputs(tmp_path: Path) -> None:
    path = tmp_path / "out.npz"
    path.write_bytes(b"old")
    with (
        full_disk(),
        pytest.raises(SystemRefused, match=r"out.npz cannot be written: File too large") as raised,
        results_file(path, WHOLE, MLP.program, 1000, rows=False) as put,
    ):
        for _ in range(1000):
            put([torch.zeros(8, 64)])
    assert raised.value.exit_code == 10
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["out.npz"]


def test_a_full_disk_leaves_the_old_plan(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text("old")
    with full_disk(), pytest.raises(SystemRefused, match=r"plan.json cannot be written: File too large"):
        save_plan(plan_for(MLP, [[op.name] for op in MLP.graph.ops]), path)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["plan.json"]


def test_a_file_is_run_once_and_compared_in_part(tmp_path: Path) -> None:
    array = numbers(10, 8, 64)
    array[7, 0, 0] = math.nan
    given, out, measured = written(tmp_path / "in.npz", input=array), tmp_path / "out.npz", tmp_path / "m.json"
    plan = plan_for(MLP, cuts(MLP.graph, [4, 4]), source=SOURCE, request={"batch": 8})
    save_plan(plan, tmp_path / "plan.json")
    app = __import__("typer").Typer()
    app.command("run")(__import__("mapper.cli.run").cli.run.run_command)
    words = ["--trust", "--oversubscribe", "--input", given, "-o", out, "-o", measured, tmp_path / "plan.json"]
    answered = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    first = answered.stdout.splitlines()[0]
    assert "4 of 10 outputs compared, these identical to those of the original model" in first and "items/s" in first
    assert "1 outputs that were not compared hold NaN" in answered.stdout
    assert f"Written to {out}." in answered.stdout
    document = json.loads(measured.read_text())
    assert (document["items"], document["items_compared"], document["warmup"]) == (10, 4, 0)
    (found,) = np.load(out, allow_pickle=False).values()
    for item, output in zip(array, found, strict=True):
        assert np.array_equal(reference(MLP, torch.from_numpy(item)).numpy(), output, equal_nan=True)


def test_items_begin_again_where_more_are_asked_for_than_there_are(tmp_path: Path) -> None:
    given, out = written(tmp_path / "in.npz", input=numbers(16, 64)), tmp_path / "out.npz"
    m = run(WHOLE, MLP.module, inputs=given, results=out, items=5, warmup=3, compare=100, oversubscribe=True)
    assert (m.items, m.items_compared, m.warmup) == (5, 5, 3) and m.outputs_identical
    (found,) = np.load(out).values()
    assert found.shape == (40, 64) and np.array_equal(found[:8], found[16:24])
    bad = {name: weight * 1.01 for name, weight in MLP.weights.items()}
    out.write_bytes(b"old")
    from mapper.sources.source import Source

    wrong = Source(MLP.program, bad, MLP.module)
    with pytest.raises(OutputsDiffer, match="the output of item 0 is not"):
        run(WHOLE, wrong, inputs=given, results=out, oversubscribe=True)
    assert out.read_bytes() == b"old", "what is wrong is not written"
    with pytest.raises(UsageError, match="at least one item is compared"):
        run(WHOLE, MLP.module, compare=0)


def test_where_output_goes_and_what_progress_says() -> None:
    assert targets([Path("a.npz"), Path("b.json")]) == (Path("a.npz"), Path("b.json"))
    assert targets([Path("b")]) == (None, Path("b"))
    with pytest.raises(UsageError, match="-o takes one"):
        targets([Path("a.npz"), Path("b.npz")])
    said: list[str] = []
    clock = iter([0.0, 0.05, 0.5, 1.0, 2.0, 2.01])
    rate = Rate(said.append, lambda: 80, lambda: next(clock))
    for done in (1, 2, 3, 11, 31, 32):
        rate.told(done, 32)
    assert said == [
        "1 of 32 items", "3 of 32 items, 4.00 items/s", "11 of 32 items, 10.0 items/s  ▂█",
        "31 of 32 items, 20.0 items/s  ▂▇█", "32 of 32 items, 20.8 items/s  ▂▇█",
    ]  # fmt: skip
