"""What the model asks: the least period, in grains."""

from __future__ import annotations

from typing import Any

from mapper.solver.cpsat.constraints import Constraints


class Objective:
    """The period of a model as a number of grains; a grain is some units, as few as the precision asks for."""

    def __init__(self, model: Any, constraints: Constraints, grain: int) -> None:
        self.model, self.constraints, self.grain = model, constraints, grain

    def minimise(self, least: int, most: int) -> None:
        """min q with load(s) ≤ grain · q for every stage that counts, and least ≤ q ≤ most."""
        period = self.model.new_int_var(least, most, "period")
        self.constraints.limit_loads(self.grain * period)
        self.model.minimize(period)
