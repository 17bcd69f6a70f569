"""Small changes of a machine, to plan again with: a core, a group, a MiB of cache, a GB/s more, cheaper software.

Every change is a pure function from a machine to a new, valid one. Figures that it makes up say so in their source.
Each raises UsageError, with the reason, where the machine has nothing to change or would lose its regular shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from mapper import jsonio
from mapper.errors import UsageError
from mapper.machine.figures import Figure
from mapper.machine.model import Machine
from mapper.machine.parts import Cache, CoreKind
from mapper.machine.restrict import with_cores
from mapper.units import format_bytes

MIB, GB = 2**20, 1e9
PRODUCTS = ("matmul", "conv", "attention")
"""Kinds of op whose time is arithmetic at the core's peak; the others are priced by the element."""

Part = Literal["package", "node", "core"]
Software = Literal["handoff", "fork_join", "dispatch"]


@dataclass(frozen=True)
class Lever:
    """A change: a short name for files, what it is in words, and the machine that it gives.

    `lowers`: no plan costs more there than before. `on_nodes`: only where cores are decides what it brings."""

    name: str
    what: str
    change: Callable[[Machine], Machine]
    lowers: bool = False
    on_nodes: bool = False


def levers(machine: Machine, model_bytes: float) -> tuple[Lever, ...]:
    """The changes that are worth a look on `machine`, for a model that touches `model_bytes` of weights an item.

    A change that `machine` has no place for is listed too: it raises UsageError with the reason.
    """
    several = len(machine.nodes) > 1
    found = [
        Lever("cores+1", "one more core in each group", more_cores),
        Lever("cores-1", "one core less in each group", fewer_cores),
        Lever("groups+1", "one more group", lambda m: more_groups(m, each_node=False)),
        *([Lever("node_groups+1", "one more group in each node", lambda m: more_groups(m, each_node=True))] * several),
        Lever("groups-1", "one group less", fewer_groups),
        Lever("group_cache+1MiB", "1 MiB more cache in each group", lambda m: larger_cache(m, m.group_cache, MIB)),
        Lever("package_cache+1MiB", "1 MiB more cache in the package", lambda m: larger_cache(m, m.package_cache, MIB)),
        *_enough_cache(machine, model_bytes),
        Lever("package_dram+1GB/s", "1 GB/s more from package DRAM", lambda m: faster_memory(m, "package", GB), True),
        Lever("node_dram+1GB/s", "1 GB/s more from node DRAM", lambda m: faster_memory(m, "node", GB), True, True),
        Lever("core_dram+1GB/s", "1 GB/s more DRAM for each core", lambda m: faster_memory(m, "core", GB), True),
        Lever("peak+10%", "10 % more FLOP a second", lambda m: faster_products(m, 1.1), True),
        Lever("elements/2", "ops that are no products twice as fast", lambda m: faster_elements(m, 2.0), True),
        Lever("fork_join/2", "fork and join at half the cost", lambda m: cheaper(m, "fork_join", 2.0), True),
        Lever("dispatch/2", "dispatch at half the cost", lambda m: cheaper(m, "dispatch", 2.0), True),
        Lever("handoff/2", "hand-off at half the cost, bytes aside", lambda m: cheaper(m, "handoff", 2.0), True),
        Lever("links*2", "links between cores twice as fast", lambda m: faster_links(m, 2.0), True),
    ]
    return tuple(found)


def unit_levers() -> tuple[Lever, ...]:
    """The changes for graphs that bring their own times: the machine is a number of units."""
    return (
        Lever("units+1", "one more unit", more_units),
        Lever("units-1", "one unit less", fewer_groups),
    )


# cores and groups


def more_cores(machine: Machine) -> Machine:
    """One more core in each group, like the group's last one."""
    _refuse_single(machine)
    return _with_cores_like(machine, [[[*group, group[-1]] for group in groups] for groups in _nodes(machine)])


def fewer_cores(machine: Machine) -> Machine:
    """Each group without its last core."""
    _refuse_single(machine)
    return with_cores(machine, [core for group in machine.groups for core in group[:-1]])


