"""Our safetensors reader and writer against the package's, and against broken files."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from mapper.errors import BadInput
from mapper.program import weights as w
from mapper.program.model import Program, TensorType, Weight

DTYPES = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
          torch.float16, torch.bfloat16, torch.float32, torch.float64]  # fmt: skip


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def random_tensor(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2 if dtype == torch.bool else 100, shape, generator=generator).to(dtype)


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        left[k].dtype == right[k].dtype and left[k].shape == right[k].shape and bits(left[k]) == bits(right[k])
        for k in left
    )


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.tuples(st.lists(st.integers(0, 9), max_size=3).map(tuple), st.sampled_from(DTYPES)),
        max_size=6,
    )
)
def test_both_readers_read_both_writers(tmp_path_factory: pytest.TempPathFactory, specs: dict) -> None:
    specs.pop("__metadata__", None)
    folder = tmp_path_factory.mktemp("weights")
    tensors = {name: random_tensor(shape, dtype, i) for i, (name, (shape, dtype)) in enumerate(specs.items())}
    w.save_weights(folder / "ours", tensors)
    safetensors.torch.save_file(tensors, folder / "theirs")
    for name in ("ours", "theirs"):
        assert same(w.read_weights(folder / name), tensors)
        assert same(safetensors.torch.load_file(folder / name), tensors)


def test_large_tensors_are_aligned_and_mapped(tmp_path: Path) -> None:
    tensors = {
        "odd": torch.ones(3),
        "big": torch.randn(64, 64),
        "odder": torch.ones(1001),
        "half": torch.ones(32).half(),
    }
    w.save_weights(tmp_path / "f", tensors)
    read = w.read_weights(tmp_path / "f")
    assert all(t.data_ptr() % 64 == 0 for t in read.values())
    before = (tmp_path / "f").read_bytes()
    read["big"].zero_()  # private: the file and other readers do not see it
    assert (tmp_path / "f").read_bytes() == before
    assert torch.equal(w.read_weights(tmp_path / "f")["big"], tensors["big"])


def test_a_descriptor_may_be_closed_after_mapping(tmp_path: Path) -> None:
    w.save_weights(tmp_path / "f", {"a": torch.arange(100)})
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    read = w.map_weights(fd, "f")
    os.close(fd)
    assert torch.equal(read["a"], torch.arange(100))


def file_of(header: object, data: bytes, length: int | None = None) -> bytes:
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut off"),
        (b"abc", "cut off"),
        (file_of({}, b"", 2**40), "cut off"),
        (file_of({}, b"", 200_000_000), "cut off"),
        (file_of(b"{bad json", b""), "not JSON"),
        (file_of([1], b""), "no JSON object"),
        (file_of({"a": entry("F99")}, bytes(8)), "'F99'"),
        (file_of({"a": entry(7)}, bytes(8)), "dtype 7"),
        (file_of({"a": entry(shape=[-2])}, bytes(8)), "sizes"),
        (file_of({"a": entry(shape=[True, 2])}, bytes(8)), "sizes"),
        (file_of({"a": entry(shape=[2**60])}, bytes(8)), "sizes"),
        (file_of({"a": entry(offsets=[0])}, bytes(8)), "sizes"),
        (file_of({"a": entry(shape=[3])}, bytes(8)), "12 bytes by its shape, 8"),
        (file_of({"a": entry(offsets=[4, 12])}, bytes(12)), "gap"),
        (file_of({"a": entry(), "b": entry(offsets=[4, 12])}, bytes(12)), "overlaps"),
        (file_of({"a": entry()}, bytes(7)), "cut off"),
        (file_of({"a": entry()}, bytes(9)), "too long"),
        (file_of({"a": {"dtype": "F32"}}, b""), "exactly"),
        (file_of(b'{"a":1,"a":2}', b""), "twice"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(BadInput, match=message):
        w.read_weights(tmp_path / "f")


def test_an_absent_file_and_an_unknown_dtype_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        w.read_weights(tmp_path / "absent")
    with pytest.raises(BadInput, match="complex128"):
        w.save_weights(tmp_path / "f", {"a": torch.ones(1, dtype=torch.complex128)})
    assert not list(tmp_path.iterdir())


def test_strides_of_the_program_come_back(tmp_path: Path) -> None:
    tensors = {"t": torch.randn(3, 5).t(), "e": torch.randn(4, 1).expand(4, 6), "c": torch.randn(2, 3)}
    types = {name: TensorType(shape=tuple(t.shape), strides=t.stride(), dtype="float32") for name, t in tensors.items()}
    program = Program(
        name="p", inputs=(), ops=(), outputs=({"weight": "t"},),
        weights=tuple(Weight(name=name, type=kind) for name, kind in types.items()),
    )  # fmt: skip
    w.save_weights(tmp_path / "f", tensors)
    read = w.laid_out(program, w.read_weights(tmp_path / "f"))
    for name, tensor in tensors.items():
        assert read[name].stride() == tensor.stride() and torch.equal(read[name], tensor)
    with pytest.raises(BadInput, match="'c' of p is missing"):
        w.laid_out(program, {"t": tensors["t"], "e": tensors["e"]})
    with pytest.raises(BadInput, match="not float32"):
        w.laid_out(program, tensors | {"c": torch.ones(2, 3).double()})
