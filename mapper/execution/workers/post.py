"""What a worker is started with."""

from __future__ import annotations

from typing import ClassVar

from mapper.jsonio import Record


class Post(Record):
    """Where a worker stands: its stage and replica, its PUs and how many threads it has, whose worker it is, and its
    descriptors.

    `job` is a file with what it computes, `weights` a safetensors file, `memory` what the run shares, `control` is
    held open by the parent as long as it lives, `status` takes what the worker reports, and `log` what it prints.
    """

    DESCRIPTORS: ClassVar = ("job", "memory", "weights", "control", "status", "log")

    stage: int
    replica: int
    pus: tuple[int, ...]
    threads: int
    parent: int
    job: int
    memory: int
    weights: int
    control: int
    status: int
    log: int

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Those of `DESCRIPTORS`, in that order."""
        return tuple(getattr(self, name) for name in self.DESCRIPTORS)
