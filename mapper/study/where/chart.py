"""`mapper study --map`: for each machine a grid of dense models and the real models as points, each with what splitting
it is worth."""

from __future__ import annotations

import contextlib
import math
from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mapper.jsonio import Record
from mapper.machine.model import Machine
from mapper.plans.source import graph_of_source
from mapper.study.processes import shared_out
from mapper.study.sg2042.cases import MODELS
from mapper.study.where.dense import LAYERS, dense, flop_per_byte, width_for
from mapper.study.where.splitting import LATENCY_LIMIT, Compared, Held, compared, held, weights_of

MACHINES = ("sg2042", "sg2044", "epyc-9684x", "altra-q80-30")
"""A package cache and small group caches, twice; large caches a group and none for the package; many small ones."""
ROWS = tuple(2**k for k in range(10))
"""Rows of an item: 0.5 to 256 FLOP a weight byte."""
SHARES = tuple(2 ** (k - 0.5) for k in range(-7, 6))
"""Weights over what the caches hold; between powers of two, so that 1 lies between two of them."""

Say = Callable[[str], None]
Piece = tuple[int | None, str | float]
"""A piece of work: a machine by its number with a share of the grid, or no machine and a model."""


@dataclass(frozen=True)
class Settings:
    """What is looked at: rows and shares of the grid, layers of its models, models with items of one; processes."""

    rows: tuple[int, ...] = ROWS
    shares: tuple[float, ...] = SHARES
    layers: int = LAYERS
    models: tuple[str, ...] = MODELS
    processes: int = 2


class Cell(Record):
    """A dense model on a machine: its place on both axes, its weights, and what splitting it is worth. `share` are the
    weights over `Held.bytes`."""

    rows: int
    width: int
    flop_per_byte: float
    weight_bytes: float
    share: float
    found: Compared


class Point(Record):
    """A real model with items of one on a machine. `cell` is the ratio, without a limit on latency, of the dense model
    that is nearest on both axes (as logarithms); None where its place is off the grid."""

    model: str
    ops: int
    flop_per_byte: float
    weight_bytes: float
    share: float
    found: Compared
    cell: float | None = None


class Panel(Record):
    """One machine: what its caches hold, the grid by shares and then by rows, and the models."""

    machine: str
    title: str
    held: Held
    cells: tuple[Cell, ...]
    points: tuple[Point, ...]


class Chart(Record):
    """The map. `latency_limit`: times the latency of native, for what is limited."""

    layers: int
    rows: tuple[int, ...]
    shares: tuple[float, ...]
    latency_limit: float
    panels: tuple[Panel, ...]


def chart(machines: Sequence[Machine], settings: Settings | None = None, say: Say = lambda message: None) -> Chart:
    """The map of `machines`: each row of a grid and each model is a piece of work for one of the processes.

    Raises: BadInput for a model that is not there or cannot be traced.
    """
    settings = settings or Settings()
    models: list[Piece] = [(None, model) for model in settings.models]
    rows: list[Piece] = [(m, share) for m in range(len(machines)) for share in settings.shares]
    found: dict[Piece, tuple[Point | Cell, ...]] = {}
    work = shared_out(piece_of, (tuple(machines), settings), [*models, *rows], settings.processes)
    with contextlib.closing(work) as results:
        for piece, made in results:
            found[piece] = made
            say(f"{len(found)} of {len(models) + len(rows)} rows and models")
    points = [[point for point in found[piece] if isinstance(point, Point)] for piece in models]
    cells = [
        [cell for share in settings.shares for cell in found[m, share] if isinstance(cell, Cell)]
        for m in range(len(machines))
    ]
    panels = tuple(
        Panel(machine=machine.name, title=machine.title or machine.name, held=held(machine), cells=tuple(mine),
              points=tuple(_on_grid(of_one[m], mine, settings) for of_one in points))
        for m, (machine, mine) in enumerate(zip(machines, cells, strict=True))
    )  # fmt: skip
    return Chart(layers=settings.layers, rows=settings.rows, shares=settings.shares, latency_limit=LATENCY_LIMIT,
                 panels=panels)  # fmt: skip


def piece_of(subject: tuple[Sequence[Machine], Settings]) -> Callable[[Piece], tuple[Point | Cell, ...]]:
    """What makes a piece of the map."""
    machines, settings = subject

    def made(piece: Piece) -> tuple[Point | Cell, ...]:
        machine, which = piece
        if isinstance(which, str) or machine is None:
            return tuple(of_model(str(which), machines))
        return tuple(row(machines[machine], which, settings))

    return made


def row(machine: Machine, share: float, settings: Settings) -> list[Cell]:
    """The dense models with weights of `share` times what the caches of `machine` hold."""
    total = held(machine).bytes
    width = width_for(share * total, settings.layers)
    found = []
    for rows in settings.rows:
        graph = dense(settings.layers, rows, width)
        size = weights_of(graph)
        found.append(Cell(
            rows=rows, width=width, flop_per_byte=flop_per_byte(rows), weight_bytes=size, share=size / total,
            found=compared(graph, machine),
        ))  # fmt: skip
    return found


def of_model(model: str, machines: Sequence[Machine]) -> list[Point]:
    """The model that `model` names, with items of one, on each of `machines`."""
    graph = graph_of_source(model)[0]
    size = weights_of(graph)
    return [
        Point(model=model, ops=len(graph.ops), flop_per_byte=graph.flop / size, weight_bytes=size,
              share=size / held(machine).bytes, found=compared(graph, machine))
        for machine in machines
    ]  # fmt: skip


def _on_grid(point: Point, cells: Sequence[Cell], settings: Settings) -> Point:
    """`point` with the ratio of the cell that it lies in."""
    columns, lines = map(edges, (tuple(map(flop_per_byte, settings.rows)), settings.shares))
    place = bisect(columns, point.flop_per_byte) - 1, bisect(lines, point.share) - 1
    if not (0 <= place[0] < len(settings.rows) and 0 <= place[1] < len(settings.shares)):
        return point
    return point.model_copy(update={"cell": cells[place[1] * len(settings.rows) + place[0]].found.free.ratio})


def edges(centres: Sequence[float]) -> list[float]:
    """Where the cells around `centres`, ascending, begin and end: midway, as logarithms."""
    inner = [math.sqrt(a * b) for a, b in pairwise(centres)]
    first = inner[0] / centres[0] if inner else math.sqrt(2)
    last = centres[-1] / inner[-1] if inner else math.sqrt(2)
    return [centres[0] / first, *inner, centres[-1] * last]
