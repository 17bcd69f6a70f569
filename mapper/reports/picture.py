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
from mapper.machine.draw import printable, shape, size, sizes_line
from mapper.machine.model import Machine
from mapper.reports import style
from mapper.reports.cells import Cores, cache_text
from mapper.reports.mesh import mesh_of
from mapper.reports.sheet import PAD, Box, Part, Sheet, Words, rows_of, text_width, titled
from mapper.reports.table import cut
from mapper.units import format_count

FORMATS = (".svg", ".png")
MOST_CORES = 1 << 14

_MARGIN, _THIN_MARGIN = 0.35, 0.1
_LEAST_WIDTH = 6.5


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
    narrow: float | None = None,
) -> tuple[Sheet, float, float]:
    """The picture of `draw_machine` as marks, with its width and height in inches. On paper `narrow` inches wide there
    are boxes in boxes, also where the machine has a mesh."""
    meshed, margin = machine.layout is not None and narrow is None, _MARGIN if narrow is None else _THIN_MARGIN
    room = None if narrow is None else narrow - 2 * margin
    cores = Cores(machine, stage_of, room)
    body = mesh_of(machine, cores) if meshed else _nested(machine, cores, room)
    width = max(body.width, _LEAST_WIDTH) + 2 * margin if narrow is None else narrow
    sheet = Sheet()
    y = _headings(sheet, machine, title, width) if heading else margin / 2
    body.draw(sheet, margin, y)
    entries = _entries(machine, stage_of, stage_names or {}, meshed)
    caches = cache_text(machine, "group").removeprefix(" · ")
    if caches and not any(isinstance(mark, Words) and caches in mark.text for mark in sheet.marks):
        entries.append((Box(0, 0, 0.26, 0.16, style.BOX, style.LINE, 0.6, radius=0.03), f"group: {caches} each"))
    y = _legend(sheet, entries, width, margin, y + body.height + 0.2)
    return sheet, width, y + margin - 0.1 if narrow is None else y


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


def _entries(
    machine: Machine, stage_of: Mapping[int, int] | None, names: Mapping[int, str], meshed: bool
) -> list[tuple[Box, str]]:
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
    if meshed:
        entries.append((Box(0.1, 0.035, 0.09, 0.09, style.MESH, radius=0.045), "crosspoint of the mesh"))
    return entries


def _legend(sheet: Sheet, entries: Sequence[tuple[Box, str]], width: float, margin: float, y: float) -> float:
    """The entries in columns of one width; gives where it ends."""
    if not entries:
        return y
    room = width - 2 * margin
    entries = [(box, cut(text, int((room - 0.4) / text_width("n", style.LABEL)))) for box, text in entries]
    column = max(text_width(text, style.LABEL) for _, text in entries) + 0.55
    columns = max(1, int(room / column))
    for i, (box, text) in enumerate(entries):
        x, top = margin + i % columns * column, y + i // columns * 0.24
        sheet.add(replace(box, x=box.x + x, y=box.y + top), Words(x + 0.34, top + 0.08, text, style.LABEL))
    return y + -(-len(entries) // columns) * 0.24


def _nested(machine: Machine, cores: Cores, room: float | None) -> Part:
    """Hosts, packages, nodes, groups, cores: boxes in boxes, no wider than `room` where that can be. A core alone in
    its group has no box around it, and a package of one node is one box."""
    packages: dict[tuple[int, int], list[int]] = {}
    for n, node in enumerate(machine.nodes):
        packages.setdefault((node.host, node.package), []).append(n)
    several = len({host for host, _ in packages}) > 1
    inside_host = _within(room, 0.12 if several else 0.0)
    hosts: dict[int, list[Part]] = {}
    for (host, package), nodes in packages.items():
        hosts.setdefault(host, []).append(_package(machine, cores, package, nodes, inside_host))
    if not several:
        return rows_of(next(iter(hosts.values())), 0.2, room=room)
    drawn = [
        titled(rows_of(parts, 0.15, room=inside_host), f"host {host}", style.BOX, pad=0.12, room=room)
        for host, parts in hosts.items()
    ]
    return rows_of(drawn, 0.2, room=room)


def _within(room: float | None, pad: float) -> float | None:
    """What is left of `room` in a box."""
    return None if room is None else room - 2 * pad


def _node(machine: Machine, cores: Cores, node: int, room: float | None) -> Part:
    """The groups of a node."""
    numbers = [number for number, home in enumerate(machine.node_of_group) if home == node]
    if not numbers:
        return Part(0.6, 0.0, lambda sheet, x, y: None)
    parts = [
        cores.group(number, room=room) if len(machine.groups[number]) > 1 else cores.part(machine.groups[number][0])
        for number in numbers
    ]
    return _by_size(parts, cores.gap, room)


def _by_size(parts: Sequence[Part], gap: float, room: float | None) -> Part:
    """`parts` in rows; where a few runs of them differ in size, such as single cores and clusters, each run apart."""
    runs = [list(run) for _, run in itertools.groupby(parts, key=lambda part: (part.width, part.height))]
    spaces = [gap if run[0].height < 0.5 else PAD for run in runs]
    if len(runs) == 1 or len(runs) > 4 or room is not None:
        return rows_of(parts, max(spaces), room=room)
    shapes = [[rows_of(run, space, aspect) for aspect in (0.5, 1.0, 2.0, 4.0, 8.0)]
              for run, space in zip(runs, spaces, strict=True)]  # fmt: skip
    return min((rows_of(choice, 0.14) for choice in itertools.product(*shapes)), key=_looseness)


def _looseness(part: Part) -> float:
    """How much paper a part takes, more where it is far from 1.6 times as wide as high."""
    return math.log(part.width * part.height) + abs(math.log(part.width / part.height / 1.6))


def _package(machine: Machine, cores: Cores, number: int, nodes: Sequence[int], room: float | None) -> Part:
    """A package with its nodes."""
    ends = {}
    for n in nodes:
        memory = machine.nodes[n].memory_bytes
        ends[n] = f"{cache_text(machine, 'node')}{f' · {size(memory.value)}' if memory else ''}"
    name, caches = f"package {number}", cache_text(machine, "package")
    left = _within(room, 0.12)
    if len(nodes) > 1:
        drawn = [
            titled(_node(machine, cores, n, _within(left, PAD)), f"node {n}{ends[n]}", style.node_tint(n), room=left)
            for n in nodes
        ]
        return titled(rows_of(drawn, 0.12, room=left), name + caches, style.PACKAGE, pad=0.12, room=room)
    (n,) = nodes
    node = f" · node {n}" if len(machine.nodes) > 1 else ""
    part = _node(machine, cores, n, left)
    return titled(part, name + node + caches + ends[n], style.node_tint(n), pad=0.12, room=room)
