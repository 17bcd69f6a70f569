"""Machines made up in one line: `pack:2 numa:4 group:4 core:4 pu:1` with optional attributes, and `uniform:K`."""

from __future__ import annotations

import re
from typing import Any

from mapper.errors import BadInput, UsageError
from mapper.jsonio import plain, validated
from mapper.machine import defaults
from mapper.machine.complete import completed
from mapper.machine.figures import Figure
from mapper.machine.model import SCHEMA, Machine
from mapper.machine.parts import Compute, Link, Memory, Node
from mapper.machine.shape import MOST_PUS, nodes_of, numbers_of, parse_shape
from mapper.units import parse_bytes, parse_frequency, parse_rate

_SCOPE = {"core": "core", "group": "group", "numa": "node", "pack": "package"}
_KIND = ("matmul", "conv", "attention")
_ELEMENTWISE = ("elementwise", "transcendental", "normalization", "softmax", "copy", "embedding", "pool", "reduce")


def synthetic(text: str) -> Machine:
    """The machine that `text` describes: levels `host`, `pack`, `numa`, `group`, `core`, `pu`, outermost first.

    Attributes go in brackets behind a level: `l1=` to `l5=` the size of a cache that each core, group, node or package
    has, `bandwidth=` what each can draw from DRAM, `memory=` of a node, `flops=`, `frequency=` and `isa=` (such as
    avx2) of a core. What is not given is a default, and says so.

    Raises: BadInput naming the part that is wrong.
    """
    try:
        shape = parse_shape(text)
        document = _document(text, shape.attributes)
    except (ValueError, UsageError) as error:
        raise BadInput(repr(text), str(error)) from None
    memory = document.pop("memory_bytes", None)
    if "memory" in document:
        usual = plain(defaults.memory(shape.cores_per_host // shape.pack, shape.numa))
        if "package_bandwidth_bytes_per_s" in document["memory"]:
            del usual["node_bandwidth_bytes_per_s"]  # a part of the default, not of what is given
        document["memory"] = usual | document["memory"]
    document["nodes"] = nodes_of(shape, numbers_of(None, shape), memory)
    return validated(Machine, completed(document), repr(text))


def _document(text: str, attributes: tuple[tuple[str, str, str], ...]) -> dict[str, Any]:
    """The fields that attributes give, as in a topology file."""
    source = "as given: " + " ".join(text.split())
    document: dict[str, Any] = {"schema": SCHEMA, "name": " ".join(text.split()), "caches": []}

    def figure(value: float) -> dict[str, Any]:
        return {"value": value, "kind": "assumed", "source": source}

    for level, name, value in attributes:
        if re.fullmatch("l[1-5]", name) and level in _SCOPE:
            cache = {"name": "L1d" if name == "l1" else name.upper(), "level": int(name[1]), "shared_by": _SCOPE[level]}
            document["caches"].append({**cache, "bytes": figure(parse_bytes(value))})
        elif name == "bandwidth" and level in _SCOPE:
            field = f"{_SCOPE[level]}_bandwidth_bytes_per_s"
            document.setdefault("memory", {})[field] = figure(parse_rate(value))
        elif name == "memory" and level == "numa":
            document["memory_bytes"] = figure(parse_bytes(value))
        elif name == "frequency" and level == "core":
            document["frequency_hz"] = figure(parse_frequency(value))
        elif name == "isa" and level == "core":
            document["isa"] = value
        elif name == "flops" and level == "core":
            document.setdefault("compute", {})["peak_flop_per_s"] = figure(parse_frequency(value))
        else:
            raise ValueError(
                f"{level} has no attribute {name!r}; core, group, numa and pack have l1 to l5 and bandwidth, numa has "
                "memory, core has flops, frequency and isa"
            )
    document["caches"].sort(key=lambda cache: cache["level"])
    return document


def uniform(text: str) -> Machine:
    """`uniform:K`: K equal units, each a group by itself, with one configuration and no caches, no limit on memory, no
    dispatch, fork-join or hop latency. A unit does 1 GFLOP/s; graphs with costs of their own do not ask for that.

    Raises: BadInput where K is no positive number.
    """
    match = re.fullmatch(r"uniform:(\d{1,7})", text)
    if match is None or not 1 <= int(match[1]) <= MOST_PUS:
        raise BadInput(repr(text), f"uniform:K was expected, with K from 1 to {MOST_PUS}")
    free, unit = Figure(value=0, source="by definition"), Figure(value=1, source="by definition")
    names = ("dispatch_s", "fork_join_base_s", "fork_join_factor", "fork_join_jitter_s", "handoff_s", "process_bytes")
    return Machine(
        name=text,
        title=f"{match[1]} equal units",
        nodes=(Node(groups=tuple(((pu,),) for pu in range(int(match[1])))),),
        memory=Memory(),
        compute=Compute(
            peak_flop_per_s=Figure(value=1e9, source="by definition"),
            efficiency=dict.fromkeys(_KIND, unit),
            seconds_per_element=dict.fromkeys(_ELEMENTWISE, Figure(value=1e-9, source="by definition")),
            busy_slowdown=unit,
            imbalance=free,
        ),
        overheads=defaults.OVERHEADS.model_copy(update=dict.fromkeys(names, free)),
        links={"node": Link(line_s=free)},
    )


def with_own_memory(machine: Machine) -> Machine:
    """`machine`, made by `uniform`, with a node for each unit: what a limit on memory is for. Others as they are."""
    if not machine.name.startswith("uniform:"):
        return machine
    units = tuple(Node(groups=(group,)) for node in machine.nodes for group in node.groups)
    return machine.model_copy(update={"nodes": units, "links": machine.links | {"package": machine.links["node"]}})
