"""A machine as a picture, SVG or PNG: its mesh where it has a layout, else boxes in boxes down to the cores.

What is drawn is first collected on a `Sheet`, in inches; matplotlib, which is optional, is needed to write it only.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mapper import jsonio
from mapper.errors import UsageError
from mapper.machine.draw import Grid, printable, shape, size, sizes_line
from mapper.machine.model import Machine
from mapper.machine.pus import format_pus
from mapper.reports import style
from mapper.reports.sheet import PAD, Box, Part, Sheet, Stroke, Words, boxed, fitted, rows_of, text_width, titled
from mapper.units import format_count

FORMATS = (".svg", ".png")
MOST_CORES = 1 << 14

_MARGIN = 0.35
_LEAST_WIDTH = 6.5
_CELLS = ((64, 0.62, 0.46, 9.0), (128, 0.5, 0.38, 7.5), (512, 0.32, 0.22, 6.0), (1024, 0.22, 0.15, 4.0))
"""Up to how many cores, the width and height of a core, and the size of its number."""
_SMALLEST_CELL = (0.1, 0.08, 0.0)


def draw_machine(
    machine: Machine,
    path: Path,
    stage_of: Mapping[int, int] | None = None,
    title: str | None = None,
    stage_names: Mapping[int, str] | None = None,
) -> None:
    """Writes a picture of `machine` to `path`, SVG or PNG by its ending; the same bytes for the same machine.

    `stage_of` colours cores, given by logical number, by their stage; `stage_names` adds words to its legend.

    Raises: UsageError for another ending or too many cores, MissingFeature without matplotlib, SystemRefused where the
    file cannot be written.
    """
    kind = format_of(path)
    if len(machine.cores) > MOST_CORES:
        raise UsageError(f"{len(machine.cores)} cores are too many for a picture, which shows at most {MOST_CORES}")
    write_sheet(path, kind, *machine_sheet(machine, stage_of, title, stage_names))


def format_of(path: Path, what: str = "picture") -> str:
    """`svg` or `png`, by the ending of `path`. Raises: UsageError for another one."""
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise UsageError(f"{path}: a {what} is written as {' or '.join(FORMATS)}, by the ending of the file's name")
    return ending[1:]


def write_sheet(path: Path, kind: str, sheet: Sheet, width: float, height: float) -> None:
    """Writes `sheet`, `width` × `height` inches, to `path` as `kind`; the old file stays where that fails."""
    data = sheet.written(width, height, kind)
    with jsonio.replacing(path) as out:
        out.write(data)


def machine_sheet(
    machine: Machine,
    stage_of: Mapping[int, int] | None = None,
    title: str | None = None,
    stage_names: Mapping[int, str] | None = None,
    *,
    heading: bool = True,
) -> tuple[Sheet, float, float]:
    """The picture of `draw_machine` as marks, with its width and height in inches."""
    cores = _Cores(machine, stage_of)
    body = _nested(machine, cores) if machine.layout is None else _mesh(machine, cores)
    width = max(body.width, _LEAST_WIDTH) + 2 * _MARGIN
    sheet = Sheet()
    y = _headings(sheet, machine, title, width) if heading else _MARGIN / 2
    body.draw(sheet, _MARGIN, y)
    y = _legend(sheet, _entries(machine, stage_of, stage_names or {}), width, y + body.height + 0.2)
    return sheet, width, y + _MARGIN - 0.1


def _headings(sheet: Sheet, machine: Machine, title: str | None, width: float) -> float:
    """Title and subtitles; gives where the body begins."""
    memory = machine.memory.package_bandwidth_bytes_per_s
    power = machine.power.package_w if machine.power else None
    figures = [*sizes_line(machine).split(" · "), f"{format_count(memory.value)}B/s a package" if memory else "",
               f"{power.value:.3g} W a package" if power else ""]  # fmt: skip
    room = width - 2 * _MARGIN
    name = printable(title or machine.title or machine.name)
    y = _MARGIN
    for line in textwrap.wrap(name, int(room / text_width("n", style.TITLE)), max_lines=2, placeholder=" …"):
        sheet.add(Words(_MARGIN, y, line, style.TITLE, bold=True))
        y += style.TITLE / 72 * 1.5
    for line in (shape(machine), *_joined([text for text in figures if text], room)):
        sheet.add(Words(_MARGIN, y + 0.03, line, style.SUBTITLE, style.MUTED))
        y += style.SUBTITLE / 72 * 1.5
    return y + 0.16


def _joined(texts: Sequence[str], room: float) -> list[str]:
    """`texts` with dots between them, in lines that fit."""
    lines: list[str] = []
    for text in texts:
        longer = f"{lines[-1]} · {text}" if lines else ""
        if lines and text_width(longer, style.SUBTITLE) <= room:
            lines[-1] = longer
        else:
            lines.append(text)
    return lines


def _entries(machine: Machine, stage_of: Mapping[int, int] | None, names: Mapping[int, str]) -> list[tuple[Box, str]]:
    """What the legend explains: a small box like a core, and words."""
    cell = Box(0, 0, 0.26, 0.16, style.CORE, style.LINE, 0.6, radius=0.03)
    entries: list[tuple[Box, str]] = []
    if stage_of is not None:
        cores = Counter(stage_of[core.logical] for core in machine.cores if core.logical in stage_of)
        for stage, count in sorted(cores.items()):
            name = textwrap.shorten(printable(names.get(stage, "")), 40, placeholder=" …")
            text = f"stage {stage}{f': {name}' if name else ''} ({count} core{'' if count == 1 else 's'})"
            entries.append((replace(cell, fill=style.stage_colour(stage), name=f"legend-{stage}"), text))
        if free := len(machine.cores) - cores.total():
            entries.append((replace(cell, fill=style.FREE), f"free ({free} core{'' if free == 1 else 's'})"))
    for k, kind in enumerate(machine.core_kinds):
        fill = style.CORE if stage_of is None else style.FREE
        dash = style.DASHES[min(k, len(style.DASHES) - 1)]
        speed = "" if kind.speed.value == 1 else f", speed {kind.speed.value:.3g}"
        entries.append((replace(cell, fill=fill, edge=style.INK, dash=dash), f"{printable(kind.name)}{speed}"))
    if machine.layout is not None:
        entries.append((Box(0.1, 0.035, 0.09, 0.09, style.MESH, radius=0.045), "crosspoint of the mesh"))
    return entries


def _legend(sheet: Sheet, entries: Sequence[tuple[Box, str]], width: float, y: float) -> float:
    """The entries in columns of one width; gives where it ends."""
    if not entries:
        return y
    column = max(text_width(text, style.LABEL) for _, text in entries) + 0.55
    columns = max(1, int((width - 2 * _MARGIN) / column))
    for i, (box, text) in enumerate(entries):
        x, top = _MARGIN + i % columns * column, y + i // columns * 0.24
        sheet.add(replace(box, x=box.x + x, y=box.y + top), Words(x + 0.34, top + 0.08, text, style.LABEL))
    return y + -(-len(entries) // columns) * 0.24


class _Cores:
    """Cores as cells of one size: numbered, coloured by stage or hollow, outlined by kind."""

    def __init__(self, machine: Machine, stage_of: Mapping[int, int] | None) -> None:
        self.machine, self.stage_of = machine, stage_of
        self.kind_of = {core: k for k, kind in enumerate(machine.core_kinds) for core in kind.cores}
        sizes = (cell[1:] for cell in _CELLS if len(machine.cores) <= cell[0])
        self.width, self.height, self.letters = next(sizes, _SMALLEST_CELL)
        self.gap = 0.05 if self.letters > style.SMALLEST else 0.02

    def part(self, core: int) -> Part:
        """The cell of `core`."""
        return Part(self.width, self.height, lambda sheet, x, y: self._draw(sheet, core, x, y))

    def _draw(self, sheet: Sheet, core: int, x: float, y: float) -> None:
        stage = None if self.stage_of is None else self.stage_of.get(core)
        fill = core_fill(stage, staged=self.stage_of is not None)
        dash = style.DASHES[min(self.kind_of.get(core, 0), len(style.DASHES) - 1)]
        edge = style.INK if self.kind_of else style.LINE
        sheet.add(Box(x, y, self.width, self.height, fill, edge, 0.6, dash, self.gap * 0.7, f"core-{core}"))
        if not self.letters:
            return
        ink, middle = style.ink_on(fill), x + self.width / 2
        small = self.letters * 0.65
        pus = self._pus(core, small)
        number_y = y + self.height * (0.36 if pus else 0.5)
        sheet.add(Words(middle, number_y, str(core), self.letters, ink, "center", bold=True))
        if pus:
            sheet.add(Words(middle, y + self.height * 0.76, pus, small, ink, "center"))
        if stage is not None and pus and stage < 100:
            sheet.add(Words(x + self.width - 0.03, y + 0.02 + small / 144, f"s{stage}", small, ink, "right"))

    def _pus(self, core: int, letters: float) -> str:
        """What the OS calls the PUs of `core`, as far as there is room."""
        pus = self.machine.cores[core].pus
        if letters < 0.9 * style.SMALLEST or self.height < 0.3:
            return ""
        texts = [f"PU {format_pus(pus)}", format_pus(pus), f"{len(pus)} PUs"]
        return next((text for text in texts if text_width(text, letters) <= self.width - 0.04), "")


def core_fill(stage: int | None, *, staged: bool) -> str:
    """The fill of a core: its stage's colour; where stages are shown, one without is hollow."""
    if stage is not None:
        return style.stage_colour(stage)
    return style.FREE if staged else style.CORE