def more_groups(machine: Machine, *, each_node: bool) -> Machine:
    """One more group, in the last node or in each, like the node's last one."""
    if len(machine.groups) == len(machine.nodes) and "node" not in machine.links:
        raise UsageError("the machine has one group a node, and no figure for the way from group to group")
    nodes = _nodes(machine)
    last = len(nodes) - 1
    return _with_cores_like(
        machine, [[*groups, groups[-1]] if each_node or n == last else groups for n, groups in enumerate(nodes)]
    )


def more_units(machine: Machine) -> Machine:
    """One more of the equal units of `uniform:K`: in the node of the others, or with memory of its own as they have."""
    if len(machine.nodes) == 1:
        return more_groups(machine, each_node=False)
    pu = 1 + max(pu for core in machine.cores for pu in core.pus)
    return _valid(machine, nodes=(*machine.nodes, machine.nodes[-1].model_copy(update={"groups": (((pu,),),)})))


def fewer_groups(machine: Machine) -> Machine:
    """The machine without its last group."""
    if len(machine.groups) == 1:
        raise UsageError("the machine has one group only")
    return with_cores(machine, [core for group in machine.groups[:-1] for core in group])


def _refuse_single(machine: Machine) -> None:
    sizes = {len(group) for group in machine.groups}
    if sizes == {1}:
        raise UsageError("a group is a single core here: one more core is one more group")
    if len(sizes) > 1:
        raise UsageError("groups differ in size, and one more core in each would leave it so")


def _nodes(machine: Machine) -> list[list[list[int]]]:
    """Logical numbers of the cores of each group of each node that has any."""
    out: list[list[list[int]]] = [[] for _ in machine.nodes]
    for number, cores in zip(machine.node_of_group, machine.groups, strict=True):
        out[number].append(list(cores))
    return [groups for groups in out if groups]


def _with_cores_like(machine: Machine, nodes: Sequence[Sequence[Sequence[int]]]) -> Machine:
    """`machine` with the cores of `nodes` (groups in nodes): a core by its logical number; one that is named again is a
    new core like it, with PU numbers that its host has not used."""
    unused = {node.host: 0 for node in machine.nodes}
    for core in machine.cores:
        host = machine.nodes[core.node].host
        unused[host] = max(unused[host], max(core.pus) + 1)
    seen: set[int] = set()
    made, order = [], []
    for node, groups in zip((n for n in machine.nodes if n.groups), nodes, strict=True):
        described = []
        for group in groups:
            cores = []
            for number in group:
                pus = machine.cores[number].pus
                if number in seen:
                    pus = tuple(range(unused[node.host], unused[node.host] + len(pus)))
                    unused[node.host] += len(pus)
                seen.add(number)
                order.append(number)
                cores.append(pus)
            described.append(tuple(cores))
        made.append(node.model_copy(update={"groups": tuple(described)}))
    kinds = tuple(_kind(kind, order) for kind in machine.core_kinds)
    return _valid(machine, nodes=tuple(made), core_kinds=kinds, layout=None, part_of=None)


def _kind(kind: CoreKind, order: Sequence[int]) -> CoreKind:
    """`kind` with the cores that are like one of its cores, by their new numbers."""
    old = set(kind.cores)
    return kind.model_copy(update={"cores": tuple(new for new, like in enumerate(order) if like in old)})


# caches and memory


def larger_cache(machine: Machine, cache: Cache | None, more_bytes: float) -> Machine:
    """`machine` with `more_bytes` more in every cache of the kind of `cache`, which is one of its own."""
    if cache is None:
        raise UsageError("the machine has no such cache")
    grown = cache.model_copy(update={"bytes": _figure(cache.bytes.value + more_bytes)})
    return _valid(machine, caches=tuple(grown if other == cache else other for other in machine.caches))


