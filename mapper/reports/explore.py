"""An exploration in words: the best points, the front as a short table, and what could not be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mapper.plans.front import FrontStage
from mapper.reports.front import kind_of
from mapper.reports.plan import plural
from mapper.reports.table import table
from mapper.study.exploration.explore import Exploration
from mapper.study.exploration.rows import Row, compared, cost_of
from mapper.units import format_rate, format_seconds

MOST_ROWS = 16
"""Points of the front that the table shows."""
_HEADS = {"elements_per_s": "Best throughput", "latency_s": "Least latency", "element_energy_j": "Least energy"}


def explored_text(found: Exploration) -> list[str]:
    """Lines for people: the subject, the best of each, the front as a table, and how many points could not be."""
    usable = [row for row in found.rows if row.made is not None]
    lines = [subject(found), ""]
    if usable:
        lines += [*_best(found, usable), "", *_front(found)]
    return [*lines, "", *_counts(found)] if found.rows else [*lines, *_counts(found)]


def subject(found: Exploration) -> str:
    """Such as `ViT-B/16 on sg2042 and 2 other machines`."""
    names = list(dict.fromkeys(variant.machine.name for variant in found.variants))
    others = len(names) - 1
    more = f" and {others} other machine{'s' * (others > 1)}" if others else ""
    machine = found.variants[0].machine
    return f"{found.model.title or found.model.name} on {(machine.title or names[0]) if not others else names[0]}{more}"


def noun_of(found: Exploration) -> str:
    """What one element is: `image`."""
    return found.model.item_name.split(" ")[0]


def kind_of_row(row: Row) -> str:
    """What kind of plan it is, such as `2 copies × 32 threads`; empty where there is none."""
    if row.made is None:
        return ""
    stages = zip(row.made.replicas, row.made.threads, strict=True)
    return kind_of(tuple(
        FrontStage(ops=1, first="", last="", configuration="", replicas=r, threads=t) for r, t in stages
    ))  # fmt: skip


def format_energy(joules: float) -> str:
    """`joules` with three digits and the unit that fits: 21.4 J, 85.0 mJ."""
    return format_seconds(joules).removesuffix("s") + "J"


def _best(found: Exploration, usable: Sequence[Row]) -> list[str]:
    """The best row of each value, with what makes it."""
    lines = []
    for name, head in _HEADS.items():
        if name not in compared(found.rows):
            continue
        best = min(usable, key=lambda row: (cost_of(row, name), cost_of(row, "latency_s"), row.number))
        assert best.made is not None
        energy = "" if best.element_energy_j is None else f", {format_energy(best.element_energy_j)} each"
        value = f"{_rate(best)} {plural(noun_of(found))}/s, {format_seconds(best.made.latency_s)} an item{energy}"
        cores = f"{best.made.cores_used} core{'s' * (best.made.cores_used > 1)}"
        lines.append(f"{head}: {value}, {cores}: {_where(found, best)}")
        lines.append(f"  mapper plan {best.options}")
    return lines


def _where(found: Exploration, row: Row) -> str:
    """What kind of plan it is, how it is placed, of which items, on which machine."""
    parts = [kind_of_row(row)]
    if len(found.dimensions.strategies) > 1:
        parts.append(row.strategy)
    if len(found.dimensions.batches) > 1:
        parts.append(f"items of {row.batch}")
    if len(found.variants) > 1:
        parts.append(row.machine)
    return ", ".join(parts)


def _front(found: Exploration) -> list[str]:
    """The front, the fastest first; where it is long, some of it from end to end."""
    names = compared(found.rows)
    front = sorted((row for row in found.rows if row.front), key=lambda row: [cost_of(row, name) for name in names])
    shown = front
    if len(front) > MOST_ROWS:
        shown = [front[i * (len(front) - 1) // (MOST_ROWS - 1)] for i in range(MOST_ROWS)]
    energy = "element_energy_j" in names
    what = ", ".join(["throughput", "latency", "cores", *(["energy"] * energy)])
    some = f", {len(shown)} of them" if len(shown) < len(front) else ""
    head = [f"{plural(noun_of(found))}/s", "latency", "cores", *(["energy each"] * energy), "plan"]
    rows = [_cells(found, row, energy) for row in shown]
    points = f"{len(front)} point{'s' * (len(front) != 1)}"
    return [f"No point is better in {what} than these {points}{some}:", *table(head, rows, right="012" + "3" * energy)]


def _cells(found: Exploration, row: Row, energy: bool) -> list[str]:
    assert row.made is not None and (row.element_energy_j is not None or not energy)
    cost = [format_energy(row.element_energy_j or 0.0)] if energy else []
    return [
        _rate(row), format_seconds(row.made.latency_s), str(row.made.cores_used), *cost, _where(found, row),
    ]  # fmt: skip


def _rate(row: Row) -> str:
    return format_rate(row.elements_per_s or 0.0)


def _counts(found: Exploration) -> list[str]:
    """How many points there are, and why some have no plan."""
    without = Counter(row.reason.partition(" (")[0] for row in found.rows if row.made is None)
    usable = len(found.rows) - without.total()
    missing = found.points - len(found.rows)
    lines = [f"{found.points} points: {usable} plans from {found.searches} searches"
             + (f"; {missing} points were not reached" if missing else "")]  # fmt: skip
    if without:
        lines.append(f"{without.total()} have none: " + "; ".join(f"{why} {n}" for why, n in without.most_common(5)))
    return lines
