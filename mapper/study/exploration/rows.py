"""One row a point: what was asked for, what came of it, and whether nothing else is better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapper.jsonio import Record
from mapper.machine.changes import parse_figure
from mapper.machine.model import Machine
from mapper.study.exploration.dimensions import FIGURE, Dimensions, Number, Variant
from mapper.study.exploration.outcomes import Made, Outcome, Simulation
from mapper.study.exploration.points import Point

VALUES = ("elements_per_s", "latency_s", "cores_used", "element_energy_j")
"""What the front is of; energy where every machine states its power. The first is to be large, the others small."""


class Row(Record):
    """A point: the machine with the figures that were changed, elements an item (`batch`), the strategy, and stages,
    threads of a replica and most replicas of a stage as asked for (none: as the planner liked). `machine` names the
    machine as `--topo` does. `made` is what came of the point, `reason` why nothing did.

    `elements_per_s` makes items of different batches comparable. Energy takes all packages as drawing their full power
    all the time, whatever part of them is used: an upper figure; per item and per element. `front`: no other point is
    at least as good in everything and better in something; of equals the first. `options` are those of `mapper plan`.
    """

    number: int
    machine: str
    topo: str
    figures: dict[str, float]
    batch: int
    strategy: str
    stages: Number
    threads: Number
    replicas: Number
    made: Made | None
    reason: str
    elements_per_s: float | None
    energy_j: float | None
    element_energy_j: float | None
    front: bool
    options: str

    def flat(self) -> dict[str, Any]:
        """One value a column, the same columns for every row of an exploration; None where there is none."""
        made, simulated = self.made, self.made and self.made.simulated
        asked = {"number": self.number, "machine": self.machine, "topo": self.topo}
        asked |= {FIGURE + name: value for name, value in self.figures.items()}
        asked |= {name: getattr(self, name) for name in ("batch", "strategy", "stages", "threads", "replicas")}
        plain = ("throughput_per_s", "latency_s", "period_s", "cores_used")
        more = ("dram_bytes_per_item", "limited_by", "bound_s", "gap")
        return asked | {
            "status": made.status if made else "impossible",
            **{name: getattr(made, name, None) for name in plain},
            "elements_per_s": self.elements_per_s, "energy_j": self.energy_j, "element_energy_j": self.element_energy_j,
            **{name: getattr(made, name, None) for name in more},
            "stages_made": len(made.replicas) if made else None,
            "replicas_made": _joined(made.replicas) if made else None,
            "threads_made": _joined(made.threads) if made else None,
            **{f"simulated_{name}": getattr(simulated, name, None) for name in Simulation.model_fields},
            "front": self.front, "options": self.options, "reason": self.reason,
        }  # fmt: skip


def _joined(numbers: Sequence[int]) -> str:
    """A number a stage, such as `3 5 4`."""
    return " ".join(map(str, numbers))


def row_of(point: Point, variant: Variant, outcome: Outcome, options: str) -> Row:
    """The row of a point, not yet compared with others."""
    made, watts = outcome.made, power_w(variant.machine)
    energy = None if made is None or watts is None else watts * made.period_s
    return Row(
        number=point.number, machine=variant.spec, topo=variant.topo,
        figures={name: parse_figure(name, text) for name, text in variant.figures},
        batch=point.batch, strategy=point.strategy, stages=point.stages, threads=point.threads,
        replicas=point.replicas, made=made, reason=outcome.reason,
        elements_per_s=None if made is None else made.throughput_per_s * point.batch,
        energy_j=energy, element_energy_j=None if energy is None else energy / point.batch, front=False,
        options="" if made is None else options,
    )  # fmt: skip


def power_w(machine: Machine) -> float | None:
    """What all packages draw with all cores busy, None where the machine does not state it."""
    figure = machine.power.package_w if machine.power else None
    return None if figure is None else figure.value * machine.counts["packages"]


def with_front(rows: Sequence[Row]) -> tuple[Row, ...]:
    """`rows` with those marked that are on the front."""
    usable = [row for row in rows if row.made is not None]
    names = compared(rows)
    values = np.array([[cost_of(row, name) for name in names] for row in usable], float).reshape(-1, len(names))
    marked = {usable[i].number for i in efficient(values)}
    return tuple(row.model_copy(update={"front": row.number in marked}) for row in rows)


def compared(rows: Sequence[Row]) -> tuple[str, ...]:
    """What the front of `rows` is of."""
    stated = all(row.element_energy_j is not None for row in rows if row.made is not None)
    return VALUES if stated else VALUES[:-1]


def cost_of(row: Row, name: str) -> float:
    """The value called `name` of a row with a plan, as something to be small."""
    found = getattr(row, name) if name in Row.model_fields else getattr(row.made, name)
    return -float(found) if name == VALUES[0] else float(found)


def efficient(values: NDArray[np.float64]) -> list[int]:
    """Which rows of `values` (points, costs) no other one dominates; the first of equal ones.

    In lexicographic order a point can only be dominated by one before it.
    """
    order = np.lexsort((np.arange(len(values)), *values.T[::-1]))
    kept: list[int] = []
    front = np.empty_like(values)
    for i in order:
        if not (front[: len(kept)] <= values[i]).all(axis=1).any():
            front[len(kept)] = values[i]
            kept.append(int(i))
    return sorted(kept)


def columns_of(dimensions: Dimensions) -> dict[str, type]:
    """The columns of `Row.flat` with their types, in their order."""
    count, number, text = int, float, str
    figures = {FIGURE + figure.name: number for figure in dimensions.figures}
    return {
        "number": count, "machine": text, "topo": text, **figures, "batch": count, "strategy": text,
        "stages": count, "threads": count, "replicas": count, "status": text, "throughput_per_s": number,
        "latency_s": number, "period_s": number, "cores_used": count, "elements_per_s": number, "energy_j": number,
        "element_energy_j": number,
        "dram_bytes_per_item": number, "limited_by": text, "bound_s": number, "gap": number, "stages_made": count,
        "replicas_made": text, "threads_made": text,
        **{f"simulated_{name}": number for name in Simulation.model_fields},
        "front": bool, "options": text, "reason": text,
    }  # fmt: skip
