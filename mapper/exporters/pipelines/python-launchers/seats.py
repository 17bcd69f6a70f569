"""Which process of torchrun is which worker. Needs nothing but Python's own library: torch is imported later."""

from __future__ import annotations

import os
from dataclasses import dataclass

from command import Description, Unfit, Worker


@dataclass(frozen=True)
class Seat:
    """Where a rank of torchrun sits: at stage `stage` of one of the pipelines that stand side by side."""

    pipeline: int
    stage: int
    worker: Worker


def seats_of(description: Description) -> list[Seat]:
    """The seat of each rank: hosts in the order of their numbers, as torchrun numbers the ranks of a host without a
    gap; on each, pipeline after pipeline."""
    found = [Seat(worker.replica, worker.stage, worker) for worker in description.workers]
    return sorted(found, key=lambda seat: (seat.worker.host, seat.pipeline, seat.stage))


def seat_here(description: Description) -> Seat:
    """The seat of this process. Raises: Unfit when torchrun was told other numbers than the plan has."""
    seats = seats_of(description)
    hosts = sorted({seat.worker.host for seat in seats})
    rank, size, node = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "GROUP_RANK"))
    if size != len(seats) or hosts[node] != seats[rank].worker.host:
        each = ", ".join(f"{sum(seat.worker.host == host for seat in seats)} on host {host}" for host in hosts)
        raise Unfit(f"the plan has {len(seats)} processes ({each}); this is one of {size}, on node {node}")
    return seats[rank]
