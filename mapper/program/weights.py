"""Weights on disk: safetensors files, read in place.

The format is a little-endian 64-bit length, that many bytes of JSON (`{"name": {"dtype", "shape", "data_offsets"}}`,
offsets from the end of the JSON), and the tensors' bytes without gaps. This reader and writer need no package beyond
torch, map the file instead of reading it, so that processes on one machine share its pages, and keep tensors at
multiples of 64 bytes: kernels take other paths for data that is not aligned, and then round differently.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

from mapper import jsonio
from mapper.errors import BadInput
from mapper.program.model import Program

Tensors = dict[str, torch.Tensor]

ALIGNMENT = 64
MAX_HEADER_BYTES = 100_000_000
_NAME_OF = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.int16: "I16", torch.int32: "I32",
    torch.int64: "I64", torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64",
    torch.complex64: "C64",
}  # fmt: skip
_DTYPE_OF = {name: dtype for dtype, name in _NAME_OF.items()}


@dataclass(frozen=True)
class _Entry:
    """One tensor of a file; `start` counts from the end of the header."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    size: int


def save_weights(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Writes `tensors` to the safetensors file `path`: whole, or not at all and SystemRefused."""
    with jsonio.replacing(path) as out:
        write_weights(out, tensors)


def write_weights(out: IO[bytes], tensors: Mapping[str, torch.Tensor]) -> None:
    """Writes `tensors`, each contiguous, to `out` as safetensors. The same tensors give the same bytes.

    Raises: BadInput for a dtype that the format lacks.
    """
    _require_little_endian()
    order = sorted(tensors, key=lambda name: _rank(name, tensors[name]))
    header: dict[str, Any] = {}
    position = 0
    for name in order:
        tensor = tensors[name]
        if tensor.dtype not in _NAME_OF:
            raise BadInput(name, f"a safetensors file cannot hold {tensor.dtype}")
        end = position + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _NAME_OF[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [position, end],
        }  # fmt: skip
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    out.write(struct.pack("<Q", len(text)) + text)
    for name in order:
        if tensors[name].numel():
            out.write(tensors[name].detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _rank(name: str, tensor: torch.Tensor) -> tuple[bool, int, str]:
    """Sizes that keep what follows aligned come first, then the rest, the largest of them aligned still."""
    size = tensor.numel() * tensor.element_size()
    ragged = size % ALIGNMENT != 0
    return ragged, -size if ragged else 0, name


def read_weights(path: Path) -> Tensors:
    """The tensors of the safetensors file `path`, mapped: see `map_weights`.

    Raises: BadInput when the file is absent or not what it should be.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise BadInput(str(path), f"cannot be read: {error.strerror}") from None
    try:
        return map_weights(fd, str(path))
    finally:
        os.close(fd)


def map_weights(fd: int, source: str, *, names: Collection[str] | None = None) -> Tensors:
    """The tensors (all, or those called `names`) of the open safetensors file `fd`, which errors call `source`.

    `fd` may be closed afterwards.
    Tensors share the pages of the file with every process that maps it; one that is written to becomes private. Those
    that do not start at a multiple of 64 bytes are copied.

    Raises: BadInput naming the tensor whose dtype, shape or place in the file is wrong.
    """
    _require_little_endian()
    size = os.fstat(fd).st_size
    start, entries = _read_header(fd, size, source)
    entries = [entry for entry in entries if names is None or entry.name in names]
    if start == size:
        return {entry.name: torch.empty(entry.shape, dtype=entry.dtype) for entry in entries}
    view = mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    return {entry.name: _tensor(view, start, entry) for entry in entries}


def _tensor(view: mmap.mmap, start: int, entry: _Entry) -> torch.Tensor:
    if entry.size == 0:
        return torch.empty(entry.shape, dtype=entry.dtype)
    place = start + entry.start
    if place % ALIGNMENT == 0:
        count = math.prod(entry.shape)
        return torch.frombuffer(view, dtype=entry.dtype, count=count, offset=place).reshape(entry.shape)
    raw = torch.frombuffer(view, dtype=torch.uint8, count=entry.size, offset=place)
    return raw.clone().view(entry.dtype).reshape(entry.shape)


def _read_header(fd: int, size: int, source: str) -> tuple[int, list[_Entry]]:
    """Where the data starts, and what is there, in the order of the file."""
    prefix = os.pread(fd, 8, 0)
    length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
    if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
        raise BadInput(
            source, f"not a safetensors file, or cut off: {size} bytes, of which {length} are to be its header"
        )
    document = jsonio.parse_json(os.pread(fd, length, 8), source)
    if not isinstance(document, dict):
        raise BadInput(source, "not a safetensors file: its header is no JSON object")
    document.pop("__metadata__", None)
    entries = [_entry(name, given, source) for name, given in document.items()]
    _check_gapless(entries, size - 8 - length, source)
    return 8 + length, entries


def _entry(name: str, given: Any, source: str) -> _Entry:
    """The header's entry for `name`, each part of it checked."""

    def sizes(value: Any) -> bool:
        return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**48 for n in value)

    place = f"tensor {name!r}"
    if not isinstance(given, dict) or set(given) != {"dtype", "shape", "data_offsets"}:
        raise BadInput(source, "exactly dtype, shape and data_offsets were expected", place=place)
    if not isinstance(given["dtype"], str) or given["dtype"] not in _DTYPE_OF:
        raise BadInput(source, f"dtype {given['dtype']!r} is not one of {', '.join(_DTYPE_OF)}", place=place)
    if not sizes(given["shape"]) or not sizes(given["data_offsets"]) or len(given["data_offsets"]) != 2:
        raise BadInput(source, "shape and data_offsets must be lists of sizes, the latter of two", place=place)
    dtype, (first, end) = _DTYPE_OF[given["dtype"]], given["data_offsets"]
    needed = math.prod(given["shape"]) * torch.empty((), dtype=dtype).element_size()
    if end - first != needed:
        raise BadInput(source, f"{needed} bytes by its shape, {end - first} by its data_offsets", place=place)
    return _Entry(name, dtype, tuple(given["shape"]), first, needed)


