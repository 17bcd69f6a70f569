"""A machine as plain text: one character a core, by node, or as the mesh that its `layout` describes."""

from __future__ import annotations

import string
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mapper.machine.hosts import name_of
from mapper.machine.model import Machine
from mapper.machine.parts import Controller, CoreKind, Node
from mapper.machine.pus import format_pus

CORE = "▇"
SLOWER = "▅▃▂"
"""Cores of the second, third and further kinds of a machine whose cores differ."""
IDLE = "·"
STAGES = string.digits + string.ascii_letters
BEYOND = "+"

_BETWEEN_NODES = "   "
_MARK = "\ue000"  # stands for a core until it is known how to show it; `printable` keeps it out of names
_WALLS = " ╵╷│╴┘┐┤╶└┌├─┴┬┼"  # by the arms of a corner: 1 up, 2 down, 4 left, 8 right


@dataclass(frozen=True)
class Outline:
    """A drawing in which every core has its place: lines, and the cores in the order in which one reads them."""

    lines: tuple[str, ...]
    cores: tuple[int, ...]

    def pieces(self) -> Iterator[list[str | int]]:
        """Each line in pieces: a text, or the logical number of the core that stands there."""
        cores = iter(self.cores)
        for line in self.lines:
            first, *rest = line.split(_MARK)
            pieces: list[str | int] = [first]
            for text in rest:
                pieces += [next(cores), text]
            yield pieces

    def filled(self, characters: Sequence[str]) -> list[str]:
        """The lines, with the character of each core by its logical number."""
        return ["".join(p if isinstance(p, str) else characters[p] for p in line) for line in self.pieces()]


def drawing(machine: Machine, colour_of: Mapping[int, int] | None = None, width: int = 100) -> list[str]:
    """The heading (`heading`), an empty line, and the cores: as a mesh with a line for each node where `machine` has a
    layout that fits into `width`, else node by node (`blocks`)."""
    lines = [*heading(machine, width), "", *outline(machine, width).filled(core_characters(machine, colour_of))]
    return lines if mesh(machine, width) is None else [*lines, "", *node_lines(machine, width)]


def outline(machine: Machine, width: int = 100) -> Outline:
    """Where the cores stand in `drawing`: in the mesh, or node by node."""
    return mesh(machine, width) or by_node(machine, width)


def heading(machine: Machine, width: int = 100) -> list[str]:
    """What `machine` is: its name with its counts, its caches and memory with their sizes, and its kinds of core; lines
    that are longer than `width` are wrapped."""
    lines = [f"{printable(machine.title or machine.name)} ({shape(machine)})"]
    if sizes := sizes_line(machine):
        lines.append(sizes)
    if machine.core_kinds:
        lines.append(" · ".join(_kind_text(k, kind) for k, kind in enumerate(machine.core_kinds)))
    return [part for line in lines for part in _in_parts(line, max(width, 30))]


