"""What a worker process is started with. Imports no torch: it is read before the process is bound to its PUs."""

from __future__ import annotations

from mapper.jsonio import Record


class Post(Record):
    """Where a worker stands: whose child it is, its PUs, and the inherited descriptors.

    `job` is a file with what it computes, `weights` a safetensors file, `memory` what the run shares, `control` is
    held open by the parent as long as it lives, and `status` takes what the worker reports.
    """

    parent: int
    pus: tuple[int, ...]
    job: int
    memory: int
    weights: int
    control: int
    status: int
