"""From a profile to a cost table: the model's table, changed as little as the measurements allow.

The seconds of op v on configuration c at residency ρ are t = t₀ · exp(z), t₀ as the roofline has it. A measurement of
a set S is y with

    log y = log Σ_{v∈S} t₀(v) exp(z(v)) + bias(source, c) + noise

and z is a sum of normal terms of mean 0: one for all ops, one a configuration, a sort of op, a class of equal ops, an
op, and the crossings of these with configurations and residencies. So a measured op tells something of its like, and
a measured configuration of the others, each as far as they go together; what nothing was measured of keeps the
model's ratio to what was. The bias is what a stage differs from the sum of its ops timed one by one (dispatch that
overlaps, timers, caches), or from a segment that ran outside a stream; it is fitted, and taken out.

The most probable z is found by Gauss-Newton steps, each the regression of a normal process (Rasmussen and Williams,
Gaussian Processes for Machine Learning, 2006, equation 2.25; Tarantola, Inverse Problem Theory, 2005, section 3.4).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mapper.cost.configurations import Config
from mapper.cost.forms import form
from mapper.cost.profile import PROFILE, MeasuredOps, Profile, Source, require_same_graph
from mapper.cost.residency import DRAM, GROUP, PACKAGE
from mapper.cost.table import Array, CostTable
from mapper.cost.transfer import RING_SLOTS
from mapper.graph.model import Graph, touched_by
from mapper.machine.model import Machine

Index = NDArray[np.int64]
DEVIATIONS = {
    "all": 0.5, "configuration": 0.3, "residency": 0.1, "sort": 0.3, "sort, configuration": 0.15, "class": 0.2,
    "class, configuration": 0.1, "op": 0.1, "op, configuration": 0.05, "op, configuration, residency": 0.05,
}  # fmt: skip
"""Standard deviation of each term of z: how far the model is usually off in this respect (docs/costs.md has what its
errors are). Only their proportions matter where much is measured."""
BIASES: Mapping[Source, float] = {"op": 0.2, "segment": 0.03, "stage": 0.0}
"""Standard deviation of the bias of each source, one a configuration; a stage at work is what counts."""
FLOORS: Mapping[Source, float] = {"op": 0.05, "segment": 0.015, "stage": 0.01}
"""Least relative error of one measurement, whatever its rounds agree on."""
NOISY = 0.1
"""Error that is added to that of a noisy one."""
MOST_STEPS, ENOUGH = 60, 1e-13
DIGITS = 10
"""Significant digits of the seconds: what is beyond them depends on how the processor sums."""


@dataclass(frozen=True)
class Fit:
    """What came of the measurements: the costs; `bias` by source and configuration as a factor on the sum of op times;
    for each used measurement its seconds as the costs have them; and how many were left out, of configurations that
    the machine does not have."""

    table: CostTable
    bias: Mapping[tuple[Source, str], float]
    fitted_s: tuple[tuple[MeasuredOps, float], ...]
    left_out: int

    @property
    def error(self) -> float:
        """The median relative error of what was measured as a segment or a stage."""
        errors = [abs(s / m.median_s - 1) for m, s in self.fitted_s if m.source != "op"]
        return float(np.median(errors)) if errors else 0.0


def profiled(profile: Profile, graph: Graph, machine: Machine, base: CostTable, source: str = "profile") -> Fit:
    """The costs of `graph` on `machine` that follow from `profile` (of this machine) and the model's table `base`.

    Raises: BadInput where the profile is of another graph.
    """
    require_same_graph(profile, graph.sha256, [op.name for op in graph.ops], source)
    rows = _rows(profile, graph, machine, base)
    z, biases = _most_probable(rows, _terms(graph, base), base.seconds)
    seconds = _rounded(base.seconds * np.exp(z))
    _make_monotone(seconds, {row.column for row in rows if row.residency != GROUP})
    spread = None
    if base.spread_s is not None:
        whole = base.spread_s + base.dispatch_s[:, None] + base.fork_join_s
        spread = np.maximum(_rounded(whole * np.exp(z[:, :, DRAM])), seconds[:, :, DRAM])
    table = CostTable(
        base.configs, base.caches, seconds, np.zeros_like(base.dispatch_s), np.zeros_like(base.fork_join_s),
        base.dram_bytes, PROFILE, comm_s=base.comm_s, spread_s=spread,
        options={**base.options, "profile_sha256": profile.sha256, "backend": profile.backend},
    )  # fmt: skip
    fitted = tuple((r.measured, float(seconds[r.ops, r.column, r.residency].sum())) for r in rows)
    return Fit(table, biases, fitted, len(profile.measurements) - len(rows))


def _make_monotone(seconds: Array, far: Collection[int]) -> None:
    """Sees to it that no op is slower where its weights are nearer, as bounds take for granted. The configurations
    `far` were measured with weights outside the group's cache: there the nearer figure gives way, else the farther."""
    for column in range(seconds.shape[1]):
        of = seconds[:, column]
        of[:, PACKAGE] = np.minimum(of[:, PACKAGE], of[:, DRAM])
        if column in far:
            of[:, GROUP] = np.minimum(of[:, GROUP], of[:, PACKAGE])
        else:
            of[:, PACKAGE:] = np.maximum(of[:, PACKAGE:], of[:, [GROUP]])


