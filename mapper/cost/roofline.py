"""Analytic costs: the roofline of problem.md along an execution path, with every parameter from the machine file.

    t(v, c, ρ) = dispatch(v)
               + forks(v, c) · fork_join(c)
               + busy · max( work(v) / speed(team), bytes(v, ρ) / bandwidth(team) )
               + panels(v) · panel_factor · Σ line(c) + pages(v) · page_fault / at once

The last line is for machines that state it: OpenBLAS lets a team that computes a product tell each other about every
panel of 256 of the inner dimension (driver/level3/level3_thread.c), and malloc gives tensors of over 32 MiB back to the
kernel (DEFAULT_MMAP_THRESHOLD_MAX in glibc's malloc.c), so that each op that makes one touches fresh pages.

`team` and `forks` are the path's (`mapper.cost.paths`). Where the machine has a measured rate for a sort of op, it says
dispatch, work and speed; else dispatch is nodes(v) · dispatch_s, work comes from the peak and an efficiency (products)
or from seconds an element (the rest), and speed is team / (1 + imbalance · log2(team) / 6) cores.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from mapper.cost.configurations import Config, configurations
from mapper.cost.forms import Form, forms
from mapper.cost.paths import DISPATCH_A_TURN, Course, course, path_of, rule_of
from mapper.cost.residency import DRAM, GROUP, PACKAGE, caches_of
from mapper.cost.table import CostTable
from mapper.errors import BadInput
from mapper.graph.model import Graph, Op
from mapper.machine.figures import Figure
from mapper.machine.hosts import largest_host
from mapper.machine.model import Machine
from mapper.machine.parts import Cache, Path, Rate

_BY_FLOP = ("matmul", "conv", "attention")
PANEL, FRESH_BYTES, PAGE_BYTES = 256, 32 * 2**20, 4096


@dataclass(frozen=True)
class Terms:
    """What the cost of one op with one configuration is made of, in seconds.

    `work_s` is the arithmetic of the team, `weights_s` reading the weights at each residency, `activations_s` reading
    and writing activations at `level`; the longer of work and memory counts, `busy` times. `turns_s` is the part of
    `dispatch_s` that a path's loop adds. `panels_s` is what a team's products add to it, `pages_s` fresh memory.
    """

    course: Course
    dispatch_s: float
    turns_s: float
    fork_join_s: float
    busy: float
    work_s: float
    weights_s: tuple[float, float, float]
    activations_s: float
    level: int
    rate: str | None
    panels_s: float = 0.0
    pages_s: float = 0.0

    def memory_s(self, residency: int) -> float:
        """Seconds that memory takes with the weights at `residency`."""
        return self.weights_s[residency] + self.activations_s

    def compute_s(self, residency: int) -> float:
        """Seconds of arithmetic and memory with the weights at `residency`: the table's `compute_s`."""
        return self.busy * max(self.work_s, self.memory_s(residency)) + self.panels_s + self.pages_s

    def total_s(self, residency: int) -> float:
        """t(v, c, ρ): the table's `seconds`."""
        return self.compute_s(residency) + self.dispatch_s + self.fork_join_s


def roofline(
    graph: Graph,
    machine: Machine,
    configs: tuple[Config, ...] | None = None,
    *,
    path: Path | None = None,
    alone: bool = False,
    shapes: Sequence[Form] | None = None,
) -> CostTable:
    """The cost table of `graph` on `machine` for `configs` (all of the machine's, where not given).

    `path` is the back end's way to execute ops (the machine's, where not given). `alone` says that one replica has
    the machine to itself: its caches whole, and cores that others do not slow down. `shapes` are the graph's `forms`,
    for who costs it many times.

    Raises: BadInput when the machine file lacks a figure for an op kind of the graph.
    """
    configs = configs or configurations(machine)
    path = path or path_of(machine)
    model = Roofline(machine, path, alone=alone)
    shape = (len(graph.ops), len(configs))
    compute, fork_join, dram = np.zeros((*shape, 3)), np.zeros(shape), np.zeros(shape)
    dispatch, spread = np.zeros(len(graph.ops)), np.zeros(shape)
    like: dict[Hashable, int] = {}  # layers repeat
    for v, (op, shown) in enumerate(zip(graph.ops, shapes or forms(graph), strict=True)):
        u = like.setdefault(what_costs(op, shown), v)
        if u != v:
            for figures in (compute, fork_join, dram, dispatch, spread):
                figures[v] = figures[u]
            continue
        for c, config in enumerate(configs):
            terms = model.terms(op, shown, config)
            dispatch[v] = terms.dispatch_s
            fork_join[v, c] = terms.fork_join_s
            dram[v, c] = op.footprint_bytes if terms.level == DRAM else 0.0
            compute[v, c] = [terms.compute_s(rho) for rho in (GROUP, PACKAGE, DRAM)]
            far = terms.busy * (model.spread_s(op, config, terms) + terms.activations_s)
            spread[v, c] = max(terms.compute_s(DRAM), far + terms.panels_s + terms.pages_s)
    options = {"path": path}
    return CostTable(configs, caches_of(machine), compute, dispatch, fork_join, dram, "roofline", options=options,
                     spread_s=spread if len(model.machine.nodes) > 1 else None)  # fmt: skip