def _nested(machine: Machine, cores: _Cores) -> Part:
    """Hosts, packages, nodes, groups, cores: boxes in boxes. A core alone in its group has no box around it, and a
    package of one node is one box."""
    groups: dict[int, list[Part]] = {}
    for number, home in enumerate(machine.node_of_group):
        groups.setdefault(home, []).append(_group(machine, cores, number))
    packages: dict[tuple[int, int], list[int]] = {}
    for n, node in enumerate(machine.nodes):
        packages.setdefault((node.host, node.package), []).append(n)
    hosts: dict[int, list[Part]] = {}
    for (host, package), nodes in packages.items():
        inside = {n: _by_size(groups[n], cores.gap) if n in groups else _none() for n in nodes}
        hosts.setdefault(host, []).append(_package(machine, package, inside))
    if len(hosts) == 1:
        return rows_of(next(iter(hosts.values())), 0.2)
    return rows_of([titled(rows_of(p, 0.15), f"host {h}", style.BOX, pad=0.12) for h, p in hosts.items()], 0.2)


def _group(machine: Machine, cores: _Cores, number: int) -> Part:
    members = machine.groups[number]
    inner = rows_of([cores.part(core) for core in members], cores.gap)
    if len(members) == 1:
        return inner
    labels = [f"group {n}{_cache_text(machine, 'group')}" for n in (number, len(machine.groups) - 1)]
    return boxed(inner, labels[0], style.BOX, pad=PAD if cores.letters else 0.03, longest=labels[1])


