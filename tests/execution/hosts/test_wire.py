"""Messages: every tensor comes out as it went in, in exactly as many bytes as its type says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mapper.execution.hosts.wire import message_bytes, pack, unpack
from mapper.program.model import ITEM_BYTES, TensorType


@st.composite
def kinds(draw: st.DrawFn) -> TensorType:
    """Dense, transposed, expanded and empty tensors of all dtypes."""
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    order = draw(st.permutations(range(len(shape))))
    strides, step = [0] * len(shape), 1
    for dimension in order:
        strides[dimension] = step
        step *= max(1, shape[dimension])
    repeated = draw(st.sets(st.integers(0, 2)))
    strides = [0 if i in repeated else stride for i, stride in enumerate(strides)]
    return TensorType(shape=tuple(shape), strides=tuple(strides), dtype=draw(st.sampled_from(sorted(ITEM_BYTES))))


def filled(kind: TensorType) -> torch.Tensor:
    raw = torch.randint(0, 2 if kind.dtype == "bool" else 100, (max(1, kind.extent_bytes // kind.item_bytes),))
    return raw.to(getattr(torch, kind.dtype)).as_strided(kind.shape, kind.strides)


@given(st.lists(kinds(), min_size=1, max_size=4))
def test_what_is_packed_comes_out_again(types: list[TensorType]) -> None:
    tensors = [filled(kind) for kind in types]
    message = pack(tensors, types)
    assert message.dtype == torch.uint8 and message.numel() == message_bytes(types)
    assert message_bytes(types) == max(1, sum(kind.bytes for kind in types))
    for tensor, found in zip(tensors, unpack(message.clone(), types), strict=True):
        assert found.shape == tensor.shape and found.dtype == tensor.dtype and torch.equal(found, tensor)


def test_one_dense_tensor_is_not_copied() -> None:
    kind = TensorType(shape=(4, 2), strides=(2, 1), dtype="float32")
    tensor = filled(kind)
    assert pack([tensor], [kind]).data_ptr() == tensor.data_ptr()


def test_repeated_elements_go_once() -> None:
    kind = TensorType(shape=(1000, 3), strides=(0, 1), dtype="float32")
    message = pack([torch.arange(3.0).expand(1000, 3)], [kind])
    assert message.numel() == 12
    assert torch.equal(unpack(message, [kind])[0], torch.arange(3.0).expand(1000, 3))


@pytest.mark.parametrize("dtype", ["int64", "float16", "bool"])
def test_elements_of_different_sizes_lie_where_their_dtypes_may(dtype: str) -> None:
    small = TensorType(shape=(3,), strides=(1,), dtype="uint8")
    large = TensorType(shape=(2,), strides=(1,), dtype=dtype)
    tensors = [filled(small), filled(large), filled(small)]
    found = unpack(pack(tensors, [small, large, small]), [small, large, small])
    assert all(torch.equal(a, b) for a, b in zip(found, tensors, strict=True))