@dataclass(frozen=True)
class _Row:
    """A measurement as the fit takes it: ops by position, configuration and residency by index."""

    measured: MeasuredOps
    ops: Index
    column: int
    residency: int

    @property
    def error(self) -> float:
        """The standard deviation of its logarithm: that of a median between these quartiles (1.25 · 0.74 · range / √n,
        as if normal), and what is to be allowed for anyway."""
        m = self.measured
        spread = 0.93 * (m.high_s - m.low_s) / m.median_s / math.sqrt(m.rounds)
        return math.hypot(FLOORS[m.source], spread, NOISY if m.noisy else 0.0)


def _rows(profile: Profile, graph: Graph, machine: Machine, base: CostTable) -> list[_Row]:
    """The measurements that can be used, in an order that does not depend on theirs."""
    columns = {config.name: i for i, config in enumerate(base.configs)}
    found = []
    for m in profile.measurements:
        if m.configuration in columns:
            ops = np.array(sorted(graph.position[name] for name in profile.names(m)), dtype=np.int64)
            config = base.configs[columns[m.configuration]]
            rho = residency_of(graph, machine, base, ops.tolist(), config, hot=m.residency != "cold")
            found.append(_Row(m, ops, columns[m.configuration], rho))
    key = {id(r): (r.column, r.measured.source, r.measured.residency, r.ops.tolist(), r.measured.median_s)
           for r in found}  # fmt: skip
    return sorted(found, key=lambda r: key[id(r)])


def residency_of(
    graph: Graph, machine: Machine, table: CostTable, ops: Sequence[int], config: Config, *, hot: bool = True
) -> int:
    """Where a stage of `ops` finds its weights (problem.md): with `hot`, in the group's cache where its share holds
    them, and else where the model's weights are."""
    caches, size = table.caches, machine.cores_per_group
    mine = [graph.ops[v] for v in ops]
    if hot:
        inside = {op.name for op in mine}
        entering = sum(t.bytes for t in graph.tensors if t.producer not in inside and inside & set(t.readers))
        touched = touched_by(mine)
        private = max(op.footprint_bytes for op in mine) + RING_SLOTS * entering
        of = (config.cores, size) if config.cores < size else (1, 1)
        if caches.fits_share(touched, private, *of):
            return GROUP
    return PACKAGE if caches.holds_model(touched_by(graph.ops)) else DRAM