def _in_parts(line: str, width: int) -> list[str]:
    """`line`, or, where it is longer than `width`, several: broken at the dots between its parts, else at spaces."""
    lines: list[str] = []
    for part in line.split(" · "):
        if lines and len(lines[-1]) + 3 + len(part) <= width:
            lines[-1] += f" · {part}"
        else:
            lines += textwrap.wrap(part, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return lines


def sizes_line(machine: Machine) -> str:
    """The caches and the memory of `machine` with their sizes, empty where it states none."""
    parts = [f"{printable(cache.name)} {size(cache.bytes.value)} a {cache.shared_by}" for cache in machine.caches]
    sizes = {node.memory_bytes.value for node in machine.nodes if node.memory_bytes is not None}
    if sizes:
        low, high = size(min(sizes)), size(max(sizes))
        parts.append(f"memory {low if low == high else f'{low} to {high}'} a node")
    return " · ".join(parts)


def shape(machine: Machine) -> str:
    """The counts of `machine` in words: `64 cores: 4 NUMA nodes × 4 groups × 4 cores`."""
    counts = machine.counts
    levels = ["hosts", "packages", "nodes", "groups", "cores"]
    words = {"nodes": "NUMA node"}
    parts: list[str] = []
    for outer, inner in zip([None, *levels], levels, strict=False):
        number = counts[inner] / (counts[outer] if outer else 1)
        if number != 1 and (inner != "cores" or parts):
            parts.append(_number(number, words.get(inner, inner[:-1])))
    smt = "" if counts["pus"] == counts["cores"] else f", {_number(counts['pus'], 'PU')}"
    inside = f": {' × '.join(parts)}" if len(parts) > 1 else ""
    return _number(counts["cores"], "core") + inside + smt


def blocks(machine: Machine, colour_of: Mapping[int, int] | None = None, width: int = 100) -> list[str]:
    """The cores of `machine` node by node, at most `width` characters a line where a single group is not wider.

    `colour_of` gives the stage of a core by its logical number; such a core shows as the stage's character
    (`0`-`9`, `a`-`z`, `A`-`Z`, then `+`), a core without stage as `·`. Without it every core is a block.
    """
    return by_node(machine, width).filled(core_characters(machine, colour_of))


def by_node(machine: Machine, width: int = 100) -> Outline:
    """The places of the cores in `blocks`."""
    counts = machine.counts
    packages = _packages(machine)
    lines: list[str] = []
    for (host, package), nodes in packages.items():
        if counts["packages"] > 1:
            lines.append(_package_label(machine, host, package))
        indent = "  " if counts["packages"] > 1 else ""
        drawn = [(f"node {n}", [_MARK * len(group) for group in groups]) for n, groups in nodes]
        lines += [indent + line for line in _laid_out(drawn, width - len(indent))]
    cores = [core for nodes in packages.values() for _, groups in nodes for group in groups for core in group]
    return Outline(tuple(lines), tuple(cores))


def _package_label(machine: Machine, host: int, package: int) -> str:
    """`package 1`, `host 1, package 2`, or, where every host has one, `host 1`; with the host's own name."""
    counts = machine.counts
    if counts["hosts"] == 1:
        return f"package {package}"
    called = printable(name_of(machine, host))
    return called if counts["packages"] == counts["hosts"] else f"{called}, package {package}"


def core_characters(machine: Machine, colour_of: Mapping[int, int] | None = None) -> list[str]:
    """What each core shows as: its stage, or without stages a block, lower for kinds of core after the first."""
    if colour_of is not None:
        return [character(colour_of.get(core.logical)) for core in machine.cores]
    characters = [CORE] * len(machine.cores)
    for k, kind in enumerate(machine.core_kinds):
        for core in kind.cores:
            characters[core] = _kind_character(k)
    return characters


def _kind_text(number: int, kind: CoreKind) -> str:
    """`▅ E-core: 8 cores (8-15), speed 0.6`."""
    speed = "" if kind.speed.value == 1 else f", speed {kind.speed.value:.3g}"
    cores = f"{_number(len(kind.cores), 'core')} ({format_pus(kind.cores)})"
    return f"{_kind_character(number)} {printable(kind.name)}: {cores}{speed}"


def _kind_character(kind: int) -> str:
    return CORE if kind == 0 else SLOWER[min(kind, len(SLOWER)) - 1]


def character(stage: int | None) -> str:
    """The character that stands for `stage`, None for a core without one."""
    if stage is None:
        return IDLE
    return STAGES[stage] if stage < len(STAGES) else BEYOND


def used_characters(stages: Iterable[int]) -> dict[str, list[int]]:
    """For a legend: each character with the stages that it stands for, in order."""
    legend: dict[str, list[int]] = {}
    for stage in sorted(set(stages)):
        legend.setdefault(character(stage), []).append(stage)
    return legend


def node_lines(machine: Machine, width: int = 100) -> list[str]:
    """A line for each node, wrapped to `width`: its PUs, its memory, and the controllers that serve it."""
    lines: list[str] = []
    for n, node in enumerate(machine.nodes):
        label = f"node {n}: "
        text = label + " · ".join(_node_parts(machine, n, node))
        lines += textwrap.wrap(text.replace(",", ", "), max(width, 30), subsequent_indent=" " * len(label))
    return [line.replace(", ", ",") for line in lines]


def _node_parts(machine: Machine, number: int, node: Node) -> Iterator[str]:
    pus = sorted(pu for group in node.groups for core in group for pu in core)
    yield f"PUs {format_pus(pus)}" if pus else "no PU"
    controllers = [printable(c.name) for c in machine.layout.controllers if c.node == number] if machine.layout else []
    at = f" at {' '.join(controllers)}" if controllers else ""
    if node.memory_bytes is not None:
        yield size(node.memory_bytes.value) + at
    elif controllers:
        yield f"memory{at}"
    if node.os_index not in (None, number):
        yield f"node {node.os_index} of the OS"


def mesh(machine: Machine, width: int = 100) -> Outline | None:
    """The groups and memory controllers where the layout of `machine` has them, with a wall around each node; None
    where there is no layout, or it is wider than `width`."""
    if machine.layout is None:
        return None
    found = Grid(machine).outline()
    return found if max(map(len, found.lines)) <= width else None


class Grid:
    """The layout of a machine as a grid of cells, (column, row) from the upper left: each holds a group, controllers
    or nothing."""

    def __init__(self, machine: Machine) -> None:
        assert machine.layout is not None
        self.machine = machine
        places = [*machine.layout.groups, *(controller.at for controller in machine.layout.controllers)]
        xs, ys = sorted({x for x, _ in places}), sorted({y for _, y in places}, reverse=True)
        self.columns, self.rows = len(xs), len(ys)
        self.groups = {(xs.index(x), ys.index(y)): g for g, (x, y) in enumerate(machine.layout.groups)}
        self.controllers: dict[tuple[int, int], list[Controller]] = {}
        for controller in machine.layout.controllers:
            cell = xs.index(controller.at[0]), ys.index(controller.at[1])
            if cell not in self.groups:
                self.controllers.setdefault(cell, []).append(controller)
        self.first: dict[int, tuple[int, int]] = {}
        """For each node with groups the cell that one reads first."""
        for cell in sorted(self.groups, key=lambda cell: (cell[1], cell[0])):
            self.first.setdefault(machine.node_of_group[self.groups[cell]], cell)

    def node(self, column: int, row: int) -> int | None:
        """The node of a cell, None where no group is."""
        group = self.groups.get((column, row))
        return None if group is None else self.machine.node_of_group[group]

    def outline(self) -> Outline:
        """The grid as lines, with a wall where the nodes of neighbours differ, and each node's name on its wall."""
        walled = _Walls(self)
        lines: list[str] = []
        cores: list[int] = []
        for row in range(self.rows + 1):
            if any(walled.above(column, row) for column in range(self.columns)):
                lines.append(walled.wall_line(row))
            if row < self.rows:
                lines.append(walled.row_line(row))
                for column in range(self.columns):
                    if (column, row) in self.groups:
                        cores += self.machine.groups[self.groups[column, row]]
        return Outline(tuple(line.rstrip() for line in lines), tuple(cores))


class _Walls:
    """A grid in characters. A column's width has a space on the left; on the right comes one where a wall follows."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.texts = {cell: _MARK * len(grid.machine.groups[group]) for cell, group in grid.groups.items()}
        for cell, controllers in grid.controllers.items():
            self.texts[cell] = " ".join(printable(controller.name) for controller in controllers)
        self.labels = {cell: f" node {node} " for node, cell in grid.first.items()}
        self.walls = [any(self.left(c, r) for r in range(grid.rows)) for c in range(grid.columns + 1)]
        self.widths = self._widths()

    def left(self, column: int, row: int) -> bool:
        """Whether a wall stands left of a cell."""
        return self.grid.node(column - 1, row) != self.grid.node(column, row)

    def above(self, column: int, row: int) -> bool:
        """Whether a wall stands above a cell."""
        return self.grid.node(column, row - 1) != self.grid.node(column, row)

    def _widths(self) -> list[int]:
        widths = [
            1 + max(len(self.texts.get((c, r), "")) for r in range(self.grid.rows)) + self.walls[c + 1]
            for c in range(self.grid.columns)
        ]
        for (column, row), label in self.labels.items():
            end = column + 1
            while self.grid.node(end, row) == self.grid.node(column, row):
                end += 1
            widths[column] += max(0, len(label) - sum(widths[column:end]))
        return widths

    def row_line(self, row: int) -> str:
        """The cells of a row."""
        line = ""
        for column, width in enumerate([*self.widths, 0]):
            if self.walls[column]:
                line += "│" if self.left(column, row) else " "
            if width:
                line += f" {self.texts.get((column, row), '')}".ljust(width)
        return line

    def wall_line(self, row: int) -> str:
        """The walls above a row, with the names of the nodes that begin there."""
        line, names = "", []
        for column, width in enumerate([*self.widths, 0]):
            if self.walls[column]:
                arms = (self.left(column, row - 1), self.left(column, row),
                        self.above(column - 1, row), self.above(column, row))  # fmt: skip
                line += _WALLS[sum(1 << i for i, arm in enumerate(arms) if arm)]
            names.append((len(line), self.labels.get((column, row), "")))
            line += ("─" if width and self.above(column, row) else " ") * width
        for start, name in names:  # one may be longer than its first column
            line = line[:start] + name + line[start + len(name) :]
        return line


def printable(text: str) -> str:
    """`text` in one line and without what a terminal or a file of XML would obey or refuse."""
    return "".join(c if c.isprintable() else " " for c in text)


def _packages(machine: Machine) -> dict[tuple[int, int], list[tuple[int, list[Sequence[int]]]]]:
    """For each package its nodes: their numbers, and the logical numbers of the cores of each group."""
    groups: dict[int, list[Sequence[int]]] = {}
    for number, group in zip(machine.node_of_group, machine.groups, strict=True):
        groups.setdefault(number, []).append(group)
    found: dict[tuple[int, int], list[tuple[int, list[Sequence[int]]]]] = {}
    for n, node in enumerate(machine.nodes):
        found.setdefault((node.host, node.package), []).append((n, groups.get(n, [])))
    return found


def _laid_out(nodes: Sequence[tuple[str, list[str]]], width: int) -> Iterator[str]:
    """Nodes side by side, in columns, as many as fit; where not even one fits, its groups are wrapped."""
    labels = max(len(label) for label, _ in nodes)
    texts = [f"{label:{labels}} {' '.join(groups)}".rstrip() for label, groups in nodes]
    column = max(map(len, texts))
    fit = (width + len(_BETWEEN_NODES)) // (column + len(_BETWEEN_NODES))
    if fit >= 1:
        fit = -(-len(texts) // -(-len(texts) // fit))  # rows of equal length: 2 + 2, not 3 + 1
        for start in range(0, len(texts), fit):
            yield _BETWEEN_NODES.join(f"{text:{column}}" for text in texts[start : start + fit]).rstrip()
        return
    for label, groups in nodes:
        for i, line in enumerate(_wrapped(groups, width - labels - 1)):
            yield f"{label if i == 0 else '':{labels}} {line}"


def _wrapped(groups: Iterable[str], width: int) -> Iterator[str]:
    line = ""
    for group in groups:
        if line and len(line) + 1 + len(group) > width:
            yield line
            line = group
        else:
            line = f"{line} {group}".lstrip()
    yield line


def _number(count: float, word: str) -> str:
    """`4 groups`, `1 core`, or `about 2.5 groups` where levels are not regular."""
    if count != int(count):
        return f"about {count:.3g} {word}s"
    return f"{count:.0f} {word}{'' if count == 1 else 's'}"


def size(count: float) -> str:
    """`count` bytes with a binary prefix, as caches and memories are sold: 64 KiB, 32 GiB."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count:.0f} B"