def _by_size(parts: Sequence[Part], gap: float) -> Part:
    """`parts` in rows; where a few runs of them differ in size, such as single cores and clusters, each run apart."""
    runs = [list(run) for _, run in itertools.groupby(parts, key=lambda part: (part.width, part.height))]
    spaces = [gap if run[0].height < 0.5 else PAD for run in runs]
    if len(runs) == 1 or len(runs) > 4:
        return rows_of(parts, max(spaces))
    shapes = [[rows_of(run, space, aspect) for aspect in (0.5, 1.0, 2.0, 4.0, 8.0)]
              for run, space in zip(runs, spaces, strict=True)]  # fmt: skip
    return min((rows_of(choice, 0.14) for choice in itertools.product(*shapes)), key=_looseness)


def _looseness(part: Part) -> float:
    """How much paper a part takes, more where it is far from 1.6 times as wide as high."""
    return math.log(part.width * part.height) + abs(math.log(part.width / part.height / 1.6))


def _package(machine: Machine, number: int, inside: Mapping[int, Part]) -> Part:
    """A package with `inside`, what is in each of its nodes."""
    ends = {}
    for n in inside:
        memory = machine.nodes[n].memory_bytes
        ends[n] = f"{_cache_text(machine, 'node')}{f' · {size(memory.value)}' if memory else ''}"
    name, caches = f"package {number}", _cache_text(machine, "package")
    if len(inside) > 1:
        nodes = [titled(part, f"node {n}{ends[n]}", style.node_tint(n)) for n, part in inside.items()]
        return titled(rows_of(nodes, 0.12), name + caches, style.PACKAGE, pad=0.12)
    ((n, part),) = inside.items()
    node = f" · node {n}" if len(machine.nodes) > 1 else ""
    return titled(part, name + node + caches + ends[n], style.node_tint(n), pad=0.12)


