"""Two results side by side in words and tables: which is faster, then figures, what else differs, and the stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mapper.machine.pus import format_pus
from mapper.reports.asked import limit_text
from mapper.reports.lines import Styled
from mapper.reports.plan import plural
from mapper.reports.table import table
from mapper.study.compare import ratio
from mapper.units import format_bytes, format_rate, format_seconds

if TYPE_CHECKING:
    from mapper.study.compare import SideBySide, StagePair
    from mapper.study.sides import Alternative, StageFigures

    Pair = tuple[StageFigures | None, StageFigures | None]
    Tell = Callable[[StageFigures], str]

EQUAL = 5e-4
"""Ratios that are nearer to 1 than this are called equal."""
Written = Callable[[float], str]
_FIGURES: tuple[tuple[str, str, Written, bool], ...] = (
    ("latency", "latency_s", format_seconds, True),
    ("latency, 90 %", "latency_p90_s", format_seconds, True),
    ("latency, 99 %", "latency_p99_s", format_seconds, True),
    ("cores", "cores_used", "{:.0f}".format, True),
    ("stages", "stage_count", "{:.0f}".format, False),
    ("workers", "workers", "{:.0f}".format, False),
    ("DRAM an item", "dram_bytes_per_item", format_bytes, True),
    ("gap to the bound", "gap", "{:.2%}".format, False),
    ("cores others took", "others_busy", "{:.0%}".format, False),
)
"""Name, field of a side, how it is written, and whether b over a says something."""


def compared_text(found: SideBySide) -> list[str]:
    """Lines for people."""
    head = [Styled.made((_answer(found), "answer")), *_subjects(found)]
    notes = [f"Note: {note}." for note in _notes(found)]
    parts = (head, _figures(found), _differences(found), _stages(found), _alternatives(found), notes)
    return [line for i, part in enumerate(filter(None, parts)) for line in ([""] * (i > 0) + list(part))]


def _answer(found: SideBySide) -> str:
    """Such as `b is 1.67 times as fast as a: 9.30 against 5.58 images/s, predicted`."""
    a, b, over = found.a, found.b, found.throughput_ratio
    rates = [format_rate(rate) for rate in _rates(found)]
    told = f"{rates[1]} against {rates[0]} {_unit(found)}"
    if not over:
        return f"Rates cannot be compared: {told}"
    equal = abs(over - 1) < EQUAL
    if a.kind != b.kind:
        times = "the rate" if equal else f"{_times(over)} times the rate"
        return f"b ({b.kind}) has {times} of a ({a.kind}): {told}"
    if equal:
        return f"b is as fast as a: {told}, {a.kind}"
    if over > 1:
        return f"b is {_times(over)} times as fast as a: {told}, {a.kind}"
    return f"a is {_times(1 / over)} times as fast as b: {rates[0]} against {rates[1]} {_unit(found)}, {a.kind}"


def _rates(found: SideBySide) -> tuple[float, float]:
    """Those of the ratio: of items, or of elements."""
    a, b = ((side.batch or 1) if found.counted_in == "elements" else 1 for side in (found.a, found.b))
    return found.a.throughput_per_s * a, found.b.throughput_per_s * b


def _unit(found: SideBySide) -> str:
    """What rates count: the elements by their name where an item is one of them on both sides."""
    a, b = found.a, found.b
    alone = found.counted_in == "elements" or a.batch == b.batch == 1
    return f"{plural(a.item).split(' ')[0]}/s" if alone and a.item == b.item else f"{found.counted_in}/s"


def _times(over: float | None) -> str:
    return "" if over is None else f"{over:.4g}"


def _subjects(found: SideBySide) -> Iterator[str]:
    """What a and b are."""
    for letter, side in (("a", found.a), ("b", found.b)):
        items = "" if side.batch in (None, 1) else f", items of {side.batch} {plural(side.item)}"
        name = "" if side.name == letter else f"{side.name}: "
        machine = f", on {side.machine}" if side.machine else ""
        yield f"{letter}  {name}{side.title or side.model}{items}{machine}, {side.kind}"


def _figures(found: SideBySide) -> list[str]:
    """Figures of the whole, a row each: of both, and b over a."""
    a, b = found.a, found.b
    rows = [_row(_unit(found), _rates(found), format_rate, True)]
    if found.counted_in == "elements":
        rows.append(_row("items/s", (a.throughput_per_s, b.throughput_per_s), format_rate, False))
    for name, field, written, compared in _FIGURES:
        rows.append(_row(name, (getattr(a, field), getattr(b, field)), written, compared))
    return table(["", "a", "b", "b / a"], [row for row in rows if any(row[1:])], right="123", indent="", whole="0")


def _row(name: str, values: tuple[float | None, float | None], written: Written, compared: bool) -> list[str]:
    cells = ["" if value is None else written(value) for value in values]
    return [name, *cells, _times(ratio(*values)) if compared else ""]


def _differences(found: SideBySide) -> list[str]:
    """What else is not the same, two lines each; equal things are left out."""
    rows = [(each.name, _value(each.name, each.a), _value(each.name, each.b)) for each in found.differences]
    limiting = found.a.limited_by, found.b.limited_by
    if all(limiting) and limiting[0] != limiting[1]:
        rows.append(("limited by", *limiting))
    left = max((len(name) for name, _, _ in rows), default=0)
    lines = []
    for name, a, b in rows:
        for head, letter, value in ((name, "a", a), ("", "b", b)):
            lines.append(Styled.made((f"{head:{left}}", "label"), (f"  {letter}  {value}", ""), hang=left + 5))
    return ["What differs:", *lines] if lines else []


def _value(name: str, value: Any) -> str:
    """A value of `Side.about` in words."""
    if isinstance(value, Mapping):
        each = (limit_text(k, v) if name == "limits" else f"{k} {v}" for k, v in value.items())
        return ", ".join(each) or "none"
    if isinstance(value, float):
        return f"{value:.1%}" if name in ("near optimal", "jitter") else f"{value:g}"
    return str(value) or "-"


def _stages(found: SideBySide) -> list[str]:
    """A row a pair of stages. What is the same in all rows is in one column, else a's and b's beside each other."""
    if not found.stages:
        return []
    pairs: list[Pair] = [(pair.a, pair.b) for pair in found.stages]
    columns: list[tuple[str, str, list[str]]] = []
    for name, tell in _told(found):
        columns += [(name, title, cells) for title, cells in _beside(name, tell, pairs, bool(found.same_plan))]
        if name == "load" and any(pair.load_ratio is not None for pair in found.stages):
            columns.append((name, "b / a", [_times(pair.load_ratio) for pair in found.stages]))
    if found.paired_by == "ops" and not found.same_plan:
        columns.append(("ops", "ops in both", [_shared(pair) for pair in found.stages]))
    names = [name for name, _, _ in columns]
    right = [i for i, name in enumerate(names) if name not in _TEXTS]
    fold = [i for i in reversed(range(len(names))) if names[i] not in ("stage", "load")]
    roles = {i: f"stage {(a or b).id}" for i, (a, b) in enumerate(pairs) if a or b}  # type: ignore[union-attr]
    rows = list(zip(*(cells for _, _, cells in columns), strict=True))
    return table([title for _, title, _ in columns], rows, right=right, indent="", fold=fold, roles=roles)


_TEXTS = ("cores a copy", "held in", "cores", "ops")


def _told(found: SideBySide) -> Iterator[tuple[str, Tell]]:
    """What is told of stages, what decides most first: its name, and how it is told."""

    def seconds(field: str) -> Tell:
        return lambda stage: "" if getattr(stage, field) is None else format_seconds(getattr(stage, field))

    yield "stage", lambda stage: str(stage.id)
    yield "load", seconds("load_s")
    if any(stage.replicas > 1 for side in (found.a, found.b) for stage in side.stages):
        yield "load/copies", lambda stage: format_seconds(stage.load_s / stage.replicas)
        yield "copies", lambda stage: str(stage.replicas)
    yield "cores a copy", lambda stage: stage.configuration
    if (found.a.kind, found.b.kind) != ("predicted", "predicted"):
        yield "computing", seconds("compute_s")
        yield "handing over", seconds("hand_over_s")
        yield "waits for items", seconds("wait_in_s")
        yield "waits for room", seconds("wait_out_s")
    yield "weights", lambda stage: "" if stage.weight_bytes is None else format_bytes(stage.weight_bytes)
    yield "held in", lambda stage: stage.residency
    yield "cores", lambda stage: format_pus(stage.cores) if stage.cores else ""
    yield "ops", _ops


def _beside(name: str, tell: Tell, pairs: Sequence[Pair], same: bool) -> Iterator[tuple[str, list[str]]]:
    """One column where all rows agree, or only one side tells something; else two; none where nobody does."""
    a, b = (["" if side is None else tell(side) for side in sides] for sides in zip(*pairs, strict=True))
    there = [letter for letter, cells in (("a", a), ("b", b)) if any(cells)]
    both = [(x, y) for x, y, pair in zip(a, b, pairs, strict=True) if None not in pair]
    alone = len(both) < len(pairs)
    if len(there) == 2 and all(x == y for x, y in both) and not (alone and name == "stage"):
        yield name, [x or y for x, y in zip(a, b, strict=True)]
    elif len(there) == 1 and same:
        yield name, a if there == ["a"] else b
    else:
        yield from ((f"{name} {letter}", a if letter == "a" else b) for letter in there)


def _ops(stage: StageFigures) -> str:
    if len(stage.ops) < 2:
        return "".join(stage.ops)
    return f"{stage.ops[0]} … {stage.ops[-1]} ({len(stage.ops)})"


def _shared(pair: StagePair) -> str:
    """Such as `all 12`, `11 of 12 and 14`."""
    if pair.a is None or pair.b is None or pair.shared_ops is None:
        return ""
    counts = len(pair.a.ops), len(pair.b.ops)
    return (
        f"all {counts[0]}" if {pair.shared_ops} == set(counts) else f"{pair.shared_ops} of {counts[0]} and {counts[1]}"
    )


def _alternatives(found: SideBySide) -> list[str]:
    """What `mapper bench` measured of each way on both sides."""
    rows = []
    for pair in found.alternatives:
        there = [side for side in (pair.a, pair.b) if side is not None]
        cells = [text for both in zip(_measured(pair.a), _measured(pair.b), strict=True) for text in both]
        over = _times(pair.throughput_ratio) + "~" * bool(pair.overlap)
        rows.append([" = ".join(dict.fromkeys(side.names[0] for side in there)), *cells[:2], over, *cells[2:]])
    head = ["", *(f"{letter} {_unit(found)}" for letter in "ab"), "b / a", "range a", "range b", "latency a",
            "latency b", "chosen / this a", "chosen / this b"]  # fmt: skip
    return table(head, rows, right=range(1, len(head)), indent="", fold="456798") if rows else []


def _measured(side: Alternative | None) -> tuple[str, ...]:
    """Rate, range of the rounds, latency, and what the chosen plan is to it."""
    if side is None:
        return ("",) * 4
    low, high = format_rate(side.low_per_s), format_rate(side.high_per_s)
    return (format_rate(side.throughput_per_s), f"{low} to {high}", format_seconds(side.latency_s),
            _times(side.chosen_over_this))  # fmt: skip


def _notes(found: SideBySide) -> Iterator[str]:
    a, b = found.a, found.b
    if not found.same_model:
        yield f"a is of {a.model}, b of {b.model}: their rates are of different work"
    if count := len(found.machine_differences):
        yield f"their machines differ in {count} place{'s' * (count > 1)} (--json has them)"
    if found.paired_by == "numbers" and not found.same_plan:
        yield "stages stand together by their numbers: the files do not tell that they have the same ops"
    if found.same_plan is False and a.kind != b.kind:
        yield "they are of different plans"
    if any(pair.overlap for pair in found.alternatives):
        yield ("the two were measured at different times; ~ marks rates that may differ by noise alone, as those of "
               "single rounds reach into each other")  # fmt: skip
