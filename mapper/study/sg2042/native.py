"""PyTorch's own parallelism on a machine that is not at hand: one process, a team of threads over every op.

What the planner does not have to know, a fair baseline has to: weights stay on the NUMA node that touched them first,
unless pages are interleaved (`numactl --interleave=all`); a core is slowed down by those that work at the same time, so
not while others wait in a serial phase; the caches belong to the one model.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

from mapper.cost.configurations import Config
from mapper.cost.forms import Form, forms
from mapper.cost.paths import path_of
from mapper.cost.residency import DRAM, PACKAGE
from mapper.cost.roofline import Roofline, Terms, what_costs
from mapper.graph.model import Graph, Op, touched_by
from mapper.machine.model import Machine
from mapper.machine.parts import Path

Pages = Literal["first touch", "interleaved"]


@dataclass(frozen=True)
class Native:
    """A team of `threads` threads, on neighbouring cores, with the weights where `pages` says."""

    threads: int
    pages: Pages = "first touch"

    @property
    def name(self) -> str:
        """Such as `native, 64 threads, interleaved`."""
        threads = f"native, {self.threads} thread{'s' * (self.threads != 1)}"
        return threads if self.pages == "first touch" else f"{threads}, {self.pages}"


def teams(machine: Machine) -> list[int]:
    """1, 2, 4, ... and all threads that make whole configurations."""
    cores, size = len(machine.cores), machine.cores_per_group
    found = [t for t in (2**k for k in range(cores.bit_length())) if t <= cores and (t <= size or t % size == 0)]
    return found if found[-1] == cores else [*found, cores]


def native_s(
    graph: Graph, machine: Machine, native: Native, path: Path | None = None, shapes: Sequence[Form] | None = None
) -> float:
    """Seconds of one item: period and latency are the same, since items go one after another. `shapes` are the graph's
    `forms`, for who costs it many times."""
    return sum(op_seconds(graph, machine, native, path, shapes))


def op_seconds(
    graph: Graph, machine: Machine, native: Native, path: Path | None = None, shapes: Sequence[Form] | None = None
) -> list[float]:
    """Seconds of each op, in the graph's order."""
    model = Roofline(machine, path or path_of(machine), alone=True)
    size = machine.cores_per_group
    config = Config(1, native.threads) if native.threads <= size else Config(native.threads // size, size)
    residency = PACKAGE if model.caches.holds_model(touched_by(graph.ops)) else DRAM
    rate = _weights_per_s(machine, config, native.pages)
    known: dict[Hashable, float] = {}
    seconds = []
    for op, shown in zip(graph.ops, shapes or forms(graph), strict=True):
        key = what_costs(op, shown)
        if key not in known:
            known[key] = _seconds(op, model.terms(op, shown, config), machine, residency, rate)
        seconds.append(known[key])
    return seconds


def _seconds(op: Op, terms: Terms, machine: Machine, residency: int, rate: float) -> float:
    """One op: as in the roofline, but for who is busy and for where weights lie."""
    slowdown, cores = machine.compute.busy_slowdown.value, len(machine.cores)
    busy = 1 + (slowdown - 1) * (terms.course.team - 1) / max(1, cores - 1)
    weights_s = terms.weights_s[residency]
    if residency == DRAM and op.touched_bytes:
        weights_s = max(weights_s, op.touched_bytes / rate)
    memory_s = weights_s + terms.activations_s
    return busy * max(terms.work_s, memory_s) + terms.dispatch_s + terms.fork_join_s + terms.panels_s + terms.pages_s


def _weights_per_s(machine: Machine, config: Config, pages: Pages) -> float:
    """Bytes of weights a second that all members together read from DRAM.

    A member reads from another node more slowly in proportion to its latency; a node gives no more than its controllers
    do.
    """
    homes: Sequence[int] = range(len(machine.nodes)) if pages == "interleaved" else (0,)
    drawn = machine.core_dram_bytes_per_s * config.cores / machine.mean_latency(config.groups, homes)
    node = machine.memory.node_bandwidth_bytes_per_s
    given = machine.dram_bytes_per_s if node is None else min(machine.dram_bytes_per_s, node.value * len(homes))
    return min(drawn, given)
