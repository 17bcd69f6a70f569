"""The booleans of the model: how far each op is, and which arcs cross."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mapper.solver.cpsat.linear import Linear
from mapper.solver.cpsat.shrink import Windows

Term = tuple[Any, int]
"""A boolean and its coefficient."""


@dataclass
class Expression:
    """Σ coefficient · boolean + constant."""

    constant: int = 0
    terms: list[Term] = field(default_factory=list)

    def add(self, other: Expression, factor: int = 1) -> None:
        """Adds `factor` times the other."""
        self.constant += factor * other.constant
        self.terms += [(boolean, factor * coefficient) for boolean, coefficient in other.terms]

    def linear(self) -> Any:
        """As CP-SAT takes it."""
        from ortools.sat.python import cp_model

        return cp_model.LinearExpr.weighted_sum([t[0] for t in self.terms], [t[1] for t in self.terms]) + self.constant


class Variables:
    """Op v is in stage s or an earlier one, `reached[v][s]`; arc a `enters` or `leaves` stage s.

    Outside an op's window `reached` is a constant. An arc has a boolean only for stages that it may cross the border
    of, and of those only for the ones in `counted`, whose loads are asked for.
    """

    def __init__(self, model: Any, linear: Linear, windows: Windows, counted: range) -> None:
        self.linear, self.windows, self.counted = linear, windows, counted
        self.reached = [self._row(model, v) for v in range(linear.ops)]
        self.enters: dict[tuple[int, int], Any] = {}
        self.leaves: dict[tuple[int, int], Any] = {}
        for a, arc in enumerate(linear.arcs):
            if arc.price == 0:
                continue
            for s in sorted({s for reader in arc.readers for s in self.stages(reader)}):
                if s > windows.earliest[arc.producer] and s in counted:
                    self.enters[a, s] = model.new_bool_var(f"enters_{a}_{s}")
            for s in self.stages(arc.producer):
                if s < max(windows.latest[reader] for reader in arc.readers) and s in counted:
                    self.leaves[a, s] = model.new_bool_var(f"leaves_{a}_{s}")

    def _row(self, model: Any, v: int) -> list[Any]:
        first, last = self.windows.earliest[v], self.windows.latest[v]
        return [
            0 if s < first else 1 if s >= last else model.new_bool_var(f"reached_{v}_{s}")
            for s in range(self.linear.stages)
        ]

    def stages(self, v: int) -> range:
        """The stages that op v can be in."""
        return range(self.windows.earliest[v], self.windows.latest[v] + 1)

    def is_in(self, v: int, s: int) -> Expression:
        """Op v is in stage s: reached[v][s] - reached[v][s-1]."""
        out = Expression()
        for literal, sign in ((self.reached[v][s], 1), (self.reached[v][s - 1] if s else 0, -1)):
            if isinstance(literal, int):
                out.constant += sign * literal
            else:
                out.terms.append((literal, sign))
        return out

    def load(self, s: int, arcs_of: Sequence[int]) -> Expression:
        """Σ work of the ops in stage s + Σ price of what enters and leaves it. `arcs_of`: those that may."""
        out = Expression()
        for v, work in enumerate(self.linear.work):
            if work and s in self.stages(v):
                out.add(self.is_in(v, s), work)
        for a in arcs_of:
            price = self.linear.arcs[a].price
            out.terms += [(side[a, s], price) for side in (self.enters, self.leaves) if (a, s) in side]
        return out

    def chain(self, value_of: Any) -> tuple[int, ...]:
        """The chain that `value_of` (a solver's value of a boolean) describes."""
        stages = range(self.linear.stages)
        return tuple(
            next(s for s in stages if (row[s] if isinstance(row[s], int) else value_of(row[s]))) for row in self.reached
        )

    def hint(self, model: Any, chain: Sequence[int]) -> None:
        """Tells the solver where to begin."""
        for row, stage in zip(self.reached, chain, strict=True):
            for s, literal in enumerate(row):
                if not isinstance(literal, int):
                    model.add_hint(literal, stage <= s)
        for side, entering in ((self.enters, True), (self.leaves, False)):
            for (a, s), literal in side.items():
                arc = self.linear.arcs[a]
                home, away = chain[arc.producer], {chain[reader] for reader in arc.readers} - {chain[arc.producer]}
                model.add_hint(literal, s in away if entering else bool(away) and s == home)