def _none() -> Part:
    """What a node without cores holds."""
    return Part(0.6, 0.0, lambda sheet, x, y: None)


def _cache_text(machine: Machine, scope: str) -> str:
    """The caches that each `scope` has to itself, as the end of a label."""
    found = [f" · {printable(c.name)} {size(c.bytes.value)}" for c in machine.caches if c.shared_by == scope]
    return "".join(found)


def _mesh(machine: Machine, cores: _Cores) -> Part:
    """The mesh, with the caches that a whole package shares below it."""
    mesh = _Mesh(machine, cores)
    width, height = mesh.xs[-1], mesh.ys[-1]
    shared = _cache_text(machine, "package").removeprefix(" · ")

    def draw(sheet: Sheet, x: float, y: float) -> None:
        mesh.draw(sheet, x, y)
        if shared:
            each = "the" if machine.counts["packages"] == 1 else "each"
            columns = [column for column, _ in mesh.clusters]
            left, wide = x + mesh.xs[min(columns)], mesh.xs[max(columns) + 1] - mesh.xs[min(columns)]
            words = f"{shared} for {each} package, shared over the mesh"
            text, letters = fitted(words, style.LABEL, wide - 2 * PAD)
            sheet.add(Box(left + 0.035, y + height + 0.08, wide - 0.07, 0.3, style.PACKAGE, style.LINE))
            sheet.add(Words(left + wide / 2, y + height + 0.23, text, letters, align="center"))

    return Part(width, height + (0.38 if shared else 0.0), draw)


_STREET = 0.3  # between clusters, where the mesh runs
_LABEL_ROW = 0.24
_CONTROLLER = (0.78, 0.62)


