"""A model folded by module: few enough blocks to see at once, and a tree down to the ops."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from mapper.graph.model import Graph, Op, touched_by
from mapper.reports.page.charts import Block, Flow
from mapper.units import format_bytes, format_count, format_seconds

MOST_BLOCKS = 30
"""Blocks that a picture shows at most, where the model's modules allow."""
MOST_OPS_IN_TREE = 2000
WITHOUT = "(no module)"
_NEARLY_ALL = 0.8
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Module:
    """A module of a model: its path, its own ops, and the modules in it, in the order of the program."""

    path: str
    ops: tuple[str, ...]
    inner: tuple[Module, ...]

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition(".")[2]

    def all_ops(self) -> tuple[str, ...]:
        """Its ops and those of the modules in it."""
        return (*self.ops, *(op for module in self.inner for op in module.all_ops()))


@dataclass(frozen=True)
class Shares:
    """What ops weigh: their seconds in the plan, else their FLOP, else one each; `unit` says which."""

    of: Mapping[str, float]
    unit: str

    def told(self, value: float) -> str:
        """A value with its unit."""
        if self.unit == "seconds":
            return format_seconds(value)
        return f"{format_count(value)}{'FLOP' if self.unit == 'FLOP' else ''}".strip()


def shares_of(graph: Graph, seconds: Mapping[str, float] | None) -> Shares:
    """What the ops of `graph` weigh, by name; `seconds` where they are known."""
    if seconds and any(seconds.values()):
        return Shares(seconds, "seconds")
    if graph.costed:
        return Shares({op.name: op.proc_s or 0.0 for op in graph.ops}, "seconds")
    if graph.flop:
        return Shares({op.name: op.flop for op in graph.ops}, "FLOP")
    return Shares({op.name: 1.0 for op in graph.ops}, "ops")


def module_tree(graph: Graph) -> Module:
    """The modules of `graph`, those with one module in them and no op of their own left out."""
    return _tree("", [(op.name, op.module.split(".") if op.module else []) for op in graph.ops])


def _tree(path: str, ops: Sequence[tuple[str, list[str]]]) -> Module:
    own = [name for name, rest in ops if not rest]
    inside: dict[str, list[tuple[str, list[str]]]] = {}
    for name, rest in ops:
        if rest:
            inside.setdefault(rest[0], []).append((name, rest[1:]))
    inner = tuple(_tree(f"{path}.{part}" if path else part, members) for part, members in inside.items())
    if not own and len(inner) == 1:
        return inner[0]
    return Module(path, tuple(own), inner)


def folded(graph: Graph, stage_of: Mapping[str, int], shares: Shares, most: int = MOST_BLOCKS) -> Flow:
    """`graph` in at most about `most` blocks: modules are opened, those that are alike together, outer ones first, then
    the heaviest, as long as there is room."""
    parts = _opened(module_tree(graph), shares, most)
    if len(parts) == 1 and len(graph.ops) > 1 and not any(op.module for op in graph.ops):
        parts = _runs([(op.name, (op.name,)) for op in graph.ops], most)
    position = graph.position
    parts = sorted(parts, key=lambda part: min(position[op] for op in part[1]))
    handed = _handed(graph, parts)
    if any(target < source for source, target in handed) and len(calls := _calls(graph, parts)) <= most:
        parts, handed = calls, _handed(graph, calls)
    blocks = [_block(name, [graph.ops[position[op]] for op in ops], stage_of, shares) for name, ops in parts]
    return Flow(tuple(blocks), tuple(sorted((a, b, size) for (a, b), size in handed.items())))


def _handed(graph: Graph, parts: Parts) -> dict[tuple[int, int], int]:
    """Bytes that parts hand to others."""
    home = {op: i for i, (_, ops) in enumerate(parts) for op in ops}
    handed: dict[tuple[int, int], int] = {}
    for tensor in graph.tensors:
        source = home[tensor.producer]
        for target in {home[reader] for reader in tensor.readers} - {source}:
            handed[source, target] = handed.get((source, target), 0) + tensor.bytes
    return handed


