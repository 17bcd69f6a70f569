"""`mapper compare`: two plans, measurements or simulations side by side, stage by stage."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mapper.jsonio import Record
from mapper.machine.diff import Difference
from mapper.machine.diff import compare as compare_machines
from mapper.plans.model import Plan
from mapper.study.results import load_result
from mapper.study.sides import Alternative, Side, StageFigures, side_of

if TYPE_CHECKING:
    from mapper.study.results import Result


class Differing(Record):
    """Something that the two were asked for or made with, and that is not the same."""

    name: str
    a: Any
    b: Any


class StagePair(Record):
    """A stage of each side that belong together, or one of them alone. `shared_ops` are those in both (null: they are
    not known); `load_ratio` is the load of b over that of a, where both have the same ops."""

    a: StageFigures | None
    b: StageFigures | None
    shared_ops: int | None = None
    load_ratio: float | None = None


class AlternativePair(Record):
    """What two comparisons measured of the same way. `overlap`: the rates of single rounds reach into each other, so
    that the difference of the medians may be noise."""

    a: Alternative | None
    b: Alternative | None
    throughput_ratio: float | None = None
    overlap: bool | None = None


class SideBySide(Record):
    """Two results side by side; ratios are b over a. `counted_in`: items where both have items of one size, as far as
    the files tell, else elements of them; `throughput_ratio` is of these. `same_plan`: they are of one plan, or their
    plans have the same stages (null: no file tells). `paired_by`: stages that share most ops stand together, in the
    order of both; else, where ops are not known, those of one number. `machine_differences` is empty where not both are
    plans of models, or their machines are equal."""

    a: Side
    b: Side
    counted_in: Literal["items", "elements"]
    throughput_ratio: float | None
    latency_ratio: float | None
    same_model: bool
    same_plan: bool | None
    paired_by: Literal["ops", "numbers"] | None
    stages: tuple[StagePair, ...]
    alternatives: tuple[AlternativePair, ...]
    differences: tuple[Differing, ...]
    machine_differences: tuple[Difference, ...]


def compare(a: Result | str | Path, b: Result | str | Path) -> SideBySide:
    """What differs between `a` and `b`: plans (of models or of problem files), what `mapper run`, `mapper bench` and
    `mapper simulate` measured or simulated, or files of these, in any combination.

    A measurement beside its plan takes over ops and cores from it. Comparisons are there with their chosen plan.

    >>> import mapper
    >>> from mapper.graph.model import Graph, Op
    >>> graph = Graph(name="three", ops=tuple(Op(name=n, kind="other", proc_s=0.002) for n in "xyz"), tensors=())
    >>> one, two = (mapper.plan(graph, mapper.load_machine(f"uniform:{units}")) for units in (1, 2))
    >>> compare(one, two).throughput_ratio
    2.0

    Raises: BadInput for files that are none of these; UsageError for a profile.
    """
    first, second = (_loaded(given, name) for given, name in ((a, "a"), (b, "b")))
    left, right = (side_of(found, name) for found, name in (first, second))
    same = _same_plan(left, right)
    if same:
        left, right = _completed(left, right), _completed(right, left)
    known = all(side.stages and all(stage.ops for stage in side.stages) for side in (left, right))
    pairs = list(_by_ops(left.stages, right.stages)) if known else []
    by_ops = any(pair.shared_ops for pair in pairs)
    if not by_ops:
        pairs = list(_by_numbers(left.stages, right.stages, bool(same)))
    unequal = None not in (left.batch, right.batch) and left.batch != right.batch
    rates = [side.throughput_per_s * (side.batch or 1 if unequal else 1) for side in (left, right)]
    machines = [found.machine for found, _ in (first, second) if isinstance(found, Plan)]
    return SideBySide(
        a=left, b=right, counted_in="elements" if unequal else "items", throughput_ratio=ratio(*rates),
        latency_ratio=ratio(left.latency_s, right.latency_s), same_model=_same_model(left, right), same_plan=same,
        paired_by=("ops" if by_ops else "numbers") if pairs else None, stages=tuple(pairs),
        alternatives=tuple(_alternatives(left.alternatives, right.alternatives)),
        differences=tuple(_differences(left, right)),
        machine_differences=compare_machines(*machines).differences if len(machines) == 2 else (),
    )  # fmt: skip


def ratio(a: float | None, b: float | None) -> float | None:
    """`b` over `a`; None where that is no number."""
    return b / a if a and b is not None else None


def _loaded(given: Result | str | Path, name: str) -> tuple[Result, str]:
    """What is compared, and what it is called: a file as its path, another value `name`."""
    return (load_result(given), str(given)) if isinstance(given, str | Path) else (given, name)


def _same_model(a: Side, b: Side) -> bool:
    """Some kinds of file have a model's name, others its title."""
    return bool({a.model, a.title or a.model} & {b.model, b.title or b.model})