def what_costs(op: Op, shown: Form) -> Hashable:
    """All that an op's cost depends on: ops that are alike in it cost the same."""
    return shown, op.kind, op.flop, op.touched_bytes, op.read_bytes, op.write_bytes, op.nodes


class Roofline:
    """The formula with one machine's figures and one path."""

    def __init__(self, machine: Machine, path: Path, *, alone: bool = False) -> None:
        machine = largest_host(machine)  # a team lies in one host
        self.machine, self.path, self.alone = machine, path, alone
        self.caches = caches_of(machine)
        self.bandwidth = (
            _of_cache(machine.group_cache, machine),
            _of_cache(machine.package_cache, machine),
            machine.core_dram_bytes_per_s,
        )
        counts = machine.counts
        self.all_cores = counts["cores"]
        self.groups_per_node = max(1, counts["groups"] // counts["nodes"])
        self.grain = machine.overheads.grain_elements.value
        self.busy = 1.0 if alone else machine.compute.busy_slowdown.value
        self._starts: dict[Config, float] = {}

    def terms(self, op: Op, shown: Form, config: Config) -> Terms:
        """What `op` costs with `config`, term by term."""
        if config not in self._starts:
            self._starts[config] = self.fork_join(config)
        runs = course(rule_of(self.path, shown), shown, config.cores, self.grain)
        name = self.rate_of(shown)
        rate = self.machine.compute.rates[name] if name else None
        groups = min(config.groups, runs.team)
        level = self.activation_level(op, config)
        dispatch, turns = self._dispatch(op, runs, rate)
        weights = [
            self._stream(op.touched_bytes, runs.team, groups, rho, config.groups) for rho in (GROUP, PACKAGE, DRAM)
        ]
        if rate is not None and op.touched_bytes:
            weights[DRAM] = max(weights[DRAM], self._far(op.touched_bytes, runs.team, groups, config.groups, rate))
        return Terms(
            course=runs, dispatch_s=dispatch + turns, turns_s=turns, fork_join_s=runs.forks * self._starts[config],
            busy=self.busy, work_s=self.work(op, shown, rate) / self._speed(runs.team, rate),
            weights_s=(weights[0], weights[1], weights[2]),
            activations_s=self._stream(op.footprint_bytes, runs.team, groups, level), level=level, rate=name,
            panels_s=self.panels(shown, runs, config), pages_s=self.pages(op, runs),
        )  # fmt: skip

    def panels(self, shown: Form, runs: Course, config: Config) -> float:
        """Seconds in which the members of a team wait for each other within products, where the machine states it."""
        factor = self.machine.overheads.panel_factor
        if factor is None or runs.team == 1 or shown.kind not in ("matmul", "conv"):
            return 0.0
        if runs.rule.over != "team" and not (runs.rule.alone == "team" and shown.images == 1):
            return 0.0
        return runs.turns * math.ceil(shown.inner / PANEL) * factor.value * self.lines(config)

    def pages(self, op: Op, runs: Course) -> float:
        """Seconds to touch the fresh pages of a large result, where the machine states it."""
        overheads = self.machine.overheads
        if overheads.page_fault_s is None or op.write_bytes <= FRESH_BYTES:
            return 0.0
        at_once = overheads.page_faults_at_once.value if overheads.page_faults_at_once else 1.0
        at_once = min(float(runs.team), at_once)
        return op.write_bytes / PAGE_BYTES * overheads.page_fault_s.value / at_once

    def spread_s(self, op: Op, config: Config, terms: Terms) -> float:
        """Seconds to read the weights from the DRAM of all nodes of the machine: as far away as they lie on average."""
        team, groups = terms.course.team, min(config.groups, terms.course.team)
        all_groups = self.machine.counts["groups"]
        seconds = self._stream(op.touched_bytes, team, groups, DRAM, all_groups)
        if terms.rate is not None and op.touched_bytes:
            rate = self.machine.compute.rates[terms.rate]
            seconds = max(seconds, self._far(op.touched_bytes, team, groups, all_groups, rate))
        return seconds

    def rate_of(self, shown: Form) -> str | None:
        """The name of the measured rate that counts for an op: that of its sort, else of its kind."""
        return next((name for name in (shown.sort, shown.kind) if name in self.machine.compute.rates), None)

    def _dispatch(self, op: Op, runs: Course, rate: Rate | None) -> tuple[float, float]:
        """Seconds of dispatch: of the op with the free ops that run for it, and of the further turns of a loop."""
        each = self.machine.overheads.dispatch_s.value
        turns = (runs.turns - 1) * DISPATCH_A_TURN * each
        if rate is None:
            return op.nodes * each, turns
        view = self.machine.compute.rates.get("none")
        return rate.start_s.value + (op.nodes - 1) * (view.start_s.value if view else each), turns

    def work(self, op: Op, shown: Form, rate: Rate | None) -> float:
        """Seconds on one core (of the slowest kind), dispatch and memory aside."""
        compute, slowest = self.machine.compute, self.machine.slowest
        if op.kind == "none":
            return 0.0
        if rate is not None:
            return (shown.units * rate.unit_s.value + op.touched_bytes * rate.weight_byte_s.value) / slowest
        if op.kind in _BY_FLOP:
            peak = compute.peak_flop_per_s.value * slowest
            return op.flop / (peak * self._figure(compute.efficiency, "efficiency", shown, op))
        return shown.units * self._figure(compute.seconds_per_element, "seconds_per_element", shown, op) / slowest

    def _figure(self, figures: dict[str, Figure], table: str, shown: Form, op: Op) -> float:
        for name in (shown.sort, op.kind):
            if name in figures:
                return figures[name].value
        raise BadInput(
            self.machine.name,
            f"no figure for ops of kind {op.kind!r}, such as {op.name}",
            place=f"/compute/{table}",
        )

    def _speed(self, team: int, rate: Rate | None) -> float:
        """How many times faster a team is than one core: as measured, else by the machine's imbalance."""
        if rate is not None and rate.speedup:
            return between({1: 1.0} | {t: s.value for t, s in rate.speedup.items()}, team)
        return team / (1 + self.machine.compute.imbalance.value * math.log2(team) / 6)

    def _far(self, size: float, team: int, groups: int, spread: int, rate: Rate) -> float:
        """Seconds for weights in DRAM at the rate that was measured for the op on one core, more cores in proportion to
        what they draw."""
        gain = self.machine.team_dram_bytes_per_s(team, groups, spread=spread) / self.machine.core_dram_bytes_per_s
        return size * rate.dram_byte_s.value / gain

    def _stream(self, size: float, team: int, groups: int, level: int, spread: int = 1) -> float:
        """Seconds for a team to read `size` bytes at `level`; in DRAM from pages on all nodes of `spread` groups."""
        if level == DRAM:
            return size / self.machine.team_dram_bytes_per_s(team, groups, spread=spread)
        return size / (self.bandwidth[level] * team)

    def activation_level(self, op: Op, config: Config) -> int:
        """The nearest cache whose share holds what the op reads and writes."""
        share = 1.0 if self.alone else config.cores / self.all_cores
        per_group = 1.0 if self.alone else config.cores_per_group / self.machine.cores_per_group
        if op.footprint_bytes <= self.caches.group_bytes * per_group:
            return GROUP
        return PACKAGE if op.footprint_bytes <= self.caches.package_bytes * share else DRAM

    def fork_join(self, config: Config) -> float:
        """Seconds to start and join a team: as measured for its size, else base + factor · Σ line + jitter · T / 64,
        lines by distance."""
        overheads = self.machine.overheads
        if config.cores == 1:
            return 0.0
        if overheads.fork_join_s:
            return between({1: 0.0} | {t: s.value for t, s in overheads.fork_join_s.items()}, config.cores)
        return (
            overheads.fork_join_base_s.value
            + overheads.fork_join_factor.value * self.lines(config)
            + overheads.fork_join_jitter_s.value * config.cores / 64
        )

    def lines(self, config: Config) -> float:
        """Σ line: seconds for a cache line from the first member to each of the others."""
        links = self.machine.links
        inside = config.cores_per_group - 1
        near = (min(config.groups, self.groups_per_node) - 1) * config.cores_per_group
        far = config.cores - 1 - inside - near
        lines = 0.0
        for count, distance in ((inside, "group"), (near, "node"), (far, "package")):
            link = links.get(distance) or links.get("host") if count else None  # type: ignore[call-overload]
            lines += count * link.line_s.value if link else 0.0
        return lines


def _of_cache(cache: Cache | None, machine: Machine) -> float:
    """Bytes per second that one core draws from `cache`; where that is not known, what it draws from memory."""
    figure = cache.core_bandwidth_bytes_per_s if cache else None
    return figure.value if figure else machine.core_dram_bytes_per_s


def between(known: dict[int, float], threads: int) -> float:
    """The value for `threads` between the nearest known ones in proportion, beyond the last one as between the last
    two; never below the least known one, so that a measured slow-down cannot grow to nothing."""
    counts = sorted(known)
    upper = next((i for i, count in enumerate(counts) if count >= threads), len(counts) - 1)
    if upper == 0:
        return known[counts[0]]
    a, b = counts[upper - 1], counts[upper]
    return max(min(known.values()), known[a] + (known[b] - known[a]) * (threads - a) / (b - a))