def _enough_cache(machine: Machine, model_bytes: float) -> list[Lever]:
    """A package's cache that holds the weights of the whole model, where it does not already."""
    cache = machine.package_cache
    if cache is None or model_bytes <= cache.bytes.value * cache.fill.value:
        return []
    needed = -(-model_bytes / cache.fill.value // MIB) * MIB
    return [Lever("package_cache=model", f"a package's cache of {format_bytes(needed)}, which holds all weights",
                  lambda m: larger_cache(m, m.package_cache, needed - cache.bytes.value))]  # fmt: skip


def faster_memory(machine: Machine, part: Part, more_bytes_per_s: float) -> Machine:
    """`machine` with `more_bytes_per_s` more from DRAM for each package, node or core."""
    field = f"{part}_bandwidth_bytes_per_s"
    figure: Figure | None = getattr(machine.memory, field)
    if figure is None:
        raise UsageError(f"the machine states no DRAM bandwidth of a {part}, so none limits its plans")
    memory = machine.memory.model_copy(update={field: _figure(figure.value + more_bytes_per_s)})
    return _valid(machine, memory=memory)


def faster_links(machine: Machine, factor: float) -> Machine:
    """`machine` with `factor` times the bandwidth between cores, at every distance."""
    if all(link.bandwidth_bytes_per_s is None for link in machine.links.values()):
        raise UsageError("no link of the machine has a bandwidth, so none limits its plans")
    links = {}
    for distance, link in machine.links.items():
        rate = link.bandwidth_bytes_per_s
        links[distance] = link.model_copy(update={"bandwidth_bytes_per_s": rate and _figure(rate.value * factor)})
    return _valid(machine, links=links)


# arithmetic and software


def faster_products(machine: Machine, factor: float) -> Machine:
    """`machine` with `factor` times the peak; measured rates of products shrink in the same way."""
    compute = machine.compute
    rates = {
        name: rate.model_copy(update={"unit_s": _figure(rate.unit_s.value / factor)}) if _is_product(name) else rate
        for name, rate in compute.rates.items()
    }
    peak = _figure(compute.peak_flop_per_s.value * factor)
    return _valid(machine, compute=compute.model_copy(update={"peak_flop_per_s": peak, "rates": rates}))


def faster_elements(machine: Machine, factor: float) -> Machine:
    """`machine` with `factor` times the speed in ops that are priced by the element (elementwise, softmax, ...)."""
    compute = machine.compute
    seconds = {name: _figure(x.value / factor) for name, x in compute.seconds_per_element.items()}
    rates = {
        name: rate if _is_product(name) else rate.model_copy(update={"unit_s": _figure(rate.unit_s.value / factor)})
        for name, rate in compute.rates.items()
    }
    return _valid(machine, compute=compute.model_copy(update={"seconds_per_element": seconds, "rates": rates}))


def cheaper(machine: Machine, software: Software, factor: float) -> Machine:
    """`machine` whose software takes one `factor`-th for handing over, for fork and join, or for dispatch."""
    overheads, compute = machine.overheads, machine.compute
    fields = {"handoff": ("handoff_s",), "dispatch": ("dispatch_s",),
              "fork_join": ("fork_join_base_s", "fork_join_factor", "fork_join_jitter_s")}[software]  # fmt: skip
    update: dict[str, object] = {name: _figure(getattr(overheads, name).value / factor) for name in fields}
    if software == "fork_join":
        update["fork_join_s"] = {n: _figure(x.value / factor) for n, x in overheads.fork_join_s.items()}
    if software == "dispatch" and compute.rates:
        started = {
            name: rate.model_copy(update={"start_s": _figure(rate.start_s.value / factor)})
            for name, rate in compute.rates.items()
        }
        compute = compute.model_copy(update={"rates": started})
    if not any(part.value for part in _figures(update.values())) and not compute.rates:
        raise UsageError("it costs nothing on this machine")
    return _valid(machine, overheads=overheads.model_copy(update=update), compute=compute)


def _figures(values: Iterable[object]) -> list[Figure]:
    """The figures among `values`, also those in tables."""
    out: list[Figure] = []
    for value in values:
        inside = value.values() if isinstance(value, dict) else [value]
        out += [x for x in inside if isinstance(x, Figure)]
    return out


def _is_product(sort: str) -> bool:
    return sort.partition(".")[0] in PRODUCTS


def _figure(value: float) -> Figure:
    return Figure(value=value, source="made up, to see what it would change")


def _valid(machine: Machine, **update: object) -> Machine:
    """`machine` with the fields in `update`, validated as a file is."""
    return Machine.model_validate(jsonio.plain(machine.model_copy(update=update)))
