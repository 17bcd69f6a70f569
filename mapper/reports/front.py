"""The front in words and a table: what it is, what was proved of it, then a row a plan, the fastest first."""

from __future__ import annotations

from mapper.plans.front import Front, FrontPoint, FrontStage
from mapper.reports import asked
from mapper.reports.plan import plural
from mapper.reports.table import table
from mapper.units import format_rate, format_seconds

MOST_STAGES = 4
"""Stages that a row shows one by one."""


def front_text(front: Front) -> list[str]:
    """Lines for people: the subject, the answer, its proof and the table of plans."""
    return [_subject(front), "", *_answer(front), "", *_rows(front)]


def kind_of(stages: tuple[FrontStage, ...]) -> str:
    """What kind of plan it is, such as `2 copies × 32 threads` or `2 stages: 3 × 16, 1 × 8 threads`."""
    if len(stages) == 1:
        copies, threads = stages[0].replicas, stages[0].threads
        if copies == 1:
            return f"the whole model, {threads} thread{'s' * (threads > 1)}"
        return f"{copies} copies × {threads} thread{'s' * (threads > 1)}"
    shown = [f"{stage.replicas} × {stage.threads}" for stage in stages]
    if len(shown) > MOST_STAGES:
        shown = [*shown[: MOST_STAGES - 1], "…"]
    return f"{len(stages)} stages: {', '.join(shown)} threads"


def _subject(front: Front) -> str:
    batch, noun = front.request.batch, front.model.item_name
    item = f"1 {noun}" if batch == 1 else f"{batch} {plural(noun)}"
    items = "" if item == "1 item" else f", items of {item}"
    machine = front.machine
    return f"{front.model.title or front.model.name}{items}, on {machine.title or machine.name} ({machine.cores} cores)"


def _answer(front: Front) -> list[str]:
    count, proved = len(front.points), front.proved
    head = asked.head("pareto", front.request.limits)
    lines = [f"{head}: {count} plan{'s' * (count > 1)}"]
    if proved.precision is None:
        lines.append("Of all plans found none is better in all three; others are not ruled out")
    else:
        what = ""
        if proved.status != "complete":
            before = f", {_more(proved.before_distances)} before distances" if proved.before_distances else ""
            what = f" ({_more(front.request.precision)} asked for{before})"
        lines.append(
            "Proved: for every plan of this cost model there is one here with at most "
            f"{_more(proved.precision)} period and latency, in no more cores{what}"
        )
    if not all(point.placed for point in front.points):
        lines.append("~: before distances; there was no time to place these plans on cores")
    return lines


def _more(fraction: float) -> str:
    """Such as `10 % more`, or `3.2 times more`."""
    return f"{fraction * 100:.3g} % more" if fraction < 1 else f"{fraction:.3g} times more"


def _rows(front: Front) -> list[str]:
    noun = "items" if front.request.batch > 1 else plural(front.model.item_name).split(" ")[0]
    rows = [_row(point) for point in front.points]
    return table(
        [f"{noun}/s", "latency", "cores", "plan", "instead of --objective pareto"],
        rows,
        right="012",
        fold="4",
        whole="4",
    )


def _row(point: FrontPoint) -> list[str]:
    mark = "" if point.placed else "~"
    return [
        mark + format_rate(point.throughput_per_s), mark + format_seconds(point.latency_s), str(point.cores_used),
        kind_of(point.stages), point.options,
    ]  # fmt: skip
