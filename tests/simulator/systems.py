"""Random systems and random plans to simulate."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache

from hypothesis import strategies as st

import mapper
from mapper.cost.configurations import Config, configurations
from mapper.cost.roofline import roofline
from mapper.graph.model import Graph, Op
from mapper.machine.model import Machine
from mapper.plans.evaluate import Placed, evaluate
from mapper.plans.model import Plan
from mapper.simulator.stations import CHIP, OUTSIDE, Station, System
from tests.planning.graphs import graphs, machines

AMPLE = 1e18


@st.composite
def systems(draw: st.DrawFn) -> System:
    """Up to four stages of up to three replicas, each reading from the feeder or from stages before it, in any shape;
    nobody limits bandwidth."""
    count = draw(st.integers(1, 4))
    stations, sources = [], []
    seconds = st.integers(0, 6).map(float)
    for s in range(count):
        step, slots = draw(st.integers(1, 3)), draw(st.integers(1, 3))
        stations.append(tuple(
            Station(s, r, step, draw(seconds), draw(seconds) + 1, draw(seconds), (), slots) for r in range(step)
        ))  # fmt: skip
        sources.append(tuple(sorted(draw(st.sets(st.integers(OUTSIDE, s - 1), max_size=3)))))
    returning = draw(st.sets(st.integers(0, count - 1), min_size=1))
    readers = [
        tuple(sorted([*([OUTSIDE] if s in returning else []), *(t for t in range(count) if s in sources[t])]))
        for s in range(count)
    ]
    ahead = draw(st.integers(0, 3)) if count == 1 else 0
    return System(tuple(stations), tuple(sources), tuple(readers), draw(st.integers(1, 8)), 1, {CHIP: AMPLE}, ahead)


@st.composite
def plans(draw: st.DrawFn, *, ample: bool) -> Plan:
    """A random mapping of a random graph on a random machine. `ample`: DRAM gives whatever anybody wants."""
    graph, machine = draw(graphs()), draw(machines())
    if ample:
        memory = machine.memory.model_copy(
            update={"package_bandwidth_bytes_per_s": None, "node_bandwidth_bytes_per_s": None}
        )
        machine = machine.model_copy(update={"memory": memory})
    table = roofline(graph, machine, configurations(machine))
    made = evaluate(graph, machine, table, draw(mappings([op.name for op in graph.ops], machine)))
    return made.in_plan(_any_plan(), machine=machine)


@cache
def _any_plan() -> Plan:
    """What a simulation does not look at."""
    op = Op(name="op", kind="none", flop=1, elements=1, read_bytes=1, write_bytes=1)
    boundary = {"ops": ("op",), "bytes": 1}
    graph = Graph.model_validate({
        "name": "any", "ops": (op,), "tensors": (), "inputs": [{"name": "x", **boundary}],
        "outputs": [{"name": "y", **boundary}],
    })  # fmt: skip
    return mapper.plan(graph, mapper.load_machine("core:1"))


@st.composite
def mappings(draw: st.DrawFn, names: list[str], machine: Machine) -> list[Placed]:
    """The ops in their order in up to three pieces, each on a configuration and replicas that find cores."""
    free = [list(group) for group in machine.groups]
    count = draw(st.integers(1, min(3, len(names), len(machine.cores))))
    cuts = (
        [0, *sorted(draw(st.sets(st.integers(1, len(names) - 1), min_size=count - 1, max_size=count - 1))), len(names)]
        if count > 1
        else [0, len(names)]
    )
    placed = []
    for left, (a, b) in zip(range(count - 1, -1, -1), itertools.pairwise(cuts), strict=True):
        known = [config for config in configurations(machine) if _rest(free, config) >= left]
        config = draw(st.sampled_from(known))
        replicas = [_take(free, config)]
        while _rest(free, config) >= left and draw(st.booleans()):
            replicas.append(_take(free, config))
        placed.append(Placed(tuple(names[a:b]), config, tuple(replicas), draw(st.booleans())))
    return placed


def _rest(free: list[list[int]], config: Config) -> int:
    """Cores left when one more replica has its own; -1 where it finds none."""
    room = sum(len(group) >= config.cores_per_group for group in free) >= config.groups
    return sum(map(len, free)) - config.cores if room else -1


def _take(free: list[list[int]], config: Config) -> tuple[int, ...]:
    groups = [group for group in free if len(group) >= config.cores_per_group][: config.groups]
    return tuple(group.pop(0) for group in groups for _ in range(config.cores_per_group))


def drawing(system: System, bytes_per_s: float, capacity: float) -> System:
    """`system`, all of whose stations draw on the same DRAM."""
    stations = tuple(tuple(replace(s, draws=((CHIP, bytes_per_s),)) for s in stage) for stage in system.stations)
    return replace(system, stations=stations, capacity={CHIP: capacity})