def _same_plan(a: Side, b: Side) -> bool | None:
    """Whether stages, copies and predicted loads are the same; None where there are no stages."""
    if not a.stages or not b.stages:
        return None
    if len(a.stages) != len(b.stages):
        return False
    return all(
        x.replicas == y.replicas and math.isclose(x.predicted_load_s, y.predicted_load_s)
        and (x.ops == y.ops or not (x.ops and y.ops))
        for x, y in zip(a.stages, b.stages, strict=True)
    )  # fmt: skip


def _completed(side: Side, other: Side) -> Side:
    """`side` with what a measurement does not tell of its plan, where `other` is that plan."""
    if other.kind != "predicted" or side.kind == "predicted":
        return side
    taken = ("ops", "configuration", "cores", "weight_bytes", "residency")
    stages = tuple(
        mine.model_copy(update={name: getattr(plan, name) for name in taken})
        for mine, plan in zip(side.stages, other.stages, strict=True)
    )
    more = {"batch": other.batch, "item": other.item, "cores_used": other.cores_used}
    return side.model_copy(update={"stages": stages} | more)


def _by_numbers(a: Sequence[StageFigures], b: Sequence[StageFigures], same: bool) -> Iterator[StagePair]:
    for first, second in itertools.zip_longest(a, b):
        yield _pair(first, second, same=same)


def _by_ops(a: Sequence[StageFigures], b: Sequence[StageFigures]) -> Iterator[StagePair]:
    """Pairs in the order of both that share as many ops as possible, and in their places what has no partner."""
    shared = [[len(set(x.ops) & set(y.ops)) for y in b] for x in a]
    most = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, j in itertools.product(reversed(range(len(a))), reversed(range(len(b)))):
        together = shared[i][j] + most[i + 1][j + 1] if shared[i][j] else 0
        most[i][j] = max(together, most[i + 1][j], most[i][j + 1])
    i = j = 0
    while i < len(a) or j < len(b):
        if i < len(a) and j < len(b) and shared[i][j] and most[i][j] == shared[i][j] + most[i + 1][j + 1]:
            yield _pair(a[i], b[j], shared=shared[i][j], same=set(a[i].ops) == set(b[j].ops))
            i, j = i + 1, j + 1
        elif j == len(b) or (i < len(a) and most[i][j] == most[i + 1][j]):
            yield _pair(a[i], None)
            i += 1
        else:
            yield _pair(None, b[j])
            j += 1


def _pair(
    a: StageFigures | None, b: StageFigures | None, *, shared: int | None = None, same: bool = False
) -> StagePair:
    """`same`: they have the same ops, known or not."""
    over = ratio(a.load_s, b.load_s) if a is not None and b is not None and same else None
    return StagePair(a=a, b=b, shared_ops=shared, load_ratio=over)


def _alternatives(a: Sequence[Alternative], b: Sequence[Alternative]) -> Iterator[AlternativePair]:
    """The chosen plans of both, then what has a name in common, then what only b has."""
    left = list(b)
    for mine in a:
        other = next((x for x in left if _alike(mine, x)), None)
        if other is None:
            yield AlternativePair(a=mine, b=None)
            continue
        left.remove(other)
        yield AlternativePair(
            a=mine, b=other, throughput_ratio=ratio(mine.throughput_per_s, other.throughput_per_s),
            overlap=mine.low_per_s <= other.high_per_s and other.low_per_s <= mine.high_per_s,
        )  # fmt: skip
    yield from (AlternativePair(a=None, b=other) for other in left)


def _alike(a: Alternative, b: Alternative) -> bool:
    return a.chosen == b.chosen if a.chosen or b.chosen else bool(set(a.names) & set(b.names))


def _differences(a: Side, b: Side) -> Iterator[Differing]:
    """What both tell and tell differently. A machine has a name in some kinds of file, a title in others."""
    if a.kind == b.kind and a.machine != b.machine and a.machine and b.machine:
        yield Differing(name="machine", a=a.machine, b=b.machine)
    for name, value in a.about.items():
        if None not in (value, b.about.get(name)) and b.about[name] != value:
            yield Differing(name=name, a=value, b=b.about[name])
