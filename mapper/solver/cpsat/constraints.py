"""What makes the booleans a partition whose stages keep their loads; a method for each family."""

from __future__ import annotations

import itertools
from typing import Any

from mapper.solver.cpsat.variables import Expression, Variables


class Constraints:
    """Adds to a CP-SAT model what must hold of `Variables`."""

    def __init__(self, model: Any, variables: Variables) -> None:
        self.model, self.variables, self.linear = model, variables, variables.linear
        self.loads = self._loads()

    def _loads(self) -> list[Expression]:
        crossing: dict[int, list[int]] = {s: [] for s in self.variables.counted}
        for a, s in sorted({*self.variables.enters, *self.variables.leaves}):
            crossing[s].append(a)
        return [self.variables.load(s, arcs) for s, arcs in crossing.items()]

    def ascend(self) -> None:
        """reached[v][s] ⇒ reached[v][s+1]: an op that is there stays there."""
        for row in self.variables.reached:
            for before, after in itertools.pairwise(row):
                self._implies(before, after)

    def keep_order(self) -> None:
        """reached[v][s] ⇒ reached[u][s] for each arc from u to v: nothing flows backwards."""
        for u, v in self.linear.edges:
            for before, after in zip(self.variables.reached[v], self.variables.reached[u], strict=True):
                self._implies(before, after)

    def count_crossings(self) -> None:
        """leaves[a, s] ≥ in(u, s) - in(r, s) and enters[a, s] ≥ in(r, s) - in(u, s) for arc a from u and each reader r.

        A reader is never in an earlier stage than the producer, so one of them in s without the other is a crossing.
        """
        for side, sign in ((self.variables.leaves, 1), (self.variables.enters, -1)):
            for (a, s), crosses in side.items():
                arc = self.linear.arcs[a]
                for reader in arc.readers:
                    difference = self.variables.is_in(arc.producer, s)
                    difference.add(self.variables.is_in(reader, s), -1)
                    if sign < 0:
                        flipped = Expression()
                        flipped.add(difference, -1)
                        difference = flipped
                    if difference.terms or difference.constant > 0:
                        self.model.add(difference.linear() <= crosses)

    def fill_stages(self) -> None:
        """Σ_v in(v, s) ≥ 1 for every s, where an exact number of stages is asked for."""
        for s in range(self.linear.stages):
            inside = Expression()
            for v in range(self.linear.ops):
                inside.add(self.variables.is_in(v, s))
            self.model.add(inside.linear() >= 1)

    def limit_loads(self, period: Any) -> None:
        """load(s) ≤ period for every s that counts; `period` is an expression."""
        for load in self.loads:
            self.model.add(load.linear() <= period)

    def _implies(self, before: Any, after: Any) -> None:
        if isinstance(before, int):
            if before == 0:
                return
            self.model.add(after == 1) if not isinstance(after, int) else None
        elif isinstance(after, int):
            if after == 0:
                self.model.add(before == 0)
        else:
            self.model.add_implication(before, after)
