"""What an exploration varies, and with which values: `strategy,stages`, `stages=1,2,4`, `topo=sg2042,sg2044`,
`topo.l2_bytes=1MiB,2MiB`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mapper.cost.configurations import configurations
from mapper.errors import UsageError
from mapper.jsonio import Record
from mapper.machine.changes import MARK, changed
from mapper.machine.cluster_file import AT, is_several
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.solver.placement.strategies import OPTIMAL, STRATEGIES, strategy_called

STRATEGY, STAGES, THREADS, REPLICAS, BATCH, TOPO = "strategy", "stages", "threads", "replicas", "batch", "topo"
NAMES = (STRATEGY, STAGES, THREADS, REPLICAS, BATCH, TOPO)
FIGURE = f"{TOPO}."
"""Begins the name of a dimension that is a figure of the machine."""
ANY = "any"
"""The value of stages, threads and replicas that leaves them to the planner."""
BATCHES = (1, 4, 16)
"""Elements of an item, where nobody says which."""

Number = int | None
"""Of stages, threads or replicas; None: as the planner likes."""


class Figures(Record):
    """A figure of the machine with its values, as typed."""

    name: str
    values: tuple[str, ...]


class Dimensions(Record):
    """The values of every dimension; one that does not vary has one."""

    topos: tuple[str, ...] = ("host",)
    figures: tuple[Figures, ...] = ()
    batches: tuple[int, ...] = (1,)
    strategies: tuple[str, ...] = (OPTIMAL,)
    stages: tuple[Number, ...] = (None,)
    threads: tuple[Number, ...] = (None,)
    replicas: tuple[Number, ...] = (None,)

    @property
    def points(self) -> int:
        """How many points there are."""
        values = (self.batches, self.strategies, self.stages, self.threads, self.replicas)
        return self.machine_count * math.prod(map(len, values))

    @property
    def machine_count(self) -> int:
        """How many machines there are, with and without other figures."""
        return len(self.topos) * math.prod(len(figure.values) for figure in self.figures)

    def machines(self) -> tuple[Variant, ...]:
        """Every machine, loaded. Raises: what `load_machine` and `changed` raise."""
        return tuple(_variants(self.topos, self.figures))


@dataclass(frozen=True)
class Variant:
    """A machine of an exploration: how it is named on the command line, and the figures that were changed, as typed."""

    topo: str
    figures: tuple[tuple[str, str], ...]
    machine: Machine

    @property
    def spec(self) -> str:
        """What `--topo` takes."""
        return self.topo + "".join(f"{MARK}{name}={''.join(value.split())}" for name, value in self.figures)


def _variants(topos: Sequence[str], figures: Sequence[Figures]) -> Iterator[Variant]:
    for topo in topos:
        machine = load_machine(topo)
        for values in itertools.product(*(figure.values for figure in figures)):
            pairs = tuple(zip((figure.name for figure in figures), values, strict=True))
            text = MARK.join(f"{name}={value}" for name, value in pairs)
            yield Variant(topo, pairs, changed(machine, text) if text else machine)


def dimensions(vary: Sequence[str], topo: str | None = None, batch: int = 1, link: str | None = None) -> Dimensions:
    """The dimensions that the texts of `--vary` name; those without values take what the machines suggest.

    `topo` and `batch` are those where they do not vary; `link` is the network of machines that are several hosts.
    Raises: UsageError; what `load_machine` raises.
    """
    given = _given(vary)
    if TOPO in given and not given[TOPO]:
        raise UsageError(f"--vary {TOPO} needs the machines: --vary {TOPO}=sg2042,sg2044")
    if TOPO in given and topo is not None:
        raise UsageError(f"--topo {topo} and --vary {TOPO}=... both name machines", advice=f"Add {topo} to the list.")
    if BATCH in given and batch != 1:
        raise UsageError(f"--batch {batch} and --vary {BATCH} both say how large items are",
                         advice=f"--vary {BATCH}={batch},... alone.")  # fmt: skip
    bare = [name for name, values in given.items() if name.startswith(FIGURE) and not values]
    if bare:
        raise UsageError(f"--vary {bare[0]} needs its values, such as --vary {FIGURE}l2_bytes=1MiB,2MiB")
    figures = [Figures(name=n.removeprefix(FIGURE), values=v) for n, v in given.items() if n.startswith(FIGURE)]
    topos = given.get(TOPO) or (topo or "host",)
    topos = topos if link is None else _linked(topos, link)
    found = Dimensions(topos=topos, figures=tuple(figures), batches=(batch,))
    machines = [variant.machine for variant in found.machines()]
    usual = _usual(machines)
    chosen: dict[str, tuple[str, ...]] = {name: values or usual[name] for name, values in given.items()
                                          if name != TOPO and not name.startswith(FIGURE)}  # fmt: skip
    return _filled(found, chosen)


def _linked(topos: Sequence[str], link: str) -> tuple[str, ...]:
    """`topos`, those of several hosts with `link` between them. Raises: UsageError where all are one host."""
    several = [is_several(topo) or load_machine(topo).counts["hosts"] > 1 for topo in topos]
    if not any(several):
        raise UsageError(f"--link {link}: no machine of {', '.join(topos)} is several hosts")
    return tuple(f"{topo}{AT}{link}" if each else topo for topo, each in zip(topos, several, strict=True))


def _given(vary: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The values of each dimension by its name; none where only the name was given."""
    found: dict[str, tuple[str, ...]] = {}
    for text in vary:
        name, equals, values = text.partition("=")
        names = [name.strip()] if equals else [part.strip() for part in text.split(",")]
        for each in names:
            if each not in NAMES and not (each.startswith(FIGURE) and len(each) > len(FIGURE)):
                known = f"One of {', '.join(NAMES)}, or {FIGURE}FIGURE such as {FIGURE}l2_bytes."
                raise UsageError(f"there is nothing called {each!r} to vary", advice=known)
            if each in found:
                raise UsageError(f"--vary {each} is given twice")
            found[each] = tuple(dict.fromkeys(part.strip() for part in values.split(","))) if equals else ()
            if equals and not all(found[each]):
                raise UsageError(f"--vary {text}: values with commas between them were expected")
    return found


