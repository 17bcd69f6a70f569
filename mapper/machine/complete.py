"""What a description of a machine leaves out: filled in from defaults, or from a machine that it is like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mapper.errors import MachineMismatch
from mapper.jsonio import Record, plain
from mapper.machine import defaults
from mapper.machine.cpuinfo import features_of
from mapper.machine.discover import NO_CACHES
from mapper.machine.figures import Figure
from mapper.machine.model import Machine
from mapper.machine.parts import Cache
from mapper.machine.shape import read_nodes


def completed(document: Any) -> Any:
    """The document of a topology file with the sections and figures that it leaves out, each a default that says so.

    What is there stays; what is wrong with it is for the validation to find.
    """
    if not isinstance(document, dict):
        return document
    try:
        sizes = _sizes(read_nodes(document.get("nodes")))
        clock = Figure.model_validate(document.get("frequency_hz", defaults.FREQUENCY_HZ))
    except (ValueError, TypeError, AttributeError, KeyError):
        return document
    features = features_of(document["isa"]) if isinstance(document.get("isa"), str) else frozenset()
    sections = {
        "memory": plain(defaults.memory(*sizes)),
        "compute": plain(defaults.compute(features, clock)),
        "overheads": plain(defaults.OVERHEADS),
    }
    filled = {name: _filled(document.get(name, {}), section) for name, section in sections.items()}
    filled["links"] = document.get("links", {name: plain(link) for name, link in defaults.LINKS.items()})
    filled["caches"] = document.get("caches", [])
    if "memory" in document:
        filled["memory"] = document["memory"]  # a bandwidth that is left out of it limits nothing
    if isinstance(filled["caches"], list):
        filled["caches"] = [_filled(cache, _cache_defaults(cache)) for cache in filled["caches"]]
    return {**document, **filled}


def schema() -> dict[str, Any]:
    """The JSON Schema of a topology file: that of a machine, with what may be left out."""
    found = Machine.model_json_schema(mode="validation", by_alias=True)
    found["required"] = [name for name in found["required"] if name not in ("memory", "compute", "overheads", "links")]
    for part in ("Compute", "Overheads"):
        del found["$defs"][part]["required"]
    return found


def _filled(given: Any, section: dict[str, Any]) -> Any:
    return {**section, **given} if isinstance(given, dict) else given


def _cache_defaults(cache: Any) -> dict[str, Any]:
    known = defaults.CACHE_BANDWIDTH_BYTES_PER_S
    level = cache.get("level") if isinstance(cache, dict) else None
    if not isinstance(level, int) or level < 1:
        return {}
    return {"fill": plain(defaults.CACHE_FILL), "core_bandwidth_bytes_per_s": plain(known[min(level, max(known))])}


def _sizes(nodes: list[dict[str, Any]]) -> tuple[int, int]:
    """Cores of the largest package, and nodes of the one with most."""
    cores: dict[int, int] = {}
    counts: dict[int, int] = {}
    for node in nodes:
        package = node.get("package", 0)
        groups = node["groups"]
        cores[package] = cores.get(package, 0) + sum(len(group) if isinstance(group, list) else 4 for group in groups)
        counts[package] = counts.get(package, 0) + 1
    return max(cores.values()), max(counts.values())


def like(machine: Machine, known: Machine) -> Machine:
    """`machine` (discovered) with what the kernel does not show taken from `known`, a machine of the same shape.

    What the kernel showed stays: numbering, nodes, memory, sizes of caches that it shows. Every figure that was
    carried over says so in its source, and a note says which fields it was.

    Raises: MachineMismatch when the shapes differ.
    """
    if machine.fingerprint != known.fingerprint:
        from mapper.machine.draw import shape

        raise MachineMismatch(
            f"the machine is not like {known.name}: it has {shape(machine)}, {known.name} has {shape(known)}",
            advice="Leave --like out, or name a machine of the same packages, groups and cores.",
        )
    taken = [f"/{name}" for name in ("memory", "compute", "overheads", "links")]
    update: dict[str, Any] = {name[1:]: _marked(getattr(known, name[1:]), known.name) for name in taken}
    if machine.frequency_hz is None or machine.frequency_hz.kind == "assumed":
        update["frequency_hz"] = _marked(known.frequency_hz, known.name)
        taken.append("/frequency_hz")
    update["caches"], from_known = _caches(machine, known)
    taken += from_known
    if not machine.cpu_model:
        update["cpu_model"] = known.cpu_model
        taken.append("/cpu_model")
    for name in ("power", "layout"):
        fits = name != "layout" or len(machine.nodes) == len(known.nodes)
        if getattr(known, name) is not None and fits:
            update[name] = _marked(getattr(known, name), known.name)
            taken.append(f"/{name}")
    if len(machine.nodes) != len(known.nodes):
        update["memory"] = update["memory"].model_copy(update={"node_bandwidth_bytes_per_s": None})
    update["sources"] = {**machine.sources, **known.sources}
    note = f"Completed from {known.name}: {', '.join(taken)}; the rest is as the system shows it."
    kept = [told for told in machine.notes if told != NO_CACHES or not update["caches"]]
    return machine.model_copy(update={**update, "notes": (*kept, *fewer_nodes(machine, known), note)})


def fewer_nodes(machine: Machine, known: Machine) -> Iterator[str]:
    """What follows where `machine` shows fewer nodes than `known`, of the same shape: firmware may not tell them."""
    shown, there = len(machine.nodes), len(known.nodes)
    if shown < there:
        nodes = "1 NUMA node" if shown == 1 else f"{shown} NUMA nodes"
        yield f"The system shows {nodes}, {known.name} has {there}: memory near a core is not told from that far away."


def _caches(machine: Machine, known: Machine) -> tuple[tuple[Cache, ...], list[str]]:
    """The caches of both: sizes as shown where they are, everything else from `known`."""
    shown = {(cache.level, cache.shared_by): cache for cache in machine.caches}
    caches, taken = [], []
    for cache in known.caches:
        own = shown.pop((cache.level, cache.shared_by), None)
        carried = _marked(cache, known.name)
        caches.append(carried if own is None else carried.model_copy(update={"bytes": own.bytes}))
        taken.append(f"{cache.name}" if own is None else f"speed of {cache.name}")
    return tuple(sorted([*caches, *shown.values()], key=lambda cache: cache.level)), taken


def _marked(part: Any, name: str) -> Any:
    """`part` with every figure in it saying that it is from the machine `name`."""
    if isinstance(part, Figure):
        return part.model_copy(update={"source": f"{part.source} (as {name})"})
    if isinstance(part, dict):
        return {key: _marked(value, name) for key, value in part.items()}
    if isinstance(part, Record):
        values = {field: getattr(part, field) for field in type(part).model_fields}
        return part.model_copy(update={f: _marked(v, name) for f, v in values.items() if isinstance(v, Figure | dict)})
    return part
