"""Bundles: a plan with all that another machine needs to run it, in one folder.

`NAME.bundle/` holds `program.json`, `weights.safetensors`, `plan.json` and `sample.safetensors` (one item and what
the model gave for it). All of it is data: nothing in a bundle is imported, unpickled or called.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

from mapper import jsonio
from mapper.errors import BadInput
from mapper.plans.file import load_plan, plan_text
from mapper.plans.model import Plan
from mapper.program.model import SCHEMA, Program
from mapper.program.weights import laid_out, map_weights, save_weights

Tensors = Mapping[str, torch.Tensor]

PROGRAM, WEIGHTS, PLAN, SAMPLE = "program.json", "weights.safetensors", "plan.json", "sample.safetensors"
MAX_PROGRAM_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Sample:
    """One item by input name, and the outputs of the unsplit model for it, in the model's order."""

    inputs: Tensors
    outputs: tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Bundle:
    """An open bundle. `weights` are mapped from `weights_file`, which stays open as long as the bundle is there."""

    path: Path
    program: Program
    weights: Tensors
    plan: Plan
    sample: Sample
    weights_file: BinaryIO


def write_bundle(path: Path, program: Program, weights: Tensors, plan: Plan, sample: Sample) -> None:
    """Writes the bundle `path`: whole, in the place of an older bundle there, or not at all.

    Raises: BadInput when plan, weights or sample are not those of `program`, or `path` is something else than a
    bundle; SystemRefused when the folder cannot be written.
    """
    if path.exists() and not (path / PROGRAM).is_file():
        raise BadInput(str(path), "is there already, and is no bundle")
    _check(program, plan, sample, str(path))
    needed = laid_out(program, weights, str(path))
    with jsonio.replacing_folder(path) as made:
        jsonio.write_text(made / PROGRAM, jsonio.dumps(jsonio.plain(program)))
        save_weights(made / WEIGHTS, needed)
        jsonio.write_text(made / PLAN, plan_text(plan))
        save_weights(made / SAMPLE, _named(sample))


def _named(sample: Sample) -> dict[str, torch.Tensor]:
    inputs = {f"input:{name}": tensor for name, tensor in sample.inputs.items()}
    return inputs | {f"output:{i}": tensor for i, tensor in enumerate(sample.outputs)}


def open_bundle(path: str | Path) -> Bundle:
    """The bundle in the folder `path`.

    Raises: BadInput when a file is absent, a link, or broken, or when the parts do not belong together.
    """
    path = Path(path)
    for name in (PROGRAM, WEIGHTS, PLAN, SAMPLE):
        _open(path, name).close()
    with _open(path, PROGRAM) as file:
        program = _program(file, str(path / PROGRAM))
    plan = load_plan(path / PLAN)
    weights_file = _open(path, WEIGHTS)
    weights = laid_out(program, map_weights(weights_file.fileno(), str(path / WEIGHTS)), str(path / WEIGHTS))
    with _open(path, SAMPLE) as file:
        sample = _sample(program, map_weights(file.fileno(), str(path / SAMPLE)), str(path / SAMPLE))
    _check(program, plan, sample, str(path))
    return Bundle(path, program, weights, plan, sample, weights_file)


def _open(folder: Path, name: str) -> BinaryIO:
    """The file `name` of a bundle, which must be a plain file of this very folder."""
    try:
        fd = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        what = "is a link; a bundle holds plain files only" if (folder / name).is_symlink() else error.strerror
        raise BadInput(str(folder / name), f"cannot be read: {what}") from None
    file = os.fdopen(fd, "rb", buffering=0)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        file.close()
        raise BadInput(str(folder / name), "is no plain file")
    return file


def _program(file: BinaryIO, source: str) -> Program:
    size = os.fstat(file.fileno()).st_size
    if size > MAX_PROGRAM_BYTES:
        raise BadInput(source, f"{size} bytes; a program has at most {MAX_PROGRAM_BYTES}")
    document = jsonio.parse_json(file.read(), source)
    jsonio.require_schema(document, SCHEMA, source)
    return jsonio.validated(Program, document, source)


def _sample(program: Program, tensors: Tensors, source: str) -> Sample:
    def get(name: str) -> torch.Tensor:
        if name not in tensors:
            raise BadInput(source, f"the tensor {name!r} is missing")
        return tensors[name]

    inputs = {given.name: get(f"input:{given.name}") for given in program.inputs}
    return Sample(inputs, tuple(get(f"output:{i}") for i in range(len(program.outputs))))


def _check(program: Program, plan: Plan, sample: Sample, source: str) -> None:
    """The parts of a bundle must belong together."""
    if plan.model.graph_sha256 != program.sha256:
        raise BadInput(source, f"its plan maps the graph {plan.model.graph_sha256[:12]}, its program is "
                       f"{program.sha256[:12]}", place=PLAN)  # fmt: skip
    described = [(f"input:{given.name}", given.type, sample.inputs.get(given.name)) for given in program.inputs]
    types = [program.type_of(reference) for reference in program.outputs]
    described += [(f"output:{i}", *pair) for i, pair in enumerate(zip(types, sample.outputs, strict=True))]
    for name, kind, tensor in described:
        if tensor is None or tuple(tensor.shape) != kind.shape or str(tensor.dtype) != f"torch.{kind.dtype}":
            raise BadInput(source, f"{name} is not {kind.dtype}{list(kind.shape)}", place=SAMPLE)
