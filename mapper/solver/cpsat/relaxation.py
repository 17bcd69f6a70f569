"""Bounds by linear programs: partitions taken apart into fractions.

The program of a linear instance (`cpsat.linear`) below a period, with the windows of its ops (`cpsat.shrink`):

    min P   with  in(v, s) = reached[v, s] - reached[v, s-1],  reached ascending in s and descending along arcs,
                  crossings at least the differences of in(., s),  Σ work · in + Σ price · crossing ≤ P for each stage

The value that is used is not the solver's, but what its dual prices prove: for any prices μ ≥ 0 of rows a·x ≤ b, with
every x_j between 0 and u_j, the optimum is at least -Σ μ_i b_i + Σ_j min(0, c_j + Σ_i μ_i a_ij) u_j (weak duality). So
an inaccurate solver can make the bound weaker, never wrong; what is left is the rounding of that one sum.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

from mapper.solver.cpsat.linear import Linear
from mapper.solver.cpsat.shrink import Windows

ROUNDING = 1e-9
"""Taken off a bound, relative to the period, for the rounding of sums of some 10⁵ products."""

MOST_ROWS, MOST_ITERATIONS = 7000, 20_000
"""Rows up to which a program is solved, and iterations of the simplex method: a second or two, and limits that give the
same result on every machine."""


@dataclass
class Program:
    """min of column 0, the period (in units of the one asked about), with rows Σ coefficient · column ≤ limit.

    All columns are from 0 to 1, but for the period: from 0 to `most`.
    """

    most: float
    columns: int = 1
    rows: list[dict[int, float]] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)

    def column(self) -> int:
        """A further column."""
        self.columns += 1
        return self.columns - 1

    def row(self, coefficients: dict[int, float], limit: float) -> None:
        """Σ coefficient · column ≤ limit."""
        self.rows.append(coefficients)
        self.limits.append(limit)

    def solved(self) -> Solved | None:
        """What the solver finds, with the bound that its dual prices prove; None where it finds nothing."""
        from ortools.linear_solver import pywraplp

        solver = pywraplp.Solver.CreateSolver("GLOP")
        x = [solver.NumVar(0.0, self.most if j == 0 else 1.0, "") for j in range(self.columns)]
        rows = []
        for coefficients, limit in zip(self.rows, self.limits, strict=True):
            row = solver.Constraint(-solver.infinity(), limit)
            for j, value in coefficients.items():
                row.SetCoefficient(x[j], value)
            rows.append(row)
        solver.Minimize(x[0])
        solver.SetSolverSpecificParametersAsString(f"max_number_of_iterations: {MOST_ITERATIONS}")
        if solver.Solve() != pywraplp.Solver.OPTIMAL:
            return None
        bound, reduced = self.proved([max(0.0, -row.dual_value()) for row in rows])
        return Solved(bound, [column.solution_value() for column in x], reduced)

    def proved(self, prices: list[float]) -> tuple[float, list[float]]:
        """The bound by the prices of the rows, and what each column adds to it for each unit: its reduced cost."""
        reduced = [1.0] + [0.0] * (self.columns - 1)
        for price, coefficients in zip(prices, self.rows, strict=True):
            if price:
                for j, value in coefficients.items():
                    reduced[j] += price * value
        paid = math.fsum(price * limit for price, limit in zip(prices, self.limits, strict=True))
        slack = math.fsum(min(0.0, value) * (self.most if j == 0 else 1.0) for j, value in enumerate(reduced))
        return -paid + slack - ROUNDING, reduced


@dataclass(frozen=True)
class Solved:
    """A bound, and for each column its value and its reduced cost."""

    bound: float
    values: list[float]
    reduced: list[float]


Affine = tuple[dict[int, float], float]
"""Coefficients by column, and a constant."""


@dataclass(frozen=True)
class Relaxed:
    """`bound` in units: of all chains within the windows, none has its largest load below it. `windows`: what is left
    of them for chains that keep the period. `ideals`, as masks: the ops that the fractions have at some stage or before
    it, to some part or more."""

    bound: int
    windows: Windows
    ideals: tuple[int, ...]


def relaxed(linear: Linear, windows: Windows, period: int) -> Relaxed:
    """The linear program of `linear` below `period`, in which loads are relative to the period."""
    program = Program(most=float(linear.stages + 1))
    reached = [
        [0 if s < first else -1 if s >= last else program.column() for s in range(linear.stages)]
        for first, last in zip(windows.earliest, windows.latest, strict=True)
    ]  # a column, or 0 for never and -1 for always
    _ordered(program, linear, reached)
    loads: list[dict[int, float]] = [{0: -1.0} for _ in range(linear.stages)]
    fixed = [0.0] * linear.stages
    for v, work in enumerate(linear.work):
        for s in range(windows.earliest[v], windows.latest[v] + 1):
            terms, constant = _is_in(reached[v], s)
            fixed[s] += constant * work / period
            for j, value in terms.items():
                loads[s][j] = loads[s].get(j, 0.0) + value * work / period
    _crossings(program, linear, reached, loads, period)
    for row, constant in zip(loads, fixed, strict=True):
        program.row(row, -constant)
    solved = program.solved() if len(program.rows) <= MOST_ROWS else None
    if solved is None:
        return Relaxed(0, windows, ())
    narrow = _narrowed(linear, windows, reached, solved)
    return Relaxed(math.floor(solved.bound * period), narrow, _ideals(linear, reached, solved.values))


def _narrowed(linear: Linear, windows: Windows, reached: list[list[int]], solved: Solved) -> Windows:
    """Fixes by reduced cost: where `reached` the other way would take the bound to the period, it is as it is.

    A column at 1 adds its reduced cost to the bound if that is positive, one at 0 takes it off if it is negative.
    """
    early, late = list(windows.earliest), list(windows.latest)
    for v, row in enumerate(reached):
        for s, column in enumerate(row):
            if column > 0 and solved.bound + solved.reduced[column] >= 1:
                early[v] = max(early[v], s + 1)
            elif column > 0 and solved.bound - solved.reduced[column] >= 1:
                late[v] = min(late[v], s)
    for u, v in linear.edges:  # by ascending producer, all of whose own producers are settled
        early[v] = max(early[v], early[u])
    for u, v in reversed(linear.edges):
        late[u] = min(late[u], late[v])
    return Windows(tuple(early), tuple(late))


def _ideals(linear: Linear, reached: list[list[int]], values: list[float]) -> tuple[int, ...]:
    """Along an arc `reached` does not rise, so that the ops above any threshold are an ideal."""
    values = [*values, 1.0]
    values[0] = 0.0
    found: set[int] = set()
    for s in range(linear.stages - 1):
        part = {v: round(values[row[s]], 6) for v, row in enumerate(reached)}
        for u, v in linear.edges:  # what rounding has disturbed
            part[v] = min(part[v], part[u])
        mask, ordered = 0, sorted(part, key=lambda v: -part[v])
        for at, v in enumerate(ordered):
            if part[v] <= 0:
                break
            mask |= 1 << v
            if at + 1 == linear.ops or part[ordered[at + 1]] < part[v]:
                found.add(mask)
    return tuple(sorted(found))


def _ordered(program: Program, linear: Linear, reached: list[list[int]]) -> None:
    """Ascending in the stages, descending along the arcs. 0 and -1 hold by the windows."""
    for row in reached:
        for before, after in itertools.pairwise(row):
            if before > 0 and after > 0:
                program.row({before: 1.0, after: -1.0}, 0.0)
    for u, v in linear.edges:
        for before, after in zip(reached[v], reached[u], strict=True):
            if before > 0 and after > 0:
                program.row({before: 1.0, after: -1.0}, 0.0)


def _is_in(row: list[int], s: int) -> Affine:
    """in(v, s) for the row of op v."""
    terms: dict[int, float] = {}
    constant = 0.0
    for at, sign in ((row[s], 1.0), (row[s - 1] if s else 0, -1.0)):
        if at > 0:
            terms[at] = sign
        elif at < 0:
            constant += sign
    return terms, constant


def _crossings(
    program: Program, linear: Linear, reached: list[list[int]], loads: list[dict[int, float]], period: int
) -> None:
    """Columns for arcs that enter or leave a stage, priced in the rows of the loads."""
    for arc in linear.arcs:
        if arc.price == 0:
            continue
        for s in range(linear.stages):
            home = _is_in(reached[arc.producer], s)
            away = [_is_in(reached[reader], s) for reader in arc.readers]
            for sign in (1.0, -1.0):
                rows = [row for row in (_difference(home, reader, sign) for reader in away) if _can_exceed(row)]
                if not rows:
                    continue
                crossing = program.column()
                loads[s][crossing] = arc.price / period
                for terms, constant in rows:
                    program.row({**terms, crossing: -1.0}, -constant)


def _difference(a: Affine, b: Affine, sign: float) -> Affine:
    terms = {j: sign * value for j, value in a[0].items()}
    for j, value in b[0].items():
        terms[j] = terms.get(j, 0.0) - sign * value
    return terms, sign * (a[1] - b[1])


def _can_exceed(row: Affine) -> bool:
    """Whether the row can be above 0, so that it makes an arc cross."""
    return sum(max(0.0, value) for value in row[0].values()) + row[1] > 0
