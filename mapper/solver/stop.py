"""When a search ends before it is done: at its time limit, or because the user wants it to."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Stop:
    """`reached` from `limit_s` seconds after its making on, or from when `now` was called."""

    limit_s: float | None = None
    clock: Callable[[], float] = time.monotonic
    interrupted: bool = False
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.clock()

    @property
    def reached(self) -> bool:
        """Whether the search is to end with what it has."""
        return self.interrupted or (self.limit_s is not None and self.clock() - self.began >= self.limit_s)

    @property
    def left_s(self) -> float | None:
        """Seconds that are left, None where there is no limit."""
        return None if self.limit_s is None else max(0.0, self.limit_s - (self.clock() - self.began))

    def now(self) -> None:
        """Ends the search: the user interrupted it."""
        self.interrupted = True
