"""Items from an `.npz` file: arrays called like the model's inputs, read item by item, never whole.

An input whose items have shape S is given as an array [N, *S] of N items. Where S begins with the plan's batch B, rows
may also follow each other without a dimension for items: [N·B, *S[1:]], with S itself for one item.
"""

from __future__ import annotations

import contextlib
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from mapper.errors import BadInput
from mapper.plans.model import Plan
from mapper.program.model import Program, TensorType

NOT_IN_NUMPY = {"bfloat16": "float32"}
"""Dtypes that numpy, and so `.npz`, has no type for; and what such tensors are in a file."""
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_BROKEN = (EOFError, ValueError, OverflowError, NotImplementedError, RuntimeError)
"""What else `zipfile` raises on damaged files."""


@dataclass(frozen=True)
class _Array:
    """An array of the file: items of `shape`, in `dtype` of the file, for a tensor of `wanted`."""

    name: str
    shape: tuple[int, ...]
    dtype: Any
    wanted: str


@dataclass(frozen=True)
class ItemsFile:
    """`count` items in the file `path`. `rows`: it has them as rows, without a dimension for items. Iterating reads
    them, each as tensors in the order of the program's inputs."""

    path: Path
    count: int
    rows: bool
    arrays: tuple[_Array, ...]

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_reading(self.path))
            archive = stack.enter_context(zipfile.ZipFile(self.path))
            files = [stack.enter_context(archive.open(array.name + ".npy")) for array in self.arrays]
            for file in files:
                _header(file)
            for _ in range(self.count):
                yield [_tensor(self.path, file, array) for file, array in zip(files, self.arrays, strict=True)]

    @property
    def notes(self) -> list[str]:
        """What was converted."""
        return [
            f"{array.name} is {array.wanted}, which numpy has no type for: it was rounded from {array.dtype}"
            for array in self.arrays
            if array.wanted in NOT_IN_NUMPY
        ]


def open_items(path: Path, plan: Plan, program: Program) -> ItemsFile:
    """The items in `path`.

    Raises: BadInput when it cannot be read, lacks an input or has another array, or an array is not what the plan was
    made for: its name, shape and dtype, and what was expected.
    """
    calls, names = plan.request.micro_batches, [given.name for given in program.inputs]
    with _reading(path), zipfile.ZipFile(path) as archive:
        found = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if set(found) != set(names):
            raise BadInput(str(path), f"its arrays are called {_list(found)}, {_list(names)} was expected",
                           advice="Arrays are called like the inputs of the model.")  # fmt: skip
        arrays, counts, rows = [], {}, []
        for given in program.inputs:
            with archive.open(found[given.name]) as file:
                shape, dtype = _header(file, given.name)
                _require_dtype(path, given.name, given.type, dtype)
                item = _item_shape(given.type, calls)
                counts[given.name], as_rows = _count(path, given.name, shape, item, plan.request.batch)
                if found[given.name].file_size != file.tell() + math.prod(shape) * dtype.itemsize:
                    raise BadInput(str(path), "its content is not as long as its shape says", place=given.name)
            arrays.append(_Array(given.name, item, dtype, given.type.dtype))
            rows.append(as_rows)
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise BadInput(str(path), f"its arrays hold different numbers of items: {listed}")
    return ItemsFile(path, next(iter(counts.values())), all(rows), tuple(arrays))


def _list(names: Any) -> str:
    shown = [repr(name) for name in names]
    return ", ".join(shown[:8]) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "") if shown else "nothing"


def _item_shape(kind: TensorType, calls: int) -> tuple[int, ...]:
    """The shape of an item of so many calls of the program."""
    return kind.shape if calls == 1 else (kind.shape[0] * calls, *kind.shape[1:])


def _count(path: Path, name: str, shape: tuple[int, ...], item: tuple[int, ...], batch: int) -> tuple[int, bool]:
    """How many items of shape `item` an array of `shape` holds, and whether it has them as rows."""
    by_rows = bool(item) and item[0] == batch
    if shape[1:] == item and shape[:1] > (0,):
        return shape[0], False
    if by_rows and shape[1:] == item[1:] and shape[:1] > (0,) and shape[0] % batch == 0:
        return shape[0] // batch, True
    if shape == item:
        return 1, False
    kinds = f"[items, {', '.join(map(str, item))}]" if item else "[items]"
    if by_rows:
        kinds += f" or [rows, {', '.join(map(str, item[1:]))}], rows a multiple of the plan's batch of {batch},"
    raise BadInput(str(path), f"its shape is {list(shape)}, {kinds} was expected", place=name,
                   advice="No item can be left out or filled up here: give whole items.")  # fmt: skip


def _require_dtype(path: Path, name: str, kind: TensorType, found: Any) -> None:
    wanted = NOT_IN_NUMPY.get(kind.dtype, kind.dtype)
    if found.newbyteorder("=") == np.dtype(wanted):
        return
    why = f" (for {kind.dtype}, which numpy has no type for)" if wanted != kind.dtype else ""
    raise BadInput(str(path), f"its dtype is {found}, {wanted} was expected{why}", place=name)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What can be wrong with a file, as `BadInput`."""
    try:
        yield
    except FileNotFoundError:
        raise BadInput(str(path), "no such file") from None
    except IsADirectoryError:
        raise BadInput(str(path), "is a folder, an .npz file was expected") from None
    except (zipfile.BadZipFile, zlib.error, struct.error, *_BROKEN) as error:
        raise BadInput(str(path), f"is no .npz file that can be read: {error}",
                       advice="numpy.savez(path, **arrays) writes one.") from None  # fmt: skip
    except OSError as error:
        raise BadInput(str(path), f"cannot be read: {error.strerror or error}") from error


def _header(file: IO[bytes], name: str = "") -> tuple[tuple[int, ...], Any]:
    """Shape and dtype of the array that `file` begins with; its content comes next. Raises: ValueError."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"{name}: format {version} is not known")
    try:
        shape, fortran, dtype = _HEADERS[version](file)
    except Exception as error:  # numpy lets through what its parser raises, which is not always a ValueError
        raise ValueError(f"{name}: no header of an array: {error}") from None
    if dtype.hasobject or dtype.names is not None or dtype.subdtype is not None:
        raise ValueError(f"{name}: {dtype} is no number; Python objects are not read")
    if fortran and len(shape) > 1:
        raise ValueError(f"{name}: in Fortran order; write numpy.ascontiguousarray({name}), which can be read by items")
    return shape, dtype


def _tensor(path: Path, file: IO[bytes], array: _Array) -> torch.Tensor:
    """The next item of `array`, from its `file`."""
    data = bytearray(math.prod(array.shape) * array.dtype.itemsize)
    view, got = memoryview(data), 0
    while got < len(data):
        step = file.readinto(view[got:])  # type: ignore[attr-defined]
        if not step:
            raise BadInput(str(path), "ends before its last item", place=array.name)
        got += step
    values: Any = np.ndarray(array.shape, array.dtype, buffer=data)
    values = values.astype(array.dtype.newbyteorder("="), copy=False)
    if array.wanted == "bool":
        values = values.view(np.uint8) != 0  # a file may hold bytes that are neither 0 nor 1
    return torch.from_numpy(values).to(getattr(torch, array.wanted))
