"""Regular shapes in one line, such as `pack:1 numa:4 group:4 core:4`, and the nodes that they stand for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from mapper.jsonio import Record, pointer
from mapper.machine.figures import Positive
from mapper.machine.pus import format_pus, parse_pus

LEVELS = {"host": "host", "pack": "pack", "package": "pack", "numa": "numa", "node": "numa", "group": "group",
          "core": "core", "pu": "pu"}  # fmt: skip
"""The words of a shape, outermost first; two of them have a longer form."""
MOST_PUS = 1 << 20
_ORDER = tuple(dict.fromkeys(LEVELS.values()))
_WORD = re.compile(r"([a-z]+):(\d+)(?:\(([^()]*)\))?")


@dataclass(frozen=True)
class Shape:
    """How many there are: hosts, packages a host, nodes a package, groups a node, cores a group, PUs a core; and the
    attributes of each level as they were written."""

    host: int = 1
    pack: int = 1
    numa: int = 1
    group: int = 1
    core: int = 1
    pu: int = 1
    attributes: tuple[tuple[str, str, str], ...] = ()

    @property
    def cores_per_host(self) -> int:
        """Cores of one host."""
        return self.pack * self.numa * self.group * self.core

    def __str__(self) -> str:
        counts = [(level, getattr(self, level)) for level in _ORDER]
        return " ".join(f"{level}:{n}" for level, n in counts if n > 1 or level == "core")


def parse_shape(text: str) -> Shape:
    """The shape that `text` describes: levels from `host` to `pu`, outermost first; one that is absent counts 1.

    A level may have attributes in brackets, such as `numa:4(memory=32GiB)`.

    Raises: ValueError naming the part that is wrong.
    """
    counts: dict[str, int] = {}
    attributes: list[tuple[str, str, str]] = []
    for word in re.findall(r"[^\s(]+(?:\([^()]*\)?)?|\S", text):
        match = _WORD.fullmatch(word)
        if match is None or match[1] not in LEVELS:
            raise ValueError(f"{word!r} is not a level of a shape such as pack:2 numa:4 group:4 core:4 pu:1")
        level = LEVELS[match[1]]
        if counts and _ORDER.index(level) <= max(map(_ORDER.index, counts)):
            raise ValueError(f"{word!r} is out of order: host, pack, numa, group, core, pu, each once")
        counts[level] = int(match[2])
        attributes += [(level, *_attribute(part, word)) for part in re.split(r"[,\s]+", match[3] or "") if part]
        if counts[level] < 1:
            raise ValueError(f"{word!r}: a level has at least one of its kind")
    if not counts:
        raise ValueError("an empty shape; pack:2 numa:4 group:4 core:4 is one")
    shape = Shape(**counts, attributes=tuple(attributes))
    if shape.host * shape.cores_per_host * shape.pu > MOST_PUS:
        raise ValueError(f"more than {MOST_PUS} PUs")
    return shape


def _attribute(text: str, word: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ValueError(f"{text!r} in {word!r} is not an attribute such as memory=32GiB")
    return name, value


class Regular(Record):
    """Nodes that are all alike. `pus` are what the OS calls the PUs of a host, in the order of their cores: one list
    (the PUs of a core side by side), or one list for each hardware thread of a core; 0, 1, 2, … where it is absent."""

    shape: str
    pus: str | list[str] | None = None
    memory_bytes: Positive | None = None


def read_nodes(given: Any) -> Any:
    """The nodes of a file: a `Regular` record becomes the list that it stands for, anything else stays as it is."""
    if not isinstance(given, dict):
        return given
    try:
        regular = Regular.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        message = "unknown field" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{pointer(first['loc'])}: {message}") from None
    try:
        shape = parse_shape(regular.shape)
    except ValueError as error:
        raise ValueError(f"/shape: {error}") from None
    if shape.attributes:
        raise ValueError("/shape: attributes have fields of their own in a file")
    return nodes_of(shape, numbers_of(regular.pus, shape), given.get("memory_bytes"))


def numbers_of(pus: str | list[str] | None, shape: Shape) -> list[tuple[int, ...]]:
    """For each core of a host, the OS numbers of its PUs."""
    if pus is None:
        return [tuple(range(i * shape.pu, (i + 1) * shape.pu)) for i in range(shape.cores_per_host)]
    lists = []
    for i, text in enumerate([pus] if isinstance(pus, str) else pus):
        place = "/pus" if isinstance(pus, str) else f"/pus/{i}"
        try:
            lists.append(parse_pus(text))
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
    cores, threads = shape.cores_per_host, shape.pu
    if isinstance(pus, str):
        if len(lists[0]) != cores * threads:
            raise ValueError(f"/pus: {len(lists[0])} PUs, but the shape has {cores * threads}")
        return [lists[0][i * threads : (i + 1) * threads] for i in range(cores)]
    if len(lists) != threads:
        raise ValueError(f"/pus: {len(lists)} lists, but the shape has {threads} PUs a core")
    for i, numbers in enumerate(lists):
        if len(numbers) != cores:
            raise ValueError(f"/pus/{i}: {len(numbers)} PUs, but the shape has {cores} cores")
    return list(zip(*lists, strict=True))


def nodes_of(shape: Shape, pus: list[tuple[int, ...]], memory_bytes: Any) -> list[dict[str, Any]]:
    """The nodes of `shape` as documents, its cores in order, each host with the same PU numbers."""
    nodes = []
    for n in range(shape.host * shape.pack * shape.numa):
        within = n % (shape.pack * shape.numa)
        first = within * shape.group * shape.core
        groups = [pus[first + g * shape.core : first + (g + 1) * shape.core] for g in range(shape.group)]
        node = {"host": n // (shape.pack * shape.numa), "package": n // shape.numa, "os_index": within}
        nodes.append({**node, "memory_bytes": memory_bytes, "groups": groups})
    return nodes


def compact_nodes(nodes: list[dict[str, Any]]) -> Any:
    """The shortest form of the nodes of a document: a `Regular` one where they are all alike, else as they are."""
    cores = [[_cores_of(group) for group in node["groups"]] for node in nodes]
    hosts, packages = len({node["host"] for node in nodes}), len({node["package"] for node in nodes})
    shape = Shape(
        host=hosts, pack=packages // hosts, numa=len(nodes) // packages, group=len(cores[0]),
        core=len(cores[0][0]) if cores[0] else 0, pu=len(cores[0][0][0]) if cores[0] and cores[0][0] else 0,
    )  # fmt: skip
    if min(shape.core, shape.pu) == 0:
        return nodes
    of_host = [core for groups in cores[: len(nodes) // hosts] for group in groups for core in group]
    memory = nodes[0].get("memory_bytes")
    if len(of_host) != shape.cores_per_host or nodes_of(shape, of_host, memory) != [
        {**node, "memory_bytes": node.get("memory_bytes"), "groups": groups}
        for node, groups in zip(nodes, cores, strict=True)
    ]:
        return nodes
    plain: dict[str, Any] = {"shape": str(shape), **_pus(of_host, shape)}
    return plain if memory is None else {**plain, "memory_bytes": memory}


def _cores_of(group: str | list[str]) -> list[tuple[int, ...]]:
    """The cores of a group as documents write it."""
    return [(pu,) for pu in parse_pus(group)] if isinstance(group, str) else [parse_pus(core) for core in group]


def _pus(cores: list[tuple[int, ...]], shape: Shape) -> dict[str, Any]:
    """The field `pus` of a `Regular` record: absent where the numbers are 0, 1, 2, …"""
    if cores == numbers_of(None, shape):
        return {}
    threads = [_by_node(thread, shape) for thread in zip(*cores, strict=True)]
    return {"pus": threads[0] if shape.pu == 1 else threads}


def _by_node(numbers: tuple[int, ...], shape: Shape) -> str:
    """A list of PUs with a space between nodes, for those who read it."""
    size = shape.group * shape.core
    return ", ".join(format_pus(numbers[i : i + size]) for i in range(0, len(numbers), size))