class _Mesh:
    """The clusters of a machine with a layout, each below and right of its crosspoint of the mesh."""

    def __init__(self, machine: Machine, cores: _Cores) -> None:
        self.machine, self.grid = machine, Grid(machine)
        self.clusters = {cell: self._cluster(group, cores) for cell, group in self.grid.groups.items()}
        width = max(part.width for part in self.clusters.values()) + _STREET + 0.2
        height = max(part.height for part in self.clusters.values()) + _STREET + 0.2
        with_groups = {column for column, _ in self.clusters}, {row for _, row in self.clusters}
        widths = [width if c in with_groups[0] else _CONTROLLER[0] + 0.3 for c in range(self.grid.columns)]
        labelled = {row for _, row in self.grid.first.values()}
        self.above = [_LABEL_ROW if row in labelled else 0.0 for row in range(self.grid.rows)]
        heights = [height + self.above[r] if r in with_groups[1] else _CONTROLLER[1] + 0.2
                   for r in range(self.grid.rows)]  # fmt: skip
        self.xs = [sum(widths[:i]) for i in range(len(widths) + 1)]
        self.ys = [sum(heights[:i]) for i in range(len(heights) + 1)]

    def _cluster(self, group: int, cores: _Cores) -> Part:
        members = self.machine.groups[group]
        inner = rows_of([cores.part(core) for core in members], cores.gap, 1.4)
        labels = [f"group {n}{_cache_text(self.machine, 'group')}" for n in (group, len(self.machine.groups) - 1)]
        return boxed(inner, labels[0], style.BOX, longest=labels[1])

    def crosspoint(self, cell: tuple[int, int]) -> tuple[float, float]:
        """Where the mesh has the crosspoint of a cell."""
        return self.xs[cell[0]] + _STREET / 2 + 0.04, self.ys[cell[1]] + self.above[cell[1]] + _STREET / 2 + 0.04

    def draw(self, sheet: Sheet, x: float, y: float) -> None:
        """Grounds, then the mesh, then what hangs on it."""
        inner = Sheet()
        self._grounds(inner)
        self._streets(inner)
        for cell, part in self.clusters.items():
            across, down = self.crosspoint(cell)
            corner = across + _STREET / 2, down + _STREET / 2
            inner.add(Stroke(((across, down), (corner[0] + 0.03, corner[1] + 0.03))))
            inner.add(Box(across - 0.045, down - 0.045, 0.09, 0.09, style.MESH, radius=0.045))
            part.draw(inner, *corner)
        sheet.add(*inner.moved(x, y))

    def _grounds(self, sheet: Sheet) -> None:
        def gap(here: int | None, beside: int | None) -> float:
            return 0.035 if beside != here else -0.005  # over the next one, so that no seam shows

        node = self.grid.node
        for column, row in self.clusters:
            here = node(column, row)
            left, right = (gap(here, node(column + side, row)) for side in (-1, 1))
            top, bottom = (gap(here, node(column, row + side)) for side in (-1, 1))
            x, y = self.xs[column] + left, self.ys[row] + top
            width, height = self.xs[column + 1] - right - x, self.ys[row + 1] - bottom - y
            sheet.add(Box(x, y, width, height, style.node_tint(here or 0)))
        for number, (column, row) in self.grid.first.items():
            memory = self.machine.nodes[number].memory_bytes
            text = f"node {number}{f' · {size(memory.value)}' if memory else ''}{_cache_text(self.machine, 'node')}"
            x = self.crosspoint((column, row))[0] + 0.1
            text, letters = fitted(text, style.LABEL + 0.5, self.xs[column + 1] - x - 0.05)
            sheet.add(Words(x, self.ys[row] + 0.18, text, letters, bold=True))

    def _streets(self, sheet: Sheet) -> None:
        for column, row in self.clusters:
            for neighbour in ((column + 1, row), (column, row + 1)):
                if neighbour in self.clusters and self._package((column, row)) == self._package(neighbour):
                    sheet.add(Stroke((self.crosspoint((column, row)), self.crosspoint(neighbour))))
        for (column, row), controllers in self.grid.controllers.items():
            self._controller(sheet, (column, row), [printable(c.name) for c in controllers], controllers[0].node)

    def _package(self, cell: tuple[int, int]) -> int:
        return self.machine.nodes[self.machine.node_of_group[self.grid.groups[cell]]].package

    def _controller(self, sheet: Sheet, cell: tuple[int, int], names: list[str], node: int) -> None:
        """A box beside the mesh, level with the crosspoint that it hangs on."""
        (column, row), (width, height) = cell, _CONTROLLER
        beside = [c for c in ((column + 1, row), (column - 1, row), (column, row + 1), (column, row - 1))
                  if c in self.clusters]  # fmt: skip
        middle = (self.xs[column] + self.xs[column + 1]) / 2
        level = self.crosspoint(cell)[1] if row in {r for _, r in self.clusters} else self.ys[row] + 0.1 + height / 2
        if beside:
            across, down = self.crosspoint(beside[0])
            middle = middle if beside[0][0] != column else across + width / 2 - 0.2
            start = (middle, level) if beside[0][0] != column else (across, level)
            sheet.add(Stroke((start, (across, down)), line=2.2))
        sheet.add(Box(middle - width / 2, level - height / 2, width, height, style.node_tint(node), style.MESH, 1.0,
                      radius=0.06))  # fmt: skip
        text, letters = fitted(" ".join(names), style.LABEL + 1, width - 0.08)
        sheet.add(Words(middle, level - 0.1, text, letters, align="center", bold=True))
        sheet.add(Words(middle, level + 0.12, f"node {node}", style.SMALL, style.MUTED, "center"))