def _check_gapless(entries: Sequence[_Entry], data_bytes: int, source: str) -> None:
    """Tensors must fill the data one after the other, as the format demands."""
    position = 0
    for entry in sorted(entries, key=lambda e: (e.start, e.size)):
        if entry.start != position:
            kind = "overlaps the tensor before it" if entry.start < position else "leaves a gap before it"
            raise BadInput(
                source, f"{kind}: it starts at {entry.start}, not {position}", place=f"tensor {entry.name!r}"
            )
        position += entry.size
    if position != data_bytes:
        what = "cut off" if position > data_bytes else "too long"
        raise BadInput(source, f"the file is {what}: its tensors have {position} bytes, it holds {data_bytes}")


def laid_out(program: Program, weights: Mapping[str, torch.Tensor], source: str = "weights") -> Tensors:
    """The weights that `program` reads, each with the strides of its type, which a file does not keep.

    A weight whose elements lie in another order is copied; all others are used as they are.

    Raises: BadInput when one is missing or of another shape or dtype.
    """
    out: Tensors = {}
    for weight in program.weights:
        given, kind = weights.get(weight.name), weight.type
        if given is None:
            raise BadInput(source, f"the weight {weight.name!r} of {program.name} is missing")
        if tuple(given.shape) != kind.shape or given.dtype != getattr(torch, kind.dtype):
            found = f"{str(given.dtype).removeprefix('torch.')}{list(given.shape)}"
            raise BadInput(source, f"the weight {weight.name!r} is {found}, not {kind.dtype}{list(kind.shape)}")
        if given.numel() and given.stride() != kind.strides:
            distinct = torch.empty_strided(kind.distinct_shape, kind.strides, dtype=given.dtype)
            for dimension, n in enumerate(kind.distinct_shape):
                given = given.narrow(dimension, 0, n)
            given = distinct.copy_(given).as_strided(kind.shape, kind.strides)
        out[weight.name] = given.detach()
    return out


def _require_little_endian() -> None:
    if sys.byteorder != "little":
        raise BadInput("weights", "safetensors files are little-endian, this machine is not")