def _calls(graph: Graph, parts: Parts) -> Parts:
    """`parts` with each that runs several times, with others between, once for each time, in the order of the ops."""
    home = {op: i for i, (_, ops) in enumerate(parts) for op in ops}
    runs = [(i, tuple(op.name for op in ops)) for i, ops in groupby(graph.ops, lambda op: home[op.name])]
    times, seen = Counter(i for i, _ in runs), Counter[int]()
    found = []
    for i, ops in runs:
        seen[i] += 1
        name = parts[i][0]
        found.append((name if times[i] == 1 else f"{name} ({seen[i]} of {times[i]})", ops))
    return found


Parts = list[tuple[str, tuple[str, ...]]]
"""Names, each with its ops."""


def _opened(root: Module, shares: Shares, most: int) -> Parts:
    shown = [root]
    while True:
        alike: dict[str, list[Module]] = {}
        for module in shown:
            if module.inner:
                alike.setdefault(_NUMBER.sub("#", module.path), []).append(module)
        room = most - len(shown)
        fitting = [
            group for group in alike.values()
            if sum(len(_parts(module)) - 1 for module in group) <= room
            and (len(shown) < most // 3 or all(map(_tells_more, group)))
        ]  # fmt: skip
        if not fitting:
            break
        chosen = min(fitting, key=lambda group: (group[0].path.count("."), -_weight(group, shares)))
        shown = [part for module in shown for part in (_parts(module) if module in chosen else [module])]
    if len(shown) < most // 3 and (large := [module for module in shown if module.inner]):
        heaviest = max(large, key=lambda module: _weight([module], shares))
        others = [(_called(module), module.all_ops()) for module in shown if module is not heaviest]
        inside = [(_called(module), module.all_ops()) for module in _parts(heaviest)]
        return others + _runs(inside, most - len(others))
    return [(_called(module), module.all_ops()) for module in shown]


def _called(module: Module) -> str:
    """Its path; of what is in no module the op, where it is one."""
    return module.path or (module.ops[0] if len(module.all_ops()) == 1 else WITHOUT)


def _tells_more(module: Module) -> bool:
    """Whether the parts of `module` are worth a block each: several ops in most, and not nearly all in one."""
    sizes = [len(part.all_ops()) for part in _parts(module)]
    return sum(sizes) >= 2 * len(sizes) and max(sizes) <= _NEARLY_ALL * sum(sizes)


def _parts(module: Module) -> list[Module]:
    """The modules in `module`, and its own ops as one more."""
    own = [Module(module.path, module.ops, ())] if module.ops else []
    return [*own, *module.inner]


def _weight(modules: Iterable[Module], shares: Shares) -> float:
    return sum(shares.of.get(op, 0.0) for module in modules for op in module.all_ops())


def _runs(parts: Parts, most: int) -> Parts:
    """Neighbours among `parts` together, so that `most` are left."""
    each = -(-len(parts) // most)
    runs = [parts[i : i + each] for i in range(0, len(parts), each)]
    return [
        (run[0][0] if len(run) == 1 else f"{run[0][0]} … {run[-1][0]}", tuple(op for _, ops in run for op in ops))
        for run in runs
    ]


def _block(name: str, ops: Sequence[Op], stage_of: Mapping[str, int], shares: Shares) -> Block:
    by_stage: dict[int, float] = {}
    count: dict[int, int] = {}
    for op in ops:
        if op.name in stage_of:
            by_stage[stage_of[op.name]] = by_stage.get(stage_of[op.name], 0.0) + shares.of.get(op.name, 0.0)
            count[stage_of[op.name]] = count.get(stage_of[op.name], 0) + 1
    total = sum(by_stage.values())
    parts = by_stage if total else {stage: float(n) for stage, n in count.items()}
    whole = sum(parts.values())
    found = tuple((stage, part / whole) for stage, part in sorted(parts.items()) if part / whole > 1e-3)
    stages = ", ".join(f"stage {stage} {share:.0%}" for stage, share in found)
    flop = sum(op.flop for op in ops)
    about = [f"{len(ops)} op{'s' * (len(ops) != 1)}", f"{format_count(flop)}FLOP" if flop else "",
             f"{format_bytes(touched_by(ops))} of weights" if touched_by(ops) else ""]  # fmt: skip
    value = shares.told(total) if shares.unit == "seconds" else f"{format_count(flop)}FLOP" if flop else ""
    told = " · ".join(filter(None, (about[0], value)))
    return Block(name, told, f"{name}: {', '.join(filter(None, about))}; {stages}", found)
