"""Timelines: which replica did what with which call, and when. A simulation and a measured run have the same, so that
the two open side by side in ui.perfetto.dev or chrome://tracing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

from mapper.plans.model import Plan


class Doing(IntEnum):
    """What a replica is at: waiting for an item, taking in its tensors, computing, waiting for room for the result,
    handing it on."""

    WAITING = 0
    READING = 1
    COMPUTING = 2
    BLOCKED = 3
    WRITING = 4


WORDS = {
    Doing.WAITING: "waits for an item",
    Doing.READING: "reads",
    Doing.COMPUTING: "computes",
    Doing.BLOCKED: "waits for room",
    Doing.WRITING: "writes",
}


@dataclass(frozen=True, slots=True)
class Span:
    """A replica did something with a call of the program from one time to another, in seconds. `whom`: the stage that
    it waited for, where that is known (-1: the feeder)."""

    stage: int
    replica: int
    call: int
    doing: Doing
    start_s: float
    end_s: float
    whom: int | None = None


@dataclass(frozen=True)
class Timeline:
    """The spans of a run of `plan`, each replica's in order, from a simulation or from a run."""

    plan: Plan
    spans: tuple[Span, ...]
    source: Literal["simulated", "measured"]

    @classmethod
    def of(cls, plan: Plan, spans: Iterable[Span], source: Literal["simulated", "measured"]) -> Timeline:
        """Sorted by stage, replica and time; time counts from the first span."""
        ordered = sorted(spans, key=lambda s: (s.stage, s.replica, s.start_s))
        first = min((span.start_s for span in ordered), default=0.0)
        moved = (Span(s.stage, s.replica, s.call, s.doing, s.start_s - first, s.end_s - first, s.whom) for s in ordered)
        return cls(plan, tuple(moved), source)

    def item(self, call: int) -> str:
        """In words, the item that a call belongs to, and which of its calls it is where it has several."""
        calls = self.plan.request.micro_batches
        return f"item {call}" if calls == 1 else f"item {call // calls}, call {call % calls + 1} of {calls}"


def trace_events(timeline: Timeline) -> dict[str, Any]:
    """The timeline in the Chrome trace event format (JSON object form), which Perfetto reads: a process a stage, a
    thread a replica, a slice for each thing done; times in microseconds."""
    plan, events = timeline.plan, list[dict[str, Any]]()
    for stage in plan.stages:
        events += _named("process", stage.id, None, f"stage {stage.id}: {_ops(stage.ops)}", stage.id)
        for r, replica in enumerate(stage.replicas):
            events += _named("thread", stage.id, r, f"replica {r}, {_cores(replica.cores)}", r)
    for span in timeline.spans:
        waits = span.doing in (Doing.WAITING, Doing.BLOCKED)
        arguments: dict[str, Any] = {"call": span.call}
        if span.whom is not None:
            arguments["for"] = "the feeder" if span.whom < 0 else f"stage {span.whom}"
        events.append({
            "name": WORDS[span.doing] if waits else f"{WORDS[span.doing]} {timeline.item(span.call)}",
            "cat": span.doing.name.lower(), "ph": "X", "pid": span.stage + 1, "tid": span.replica + 1,
            "ts": span.start_s * 1e6, "dur": (span.end_s - span.start_s) * 1e6, "args": arguments,
        })  # fmt: skip
    about = {"model": plan.model.title or plan.model.name, "machine": plan.machine.name, "source": timeline.source}
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": about}


def _named(what: str, stage: int, replica: int | None, name: str, order: int) -> list[dict[str, Any]]:
    """Name and place of a process or thread."""
    where = {"pid": stage + 1} | ({} if replica is None else {"tid": replica + 1})
    return [
        {"name": f"{what}_name", "ph": "M", **where, "args": {"name": name}},
        {"name": f"{what}_sort_index", "ph": "M", **where, "args": {"sort_index": order}},
    ]


def _ops(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} ops, {names[0]} to {names[-1]}"


def _cores(cores: Sequence[int]) -> str:
    """`core 3`, or `cores 0-3` where they follow each other."""
    if len(cores) == 1:
        return f"core {cores[0]}"
    if list(cores) == list(range(cores[0], cores[0] + len(cores))):
        return f"cores {cores[0]}-{cores[-1]}"
    return "cores " + ",".join(map(str, cores))
