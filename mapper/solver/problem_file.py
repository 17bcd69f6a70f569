"""Instances as files, `mapper-problem/1`: whole problems with their tables, for comparing planners."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from mapper import jsonio
from mapper.cost.configurations import Config
from mapper.cost.residency import Caches
from mapper.errors import BadInput
from mapper.jsonio import Record
from mapper.solver.problem import Problem, TensorArc, WeightArc

SCHEMA = "mapper-problem/1"


class FileCache(Record):
    """A cache: `bytes` of it, of which the part `fill` counts."""

    name: str = ""
    bytes: float = Field(gt=0)
    fill: float = Field(gt=0, le=1)


class FileMachine(Record):
    """The machine of an instance."""

    groups: int = Field(gt=0)
    cores_per_group: int = Field(gt=0)
    dram_bytes_per_s: float = Field(gt=0)
    group_cache: FileCache
    chip_cache: FileCache | None = None
    handoff_s: float = Field(ge=0)
    link_bytes_per_s: float = Field(gt=0)
    ring_slots: int = Field(gt=0)


class FileConfig(Record):
    """A configuration: `cores` in all, over `groups` groups, adding up `cache_shares` group caches."""

    name: str
    cores: int = Field(gt=0)
    groups: int = Field(gt=0)
    cache_shares: int = Field(gt=0)


class FileOp(Record):
    """An op: seconds[config][residency], weights [[id, bytes]...], bytes that it reads and writes."""

    name: str
    kind: str = ""
    weights: tuple[tuple[str, float], ...] = ()
    footprint: float = Field(ge=0)
    seconds: tuple[tuple[float, ...], ...]


class FileTensor(Record):
    """One distinct tensor. Ops are named, or given by position."""

    producer: str | int
    readers: tuple[str | int, ...]
    bytes: float = Field(ge=0)


class ProblemFile(Record):
    """An instance as it stands in its file."""

    format: Literal["mapper-problem/1"]
    name: str = ""
    machine: FileMachine
    residencies: tuple[str, ...]
    configs: tuple[FileConfig, ...] = Field(min_length=1)
    ops: tuple[FileOp, ...] = Field(min_length=1)
    tensors: tuple[FileTensor, ...]


def load_problem(path: Path) -> Problem:
    """The instance in `path`. Raises: BadInput with the pointer of the first violation."""
    given = jsonio.validated(ProblemFile, jsonio.read_json(path), str(path))
    at = {residency: i for i, residency in enumerate(given.residencies)}
    columns = [at["group"], at.get("chip", at["dram"]), at["dram"]]
    position: dict[str | int, int] = {op.name: v for v, op in enumerate(given.ops)} | {
        v: v for v in range(len(given.ops))
    }
    users: dict[tuple[str, float], list[int]] = {}
    for v, op in enumerate(given.ops):
        if len(op.seconds) != len(given.configs) or any(len(row) != len(at) for row in op.seconds):
            raise BadInput(
                str(path), f"{len(given.configs)} × {len(at)} seconds were expected", place=f"/ops/{v}/seconds"
            )
        for name, size in op.weights:
            users.setdefault((name, size), []).append(v)
    for i, tensor in enumerate(given.tensors):
        for end in (tensor.producer, *tensor.readers):
            if end not in position:
                raise BadInput(str(path), f"unknown op {end!r}", place=f"/tensors/{i}")
    machine = given.machine
    chip = machine.chip_cache
    return Problem(
        configs=tuple(Config(c.groups, c.cores // c.groups) for c in given.configs),
        cache_shares=tuple(c.cache_shares for c in given.configs),
        seconds=np.array([op.seconds for op in given.ops])[:, :, columns],
        dram_bytes=np.zeros((len(given.ops), len(given.configs))),
        footprint=np.array([op.footprint for op in given.ops]),
        tensors=tuple(
            TensorArc(position[t.producer], tuple(position[r] for r in t.readers), t.bytes) for t in given.tensors
        ),
        weights=tuple(WeightArc(tuple(ops), size) for (_, size), ops in users.items()),
        groups=machine.groups,
        cores_per_group=machine.cores_per_group,
        cores=machine.groups * machine.cores_per_group,
        caches=Caches(
            machine.group_cache.bytes * machine.group_cache.fill,
            chip.bytes * chip.fill if chip else 0.0,
            ("group", "chip", "dram"),
        ),
        dram_bytes_per_s=machine.dram_bytes_per_s,
        handoff_s=machine.handoff_s,
        link_bytes_per_s=(machine.link_bytes_per_s,) * len(given.configs),
        ring_slots=machine.ring_slots,
    )
