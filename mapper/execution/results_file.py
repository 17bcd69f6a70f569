"""Outputs into an `.npz` file as they come: whole at the end, or not there at all."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import torch

from mapper.execution.items_file import NOT_IN_NUMPY
from mapper.jsonio import replacing
from mapper.plans.model import Plan
from mapper.program.model import Program, TensorType

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first that a zip file knows: the same results give the same bytes
_CHUNK_BYTES = 2**20


@contextlib.contextmanager
def results_file(
    path: Path, plan: Plan, program: Program, count: int, rows: bool
) -> Iterator[Callable[[Sequence[torch.Tensor]], None]]:
    """A function that takes the outputs of one item after the other, `count` in all, and writes them to `path`: an
    array for each output, called like it. An output whose items have shape S is [count, *S]; with `rows`, where S
    begins with the plan's batch B, [count·B, *S[1:]].

    The file takes the place of an older one when the block ends well; else that one stays as it is. Only what is being
    written is in memory; of several outputs, all but the first wait in a file beside it until the end.

    Raises: SystemRefused when it cannot be written.
    """
    kinds = [program.type_of(reference) for reference in program.outputs]
    names = names_of(program)
    with replacing(path) as out, contextlib.ExitStack() as stack:
        archive = zipfile.ZipFile(out, "w")
        stack.callback(_abandon, archive)
        members: list[IO[bytes]] = []
        for name in names:
            if members:
                members.append(stack.enter_context(tempfile.TemporaryFile(dir=path.resolve().parent)))
            else:
                members.append(_member(archive, name))
                stack.callback(_abandon, members[0])
        for member, kind in zip(members, kinds, strict=True):
            _write_header(member, kind, _shape(kind, plan, count, rows))

        def put(outputs: Sequence[torch.Tensor]) -> None:
            for member, tensor in zip(members, outputs, strict=True):
                wanted = str(tensor.dtype).removeprefix("torch.")
                stored = tensor.to(getattr(torch, NOT_IN_NUMPY.get(wanted, wanted)))
                member.write(stored.contiguous().numpy().reshape(-1).view(np.uint8).data)

        yield put
        if members:
            members[0].close()
        for name, spooled in zip(names[1:], members[1:], strict=True):
            spooled.seek(0)
            with _member(archive, name) as member:
                shutil.copyfileobj(spooled, member, _CHUNK_BYTES)
        archive.close()


def names_of(program: Program) -> list[str]:
    """What the arrays of the outputs are called: an output that is given twice has a number behind its name."""
    names: list[str] = []
    for i, reference in enumerate(program.outputs):
        name = program.output_names[i] if program.output_names else str(next(iter(reference.values())))
        names.append(name if name not in names else f"{name}.{i}")
    return names


def converted(program: Program) -> list[str]:
    """What is not written in its own dtype, in words."""
    kinds = [program.type_of(reference) for reference in program.outputs]
    return [
        f"{name} is {kind.dtype}, which numpy has no type for: it is written as {NOT_IN_NUMPY[kind.dtype]}, exactly"
        for name, kind in zip(names_of(program), kinds, strict=True)
        if kind.dtype in NOT_IN_NUMPY
    ]


def _shape(kind: TensorType, plan: Plan, count: int, rows: bool) -> tuple[int, ...]:
    calls = plan.request.micro_batches
    shape = kind.shape if calls == 1 else (kind.shape[0] * calls, *kind.shape[1:])
    if rows and shape and shape[0] == plan.request.batch:
        return (count * shape[0], *shape[1:])
    return (count, *shape)


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    return archive.open(zipfile.ZipInfo(name + ".npy", _EPOCH), "w", force_zip64=True)


def _write_header(file: IO[bytes], kind: TensorType, shape: tuple[int, ...]) -> None:
    dtype = np.dtype(NOT_IN_NUMPY.get(kind.dtype, kind.dtype))
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _abandon(file: IO[bytes] | zipfile.ZipFile) -> None:
    """Closes what may be closed already, or cannot be: the error that led here is the one that counts."""
    with contextlib.suppress(OSError, ValueError):
        file.close()
