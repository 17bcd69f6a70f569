"""The cost table: seconds and bytes of each op for each configuration and residency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mapper.cost.configurations import Config
from mapper.cost.residency import Caches
from mapper.errors import BadInput

Array = NDArray[np.float64]
GIVEN = "given"
"""`source` of costs that came with the graph."""


@dataclass(frozen=True)
class CostTable:
    """Costs of one graph on one machine. Axes: op (graph order), configuration, residency.

    compute_s   (ops, configs, residencies)  arithmetic and memory access, at the full team
    dispatch_s  (ops,)                       the framework's own time
    fork_join_s (ops, configs)               starting and joining the team
    dram_bytes  (ops, configs)               activations that go to and come from DRAM, per item
    spread_s    (ops, configs)               as compute_s with weights in the DRAM of all nodes; None for one node
    comm_s      by name of the tensor        what handing it over costs each side on top of the machine's links
    options     what the table was made with, for the plan file
    """

    configs: tuple[Config, ...]
    caches: Caches
    compute_s: Array
    dispatch_s: Array
    fork_join_s: Array
    dram_bytes: Array
    source: str
    comm_s: Mapping[str, float] = field(default_factory=dict)
    spread_s: Array | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def seconds(self) -> Array:
        """t(v, c, ρ) of problem.md: (ops, configs, residencies)."""
        out: Array = self.compute_s + self.dispatch_s[:, None, None] + self.fork_join_s[:, :, None]
        return out

    def require_time(self, of: str) -> None:
        """Raises: BadInput when no op of the graph called `of` takes any time: any plan is as good as another."""
        if not self._takes_time:
            raise BadInput(of, "no op takes any time, so there is nothing to plan")

    @cached_property
    def _takes_time(self) -> bool:
        """Looked at once: every evaluation of a mapping asks."""
        return bool(self.seconds.any())

    def index(self, name: str) -> int:
        """The index of the configuration called `name`."""
        return [config.name for config in self.configs].index(name)