def _terms(graph: Graph, base: CostTable) -> list[tuple[float, Index]]:
    """The terms of z: variance, and for each op, configuration and residency the number of its variable."""
    ops, columns, levels = base.seconds.shape
    shown = [form(op, graph.program) for op in graph.ops]
    sorts = _numbered(f.sort for f in shown)
    classes = _numbered(
        (f, op.flop, op.touched_bytes, op.footprint_bytes) for f, op in zip(shown, graph.ops, strict=True)
    )
    v, c, rho = np.ogrid[:ops, :columns, :levels]
    near = np.minimum(rho, PACKAGE)  # a model has its weights in the package's cache or in memory, never both
    one = np.zeros((ops, columns, levels), dtype=np.int64)
    number = {
        "all": one, "configuration": one + c, "residency": one + near, "sort": one + sorts[:, None, None],
        "sort, configuration": one + sorts[:, None, None] * columns + c, "class": one + classes[:, None, None],
        "class, configuration": one + classes[:, None, None] * columns + c, "op": one + v,
        "op, configuration": one + v * columns + c,
        "op, configuration, residency": one + (v * columns + c) * 2 + near,
    }  # fmt: skip
    return [(DEVIATIONS[name] ** 2, index) for name, index in number.items()]


def _numbered(keys: Iterable[object]) -> Index:
    """A number for each key, the same for equal ones."""
    known: dict[object, int] = {}
    return np.array([known.setdefault(key, len(known)) for key in keys], dtype=np.int64)


def _most_probable(
    rows: Sequence[_Row], terms: Sequence[tuple[float, Index]], base: Array
) -> tuple[Array, dict[tuple[Source, str], float]]:
    """The most probable z, and the biases as factors."""
    z = np.zeros(base.shape)
    if not rows:
        return z, {}
    logs = np.log([r.measured.median_s for r in rows])
    noise = np.diag([r.error**2 for r in rows])
    of_bias = {(r.measured.source, r.measured.configuration): BIASES[r.measured.source] ** 2 for r in rows}
    belongs = np.array([[float((r.measured.source, r.measured.configuration) == b) for b in of_bias] for r in rows])
    variances = np.array(list(of_bias.values()))
    bias = np.zeros(len(variances))
    used = [_used(rows, index) for _, index in terms]
    for _ in range(MOST_STEPS):
        parts = [base[r.ops, r.column, r.residency] * np.exp(z[r.ops, r.column, r.residency]) for r in rows]
        sums = np.array([part.sum() for part in parts])
        at_z = np.array([(p @ z[r.ops, r.column, r.residency]) / s for r, p, s in zip(rows, parts, sums, strict=True)])
        jacobians = [_jacobian(parts, sums, numbers, len(ids)) for ids, numbers in used]
        gram = noise + (belongs * variances) @ belongs.T
        for (variance, _), jacobian in zip(terms, jacobians, strict=True):
            gram += variance * jacobian @ jacobian.T
        weights = np.linalg.solve(gram, logs - np.log(sums) + at_z)
        before, z, bias = z, np.zeros(base.shape), variances * (weights @ belongs)
        for (variance, index), (ids, _), jacobian in zip(terms, used, jacobians, strict=True):
            values = np.zeros(int(index.max()) + 1)
            values[ids] = variance * (weights @ jacobian)
            z += values[index]
        if np.abs(z - before).max() < ENOUGH:
            break
    return z, {name: math.exp(value) for name, value in zip(of_bias, bias, strict=True)}


def _used(rows: Sequence[_Row], index: Index) -> tuple[Index, list[Index]]:
    """The variables of a term that measurements know of, and those of each measurement by their place among these."""
    each = [index[row.ops, row.column, row.residency] for row in rows]
    ids = np.unique(np.concatenate(each))
    return ids, [np.searchsorted(ids, one) for one in each]


def _jacobian(parts: Sequence[Array], sums: Array, numbers: Sequence[Index], count: int) -> Array:
    """(measurements, variables): how the logarithm of each sum rises with each variable of a term."""
    rows = [np.bincount(n, part / total, count) for part, total, n in zip(parts, sums, numbers, strict=True)]
    return np.array(rows)


def _rounded(values: Array) -> Array:
    """`values` to ten significant digits."""
    out = np.zeros_like(values)
    some = values > 0
    power = 10.0 ** (DIGITS - 1 - np.floor(np.log10(values[some])))
    out[some] = np.round(values[some] * power) / power
    return out
