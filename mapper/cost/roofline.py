"""Analytic costs: the roofline of problem.md, with every parameter from the machine file.

    t(v, c, ρ) = nodes(v) · dispatch
               + fork_join(c)                                   if v runs in parallel
               + busy · max( work(v) / speed(team), bytes(v, ρ) / bandwidth(team) )

`team` is the whole configuration for products and attention, and at most elements / grain cores for the rest.
Its speed is team / (1 + imbalance · log2(team) / 6) cores.
"""

from __future__ import annotations

import math

import numpy as np

from mapper.cost.configurations import Config, configurations
from mapper.cost.residency import DRAM, GROUP, PACKAGE, caches_of
from mapper.cost.table import CostTable
from mapper.errors import BadInput
from mapper.graph.model import Graph, Op
from mapper.machine.figures import Figure
from mapper.machine.model import Machine
from mapper.machine.parts import Cache

_BY_FLOP = ("matmul", "conv", "attention")
_OVER_OPERANDS = ("pool", "reduce")


def roofline(graph: Graph, machine: Machine, configs: tuple[Config, ...] | None = None) -> CostTable:
    """The cost table of `graph` on `machine` for `configs` (all of the machine's, where not given).

    Raises: BadInput when the machine file lacks a figure for an op kind of the graph.
    """
    configs = configs or configurations(machine)
    rates = _Rates(machine)
    compute = np.zeros((len(graph.ops), len(configs), 3))
    fork_join = np.zeros((len(graph.ops), len(configs)))
    dram = np.zeros((len(graph.ops), len(configs)))
    for c, config in enumerate(configs):
        start = rates.fork_join(config)
        for v, op in enumerate(graph.ops):
            team = rates.team(op, config.cores)
            fork_join[v, c] = start if team > 1 else 0.0
            level = rates.activation_level(op, config)
            dram[v, c] = op.footprint_bytes if level == DRAM else 0.0
            groups = min(config.groups, team)
            compute[v, c] = [rates.compute(op, team, groups, rho, level) for rho in (GROUP, PACKAGE, DRAM)]
    dispatch = np.array([op.nodes for op in graph.ops]) * machine.overheads.dispatch_s.value
    return CostTable(configs, caches_of(machine), compute, dispatch, fork_join, dram, "roofline")


class _Rates:
    """The machine's figures in the form in which the formula wants them."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.caches = caches_of(machine)
        self.bandwidth = (
            _of_cache(machine.group_cache, machine),
            _of_cache(machine.package_cache, machine),
            machine.core_dram_bytes_per_s,
        )
        counts = machine.counts
        self.all_cores = counts["cores"]
        self.groups_per_node = max(1, counts["groups"] // counts["nodes"])

    def work(self, op: Op) -> float:
        """Seconds on one core (of the slowest kind), memory aside."""
        compute, slowest = self.machine.compute, self.machine.slowest
        if op.kind == "none":
            return 0.0
        if op.kind in _BY_FLOP:
            peak = compute.peak_flop_per_s.value * slowest
            return op.flop / (peak * self._figure(compute.efficiency, "efficiency", op))
        elements = op.flop if op.kind in _OVER_OPERANDS else op.elements
        return elements * self._figure(compute.seconds_per_element, "seconds_per_element", op) / slowest

    def _figure(self, figures: dict[str, Figure], table: str, op: Op) -> float:
        if op.kind not in figures:
            raise BadInput(
                self.machine.name,
                f"no figure for ops of kind {op.kind!r}, such as {op.name}",
                place=f"/compute/{table}",
            )
        return figures[op.kind].value

    def team(self, op: Op, cores: int) -> int:
        """Cores that take part: all for products and attention, elements over grain for the rest."""
        if op.kind in _BY_FLOP:
            return cores
        grain = max(1.0, self.machine.overheads.grain_elements.value)
        return max(1, min(cores, math.ceil(op.elements / grain)))

    def compute(self, op: Op, team: int, groups: int, residency: int, level: int) -> float:
        """Seconds of a team in `groups` groups, with the weights at `residency` and the activations at `level`."""
        machine = self.machine.compute
        speed = team / (1 + machine.imbalance.value * math.log2(team) / 6)
        weights = self._stream(op.touched_bytes, team, groups, residency)
        memory = weights + self._stream(op.footprint_bytes, team, groups, level)
        return machine.busy_slowdown.value * max(self.work(op) / speed, memory)

    def _stream(self, size: float, team: int, groups: int, level: int) -> float:
        if level == DRAM:
            return size / self.machine.team_dram_bytes_per_s(team, groups)
        return size / (self.bandwidth[level] * team)

    def activation_level(self, op: Op, config: Config) -> int:
        """The nearest cache whose share holds what the op reads and writes."""
        share = config.cores / self.all_cores
        per_group = config.cores_per_group / self.machine.cores_per_group
        if op.footprint_bytes <= self.caches.group_bytes * per_group:
            return GROUP
        return PACKAGE if op.footprint_bytes <= self.caches.package_bytes * share else DRAM

    def fork_join(self, config: Config) -> float:
        """Seconds to start and join a team: as measured for its size, else base + factor · Σ line + jitter · T / 64,
        lines by distance."""
        overheads, links = self.machine.overheads, self.machine.links
        if config.cores == 1:
            return 0.0
        if overheads.fork_join_s:
            return _between({1: 0.0} | {t: s.value for t, s in overheads.fork_join_s.items()}, config.cores)
        inside = config.cores_per_group - 1
        near = (min(config.groups, self.groups_per_node) - 1) * config.cores_per_group
        far = config.cores - 1 - inside - near
        lines = 0.0
        for count, distance in ((inside, "group"), (near, "node"), (far, "package")):
            link = links.get(distance) or links.get("host") if count else None  # type: ignore[call-overload]
            lines += count * link.line_s.value if link else 0.0
        return (
            overheads.fork_join_base_s.value
            + overheads.fork_join_factor.value * lines
            + overheads.fork_join_jitter_s.value * config.cores / 64
        )


def _of_cache(cache: Cache | None, machine: Machine) -> float:
    """Bytes per second that one core draws from `cache`; where that is not known, what it draws from memory."""
    figure = cache.core_bandwidth_bytes_per_s if cache else None
    return figure.value if figure else machine.core_dram_bytes_per_s


def _between(known: dict[int, float], threads: int) -> float:
    """Seconds for `threads` between the nearest known ones in proportion, beyond the last one as between the last."""
    counts = sorted(known)
    upper = next((i for i, count in enumerate(counts) if count >= threads), len(counts) - 1)
    a, b = counts[upper - 1], counts[upper]
    return known[a] + (known[b] - known[a]) * (threads - a) / (b - a)
