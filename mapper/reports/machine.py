"""A machine for people: drawn, with the figures that decide most, each with its range, its kind and where it is from.

`machine_text` gives plain lines, `machine_rich` the same in colour for terminals.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, get_args

from mapper.machine import draw
from mapper.machine.defaults import MESSAGE_S
from mapper.machine.draw import printable
from mapper.machine.figures import Figure, Kind
from mapper.machine.model import Machine, figures
from mapper.machine.parts import DISTANCES, Cache, Distance, Link, Memory
from mapper.machine.pus import format_pus
from mapper.plans.model import Plan
from mapper.reports.lines import Pieces, Styled, plain, rich_text
from mapper.reports.table import table
from mapper.units import format_bytes, format_count, format_seconds

if TYPE_CHECKING:
    from rich.text import Text

Row = tuple[str, Figure | None, Callable[[float], str], str]
"""What a figure is, the figure, how its number is written, and what to say where it is absent."""

_SHORTEST_SOURCE = 12


def stages_of(plan: Plan) -> dict[int, int]:
    """The stage of each core that `plan` uses, by logical number."""
    return {core: stage.id for stage in plan.stages for replica in stage.replicas for core in replica.cores}


def machine_text(machine: Machine, colour_of: Mapping[int, int] | None = None, width: int = 100) -> list[str]:
    """Lines about `machine`, its cores showing their stages by `colour_of`; tables and URLs may be wider than `width`.

    The heading, how its figures are known, the drawing, PUs, figures, notes, sources and the fingerprint.
    """
    return plain(_lines(machine, colour_of, width))


def machine_rich(machine: Machine, colour_of: Mapping[int, int] | None = None, width: int = 100) -> Text:
    """`machine_text` in colour."""
    return rich_text(_lines(machine, colour_of, width))


def drawing_rich(machine: Machine, colour_of: Mapping[int, int] | None = None, width: int = 100) -> Text:
    """`draw.drawing` in colour."""
    lines = [*_heading(machine, width), [], *_outline(draw.outline(machine, width), machine, colour_of)]
    if draw.mesh(machine, width) is not None:
        lines += [[], *_plain(draw.node_lines(machine, width))]
    return rich_text(lines)


def blocks_rich(machine: Machine, colour_of: Mapping[int, int] | None = None, width: int = 100) -> Text:
    """`draw.blocks` in colour."""
    return rich_text(_outline(draw.by_node(machine, width), machine, colour_of))


def blocks_lines(machine: Machine, colour_of: Mapping[int, int], width: int = 100) -> list[str]:
    """`draw.blocks` as lines that know their colours."""
    return [Styled.made(*line) for line in _outline(draw.by_node(machine, width), machine, colour_of)]


def legend(machine: Machine, colour_of: Mapping[int, int]) -> str:
    """What the characters of a drawing with stages mean."""
    most = max(colour_of.values(), default=0)
    beyond = [(10, "a to z are 10 to 35"), (36, "A to Z are 36 to 61"), (62, f"{draw.BEYOND} is one above")]
    free = [] if len(colour_of) == len(machine.cores) else [f"{draw.IDLE} is free"]
    parts = ["each character is a core and shows its stage", *(text for first, text in beyond if most >= first), *free]
    return ", ".join(parts)


def count_line(machine: Machine) -> str:
    """How the figures of `machine` are known: `41 figures: 9 specified, 6 measured, 5 inferred, 21 assumed`."""
    kinds = Counter(figure.kind for _, figure in figures(machine))
    counted = ", ".join(f"{kinds[kind]} {kind}" for kind in get_args(Kind) if kinds[kind])
    return f"{kinds.total()} figures: {counted}"


def _lines(machine: Machine, colour_of: Mapping[int, int] | None, width: int) -> list[Pieces]:
    has_mesh = draw.mesh(machine, width) is not None
    lines = [*_heading(machine, width), *_plain([count_line(machine), ""])]
    lines += _outline(draw.outline(machine, width), machine, colour_of)
    if colour_of:
        lines += _plain(textwrap.wrap(legend(machine, colour_of), max(width, 30)))
    if has_mesh or len(machine.nodes) > 1 or machine.counts["pus"] > len(machine.cores):
        lines += [[], *_plain(draw.node_lines(machine, width))]
    return [*lines, [], *_table(machine, width), [], *_plain(list(_rest(machine, width)))]


def _heading(machine: Machine, width: int) -> list[Pieces]:
    first, *rest = draw.heading(machine, width)
    return [[(first, "heading")], *_plain(rest)]


def _plain(lines: list[str]) -> list[Pieces]:
    return [[(line, "")] for line in lines]


def _outline(outline: draw.Outline, machine: Machine, colour_of: Mapping[int, int] | None) -> list[Pieces]:
    characters = draw.core_characters(machine, colour_of)
    kind_of = {core: k for k, kind in enumerate(machine.core_kinds) for core in kind.cores}

    def styled(core: int) -> str:
        if colour_of is None:
            return f"kind {min(kind_of.get(core, 0), 2)}"
        stage = colour_of.get(core)
        return "free" if stage is None else f"stage {stage}"

    return [
        [(piece, "label") if isinstance(piece, str) else (characters[piece], styled(piece)) for piece in line]
        for line in outline.pieces()
    ]


def _table(machine: Machine, width: int) -> list[Pieces]:
    """The figures, a line each; a kind of figure in its own style, sources cut to what `width` leaves."""
    cells: list[list[str]] = []
    kinds: list[str] = []
    for name, figure, written, absent in _rows(machine):
        if figure is None:
            cells.append([name, absent, "", "", ""])
            kinds.append("")
        else:
            cells.append([name, written(figure.value), _range(figure, written), figure.kind, _one_line(figure.source)])
            kinds.append(figure.kind)
    head = ["", "value", "range", "kind", "from"]
    lines = table(head, cells, indent="")
    start = lines[0].index("kind")
    room = max(width - lines[0].index("from"), _SHORTEST_SOURCE)
    out: list[Pieces] = [[(lines[0], "label")]]
    for line, kind, row in zip(lines[1:], kinds, cells, strict=True):
        cut = line if len(row[-1]) <= room else line[: lines[0].index("from")] + _shortened(row[-1], room)
        out.append([(cut[:start], ""), (cut[start : start + len(kind)], kind), (cut[start + len(kind) :], "")])
    return out


def _one_line(text: str) -> str:
    return " ".join(printable(text).split())


def _shortened(text: str, room: int) -> str:
    """The cited name alone where the text behind it does not fit, else the beginning."""
    cited, bracket, _ = text.partition("]")
    if text.startswith("[") and bracket and len(cited) + 1 <= room < len(cited) + 12:
        return cited + bracket
    return text[: room - 1].rstrip() + "…"


def _range(figure: Figure, written: Callable[[float], str]) -> str:
    """`34.0–45.0`, with units where they are not those of the value."""
    if figure.low is None and figure.high is None:
        return ""
    ends = [figure.value if end is None else end for end in (figure.low, figure.high)]
    unit = written(figure.value).partition(" ")[2]
    texts = [written(end) for end in ends]
    if {text.partition(" ")[2] for text, end in zip(texts, ends, strict=True) if end} <= {unit}:
        texts = [text.partition(" ")[0] for text in texts]
        return "–".join(texts)
    return " – ".join(texts)


def _rows(machine: Machine) -> Iterator[Row]:
    """The figures that decide most; the rest is in the file."""
    compute = machine.compute
    if machine.frequency_hz is not None:
        yield "clock", machine.frequency_hz, lambda v: f"{format_count(v)}Hz", ""
    yield "arithmetic of a core", compute.peak_flop_per_s, lambda v: f"{format_count(v)}FLOP/s", ""
    if "matmul" in compute.efficiency:
        yield "  of it in matmul", compute.efficiency["matmul"], lambda v: f"{v:.0%}", ""
    yield "  slower, all busy", compute.busy_slowdown, lambda v: f"{v:.3g} ×", ""
    for cache in machine.caches:
        yield from _cache(cache)
    yield from _memory(machine.memory, machine.counts)
    yield from _overheads(machine)
    for distance, link in _links(machine):
        words = "to another host" if distance == "cluster" else f"within a {distance}"
        yield f"line {words}", link.line_s, format_seconds, ""
        if distance == "cluster":
            yield "  a message, each side", link.message_s or MESSAGE_S, format_seconds, ""
        yield "  data", link.bandwidth_bytes_per_s, _rate, "not limited"
    if machine.power is not None:
        yield "power of a package", machine.power.package_w, _watts, "not known"
        yield "  idle", machine.power.package_idle_w, _watts, "not known"
    if machine.cpu_quota is not None:
        yield "CPU quota", machine.cpu_quota, lambda v: f"{v:.3g} PUs", ""


def _links(machine: Machine) -> Iterator[tuple[Distance, Link]]:
    """The links between cores that there are, nearest first."""
    counts = machine.counts
    levels = [counts[level] for level in ("cores", "groups", "nodes", "packages", "hosts")] + [1]
    for distance, inner, outer in zip(DISTANCES[1:], levels[:-1], levels[1:], strict=True):
        if inner > outer and distance in machine.links:
            yield distance, machine.links[distance]


def _cache(cache: Cache) -> Iterator[Row]:
    name = printable(cache.name)
    yield f"{name} of each {cache.shared_by}", cache.bytes, draw.size, ""
    if cache.core_bandwidth_bytes_per_s is not None:
        yield "  read by a core", cache.core_bandwidth_bytes_per_s, _rate, ""
    if cache.latency_s is not None:
        yield "  latency", cache.latency_s, format_seconds, ""


def _memory(memory: Memory, counts: Mapping[str, int]) -> Iterator[Row]:
    yield "memory, package", memory.package_bandwidth_bytes_per_s, _rate, "not limited"
    if counts["nodes"] > counts["packages"] or memory.node_bandwidth_bytes_per_s is not None:
        yield "memory, node", memory.node_bandwidth_bytes_per_s, _rate, "not limited"
    if counts["groups"] < counts["cores"] or memory.group_bandwidth_bytes_per_s is not None:
        yield "memory, group", memory.group_bandwidth_bytes_per_s, _rate, "not limited"
    yield "memory, core", memory.core_bandwidth_bytes_per_s, _rate, "not limited"
    if memory.latency_s is not None:
        yield "  latency", memory.latency_s, format_seconds, ""


def _overheads(machine: Machine) -> Iterator[Row]:
    overheads = machine.overheads
    yield "dispatch of an op", overheads.dispatch_s, format_seconds, ""
    yield "hand-off of a tensor", overheads.handoff_s, format_seconds, ""
    if overheads.fork_join_s:
        for threads, figure in sorted(overheads.fork_join_s.items()):
            yield f"fork-join, {threads} thread{'' if threads == 1 else 's'}", figure, format_seconds, ""
    elif len(machine.cores) > 1:
        yield "fork-join of a team", overheads.fork_join_base_s, format_seconds, ""
        yield "  each member", overheads.fork_join_factor, lambda v: f"{v:.3g} lines", ""
        yield "  jitter, 64 threads", overheads.fork_join_jitter_s, format_seconds, ""
    if overheads.panel_factor is not None:
        yield "panel, each member", overheads.panel_factor, lambda v: f"{v:.3g} lines", ""
    if overheads.page_fault_s is not None:
        yield "first touch of a page", overheads.page_fault_s, lambda v: f"{v * 1e6:.3g} µs", ""
    if overheads.page_faults_at_once is not None:
        yield "  side by side", overheads.page_faults_at_once, lambda v: f"{v:.3g}", ""
    yield "memory of a worker", overheads.process_bytes, format_bytes, ""


def _rate(value: float) -> str:
    return f"{format_count(value)}B/s" if value >= 999.5 else f"{value:.3g} B/s"


def _watts(value: float) -> str:
    return f"{value:.3g} W"


def _rest(machine: Machine, width: int) -> Iterator[str]:
    if machine.part_of is not None:
        part = f"part of a machine with fingerprint {machine.part_of.fingerprint}: cores "
        yield part + format_pus(machine.part_of.cores)
    for note in machine.notes:
        yield from textwrap.wrap(
            f"Note: {_one_line(note)}", max(width, 30), subsequent_indent=" " * 6, break_long_words=False
        )
    names = max((len(printable(name)) + 2 for name in machine.sources), default=0)
    for name, source in machine.sources.items():
        yield f"{f'[{printable(name)}]':{names}} {_one_line(source)}"
    yield f"fingerprint {machine.fingerprint}"
