"""Problem files (`mapper.plans.problem_file`) as the arrays that the search sees, and such arrays as a problem file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mapper.cost.configurations import Config
from mapper.cost.residency import DRAM as FAR
from mapper.cost.residency import GROUP as NEAR
from mapper.cost.residency import PACKAGE as MIDDLE
from mapper.cost.residency import Caches
from mapper.machine.model import Machine
from mapper.plans.problem_file import CHIP, DRAM, FORMAT, GROUP, ProblemFile, read_problem
from mapper.solver.problem import Array, Limits, Problem, TensorArc, WeightArc
from mapper.units import format_bytes, format_seconds

UNLIMITED_BYTES_PER_S = 1e300
"""Written for an infinite rate, which JSON has no number for."""
_RATE = 2.0**30
"""The link's rate where seconds of tensors are written as bytes; a power of two, so that none is rounded."""


def load_problem(path: Path) -> Problem:
    """The instance in `path`. Raises: BadInput with the pointer of the first violation."""
    return problem_of_file(read_problem(path)[0])


def problem_of_file(file: ProblemFile) -> Problem:
    """The arrays of `file`, its ops in the order `file.order`. A file without the residency `chip` has no chip cache,
    whose column of seconds is then that of `dram`. Tensors that nothing reads are no part of the problem."""
    machine, chip = file.machine, file.machine.chip_cache
    at = {residency: i for i, residency in enumerate(file.residencies)}
    columns = [at[GROUP], at.get(CHIP, at[DRAM]), at[DRAM]]
    ops, place = [file.ops[v] for v in file.order], {v: i for i, v in enumerate(file.order)}
    users: dict[tuple[str, float], dict[int, None]] = {}
    for i, op in enumerate(ops):
        for weight in op.weights:
            users.setdefault(weight, {})[i] = None
    return Problem(
        configs=tuple(Config(c.groups, c.cores // c.groups) for c in file.configs),
        cache_shares=tuple(c.cache_shares for c in file.configs),
        seconds=np.array([op.seconds for op in ops])[:, :, columns],
        dram_bytes=np.zeros((len(ops), len(file.configs))),
        footprint=np.array([op.footprint for op in ops]),
        tensors=tuple(
            TensorArc(place[producer], tuple(sorted(place[r] for r in readers)), tensor.bytes)
            for (producer, readers), tensor in zip(file.ends, file.tensors, strict=True)
            if readers
        ),
        weights=tuple(WeightArc(tuple(where), size) for (_, size), where in users.items()),
        groups=machine.groups,
        cores_per_group=machine.cores_per_group,
        cores=machine.cores,
        caches=Caches(machine.group_cache.usable_bytes, chip.usable_bytes if chip else 0.0, (GROUP, CHIP, DRAM)),
        dram_bytes_per_s=machine.dram_bytes_per_s,
        handoff_s=machine.handoff_s,
        link_bytes_per_s=(machine.link_bytes_per_s,) * len(file.configs),
        ring_slots=machine.ring_slots,
    )


def problem_text(
    problem: Problem, names: Sequence[str], kinds: Sequence[str], *, name: str = "", limits: Limits | None = None
) -> tuple[str, tuple[str, ...]]:
    """`problem` as the text of a problem file, and what of it (and of the request's `limits`) the format cannot say.

    `names` and `kinds` are those of the ops, in order. What is left out makes every plan of the file cost no more than
    in `problem`: the file's optimum is a lower bound of the request's. Where no cache counts, as in graphs with times
    of their own, the seconds of a tensor are written as bytes over the link.
    """
    timed = math.isinf(problem.caches.group_bytes)  # then the bytes of tensors decide nothing but transfers
    columns = _columns(problem)
    head = {
        "format": FORMAT,
        "name": name,
        "machine": _machine(problem, timed),
        "residencies": list(columns),
        "configs": [
            {"name": c.name, "cores": c.cores, "groups": c.groups, "cache_shares": shares}
            for c, shares in zip(problem.configs, problem.cache_shares, strict=True)
        ],
    }
    seconds = problem.seconds[:, :, list(columns.values())]
    rows = [f'"{key}": {_json(value)}' for key, value in head.items()]
    rows.append(_list("ops", _ops(problem, names, kinds, seconds)))
    rows.append(_list("tensors", _tensors(problem, timed)))
    return "{" + ",\n".join(rows) + "}\n", (*_left_out(problem, timed), *_limits(limits))


def left_out_of_machine(machine: Machine) -> tuple[str, ...]:
    """What of `machine` no problem file can say."""
    out = []
    if machine.counts["nodes"] > 1:
        out.append(f"the {machine.counts['nodes']} NUMA nodes: distances between them, and the DRAM bandwidth of each")
    if machine.counts["hosts"] > 1:
        out.append(f"the {machine.counts['hosts']} hosts and the network between them")
    if any(node.memory_bytes is not None for node in machine.nodes):
        out.append("how much memory there is")
    if machine.cpu_quota is not None:
        out.append(f"that the system grants the time of {machine.cpu_quota.value:g} cores only")
    return tuple(out)


def _columns(problem: Problem) -> dict[str, int]:
    """The residencies of the file, and the column of `seconds` of each."""
    caches = problem.caches
    chip = {CHIP: MIDDLE} if caches.package_bytes > 0 or caches.holds_model(problem.weight_bytes) else {}
    return {GROUP: NEAR, **chip, DRAM: FAR}


def _machine(problem: Problem, timed: bool) -> dict[str, Any]:
    """The machine of the file. Of links that differ by configuration it has the fastest."""
    caches, names = problem.caches, problem.caches.names
    near = caches.group_bytes if not timed else _most_bytes(problem)
    middle = caches.package_bytes if math.isfinite(caches.package_bytes) else max(problem.weight_bytes, 1.0)
    chip = {"name": names[MIDDLE], "bytes": _number(middle), "fill": 1}
    return {
        "groups": problem.groups,
        "cores_per_group": problem.cores_per_group,
        "dram_bytes_per_s": min(problem.dram_bytes_per_s, UNLIMITED_BYTES_PER_S),
        "group_cache": {"name": names[NEAR], "bytes": _number(near), "fill": 1},
        "chip_cache": chip if CHIP in _columns(problem) else None,
        "handoff_s": 0.0 if timed else problem.handoff_s,
        "link_bytes_per_s": _RATE if timed else min(max(problem.link_bytes_per_s), UNLIMITED_BYTES_PER_S),
        "ring_slots": problem.ring_slots,
    }


def _most_bytes(problem: Problem) -> float:
    """Bytes of which one core's share holds the working set of any stage."""
    tensors = sum(_transfer_s(problem, tensor) for tensor in problem.tensors) * _RATE
    private = float(problem.footprint.max()) + problem.ring_slots * tensors
    return float(math.ceil((problem.weight_bytes + private) * problem.cores_per_group) + 1)


def _transfer_s(problem: Problem, tensor: TensorArc) -> float:
    """Seconds of one side of a transfer, over the fastest link."""
    return problem.handoff_s + tensor.seconds + tensor.bytes / max(problem.link_bytes_per_s)


def _ops(problem: Problem, names: Sequence[str], kinds: Sequence[str], seconds: Array) -> Iterable[dict[str, Any]]:
    weights: list[list[tuple[str, float]]] = [[] for _ in names]
    for i, weight in enumerate(problem.weights):
        for v in weight.users:
            weights[v].append((f"w{i}", _number(weight.bytes)))
    for v, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        yield {
            "name": name,
            "kind": kind,
            "weights": weights[v],
            "footprint": _number(float(problem.footprint[v])),
            "seconds": seconds[v].tolist(),
        }


def _tensors(problem: Problem, timed: bool) -> Iterable[dict[str, Any]]:
    for tensor in problem.tensors:
        size = _transfer_s(problem, tensor) * _RATE if timed else tensor.bytes
        yield {"producer": tensor.producer, "readers": list(tensor.readers), "bytes": _number(size)}


def _left_out(problem: Problem, timed: bool) -> Iterable[str]:
    """What `problem` has and the file does not."""
    if problem.dram_bytes.any():
        most = format_bytes(float(problem.dram_bytes.max(axis=1).sum()))
        yield f"activations in DRAM, up to {most} an item"
    links = sorted(set(problem.link_bytes_per_s))
    if len(links) > 1:
        shown = [f"{format_bytes(rate)}/s" if math.isfinite(rate) else "no limit" for rate in (links[0], links[-1])]
        yield f"links that differ by configuration, {shown[0]} to {shown[1]}: the fastest is written"
    if timed and problem.tensors:
        yield f"bytes of tensors: written is what takes their seconds at {format_bytes(_RATE)}/s"
    seconds = [tensor.seconds for tensor in problem.tensors if tensor.seconds]
    if seconds and not timed:
        yield f"seconds that tensors cost besides their bytes, up to {format_seconds(max(seconds))}"
    every = problem.groups * problem.cores_per_group
    if problem.cores < every:
        yield f"{every - problem.cores} cores that are not there or taken: the file has all {every} of its groups"
    if problem.together:
        yield f"ops that must share a stage: {len(problem.together)} sets"
    if problem.apart:
        yield f"ops that must not share a stage: {len(problem.apart)} sets"


def _limits(limits: Limits | None) -> Iterable[str]:
    given = limits.as_options() if limits is not None else {}
    told = ("together", "apart")
    names = ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
                      for name, value in given.items() if name not in told)  # fmt: skip
    if names:
        yield f"limits of the request: {names}"


def _number(value: float) -> float:
    """Whole numbers without a decimal point."""
    return int(value) if float(value).is_integer() else float(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _list(key: str, values: Iterable[Any]) -> str:
    """One line an element."""
    lines = ",\n".join(map(_json, values))
    return f'"{key}": [\n{lines}\n]' if lines else f'"{key}": []'
