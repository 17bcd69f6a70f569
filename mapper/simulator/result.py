"""What a simulation gives: the records of `mapper simulate --json`."""

from __future__ import annotations

from mapper.jsonio import Record
from mapper.plans.latency import Latency


class LinkUse(Record):
    """The part of the bandwidth of a host's network that is in use, in either direction."""

    host: int
    into: float
    out: float


class Utilisation(Record):
    """The part of the time in which each core, group and node is at work, by logical number; of a group or node, the
    mean of its cores. `controllers` is the part of its bandwidth that the DRAM of each node serves, empty where the
    machine states none; `dram` that of all packages together, null likewise; `links` that of the network of each host,
    empty for one host."""

    cores: tuple[float, ...]
    groups: tuple[float, ...]
    nodes: tuple[float, ...]
    controllers: tuple[float, ...]
    dram: float | None = None
    links: tuple[LinkUse, ...] = ()


class SimulatedStage(Record):
    """A stage at work: seconds a call, in the mean of its replicas. `load_s` is reading, computing and writing;
    `slowed` is how much longer computing took than with all bandwidth to itself. `busy` is the part of the time that
    its replicas were at work."""

    id: int
    replicas: int
    load_s: float
    predicted_load_s: float
    read_s: float
    compute_s: float
    write_s: float
    wait_in_s: float
    wait_out_s: float
    slowed: float
    busy: float


class Wait(Record):
    """A stage waited for another one (null: the feeder): for what it makes, or for it to free a slot. Seconds a call of
    the stage that waited."""

    stage: int
    whom: int | None = None
    wait_s: float


class Simulated(Record):
    """What a simulation of so many `items` gave after `warmup` of them. With `arrivals`, what came from outside;
    `spread` and `seed` are those of the jitter. Throughput and latency are of items."""

    model: str
    machine: str
    items: int
    warmup: int
    window: int
    arrivals: str
    spread: float
    seed: int
    throughput_per_s: float
    period_s: float
    predicted_period_s: float
    latency_s: Latency
    predicted_latency_s: float
    utilisation: Utilisation
    stages: tuple[SimulatedStage, ...]
    waits: tuple[Wait, ...]