def _filled(found: Dimensions, chosen: dict[str, tuple[str, ...]]) -> Dimensions:
    """`found` with the values that were chosen."""
    for name in chosen.get(STRATEGY, ()):
        strategy_called(name)
    batches = _numbers(BATCH, chosen.get(BATCH, ()))
    if None in batches:
        raise UsageError(f"--vary {BATCH}={ANY}: numbers from 1 were expected")
    return found.model_copy(
        update={
            "batches": batches or found.batches,
            "strategies": chosen.get(STRATEGY) or found.strategies,
            "stages": _numbers(STAGES, chosen.get(STAGES, ())) or found.stages,
            "threads": _numbers(THREADS, chosen.get(THREADS, ())) or found.threads,
            "replicas": _numbers(REPLICAS, chosen.get(REPLICAS, ())) or found.replicas,
        }
    )


def _numbers(name: str, values: Sequence[str]) -> tuple[Number, ...]:
    for value in values:
        if value != ANY and not (value.isdecimal() and int(value) > 0):
            raise UsageError(f"--vary {name}={value}: numbers from 1 were expected, or {ANY}")
    return tuple(dict.fromkeys(None if value == ANY else int(value) for value in values))


def _usual(machines: Sequence[Machine]) -> dict[str, tuple[str, ...]]:
    """Values that make sense on `machines`: stages and copies by powers of two, teams that they know."""
    most = max(machine.counts["cores"] for machine in machines)
    powers = [str(2**k) for k in range(most.bit_length())]
    teams = sorted({cores for machine in machines for cores in _teams(machine)})
    meshes = any(machine.layout is not None for machine in machines)
    return {
        STRATEGY: tuple(name for name in STRATEGIES if meshes or name != "mesh-neighbour"),
        STAGES: tuple(powers),
        THREADS: tuple(map(str, teams)),
        REPLICAS: tuple(powers),
        BATCH: tuple(map(str, BATCHES)),
    }


def _teams(machine: Machine) -> list[int]:
    """Threads of a replica: the parts of a group, 1, 2, 4, … groups, and all of them."""
    configs, size = configurations(machine), machine.cores_per_group
    groups = [config.groups for config in configs if config.cores_per_group == size]
    return [
        config.cores
        for config in configs
        if config.cores_per_group < size or config.groups in (2 ** (config.groups.bit_length() - 1), max(groups))
    ]
