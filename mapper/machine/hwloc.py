"""Machines from hwloc: the XML that `lstopo machine.xml` writes, in the formats of hwloc 1, 2 and 3.

What is shared follows from the nesting of objects: a core's PUs are those below it. CPU sets only say which PUs are
online, allowed, next to a NUMA node and of one kind.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from xml.parsers import expat

from pydantic import ValidationError

from mapper.errors import BadInput
from mapper.jsonio import MAX_DEPTH, read_bytes
from mapper.machine import defaults
from mapper.machine.assemble import assemble
from mapper.machine.cpuinfo import features_of
from mapper.machine.figures import Figure
from mapper.machine.model import Machine
from mapper.machine.restrict import with_pus
from mapper.machine.seen import Pus, Seen, SeenCache, SeenCpu, SeenKind, SeenNode, SeenPu, Where

HWLOC = Where(
    caches="cache_size in the hwloc export",
    node="local_memory of NUMANode {node} in the hwloc export",
    memory="local_memory in the hwloc export",
)

_MOST_ELEMENTS = 1_000_000
_MOST_PUS = 65536
_MOST_BYTES = 2**60
_MOST_MHZ = 1_000_000

_KERNEL_CLUSTER = 222
"""The `kind` of a Group that stands for what Linux calls a cluster (include/private/misc.h of hwloc)."""

_LATENCY_BY_OS = 1 | 4
"""The bits in the `kind` of distances that mean: from the operating system, and latencies (hwloc/distances.h)."""

_CORE_TYPES = {"IntelCore": "P-core", "IntelAtom": "E-core", "IntelLowPower": "low-power core"}

_LSTOPO = "An hwloc export is what `lstopo machine.xml` writes."


def read_hwloc(path: Path) -> Machine:
    """The machine in the hwloc export `path`, restricted to the PUs that the export allows.

    Raises: BadInput with the line that is wrong.
    """
    topology = _topology(_parse(read_bytes(path), str(path)))
    root = next(topology.having("object"))
    seen = _seen(topology, root)
    allowed = root.mask("allowed_cpuset")
    usable = _in(-1 if allowed is None else allowed, seen.pus)
    if not usable:
        raise root.bad("none of the PUs that are online is allowed")
    try:
        machine = assemble(seen, name=path.stem)
    except ValidationError as error:
        raise topology.bad(f"no machine that makes sense: {error.errors()[0]['msg']}") from None
    note = f"An hwloc export names no vector instructions: the peak is that of any {seen.cpu.isa or 'CPU'}."
    return with_pus(machine.model_copy(update={"notes": (*machine.notes, note)}), usable)


@dataclass(frozen=True, eq=False)
class _Element:
    """An XML element that begins on `line` of `file`."""

    file: str
    line: int
    tag: str
    attributes: dict[str, str]
    children: list[_Element] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def bad(self, what: str, advice: str = "") -> BadInput:
        return BadInput(self.file, what, place=f"line {self.line}", advice=advice)

    def having(self, tag: str) -> Iterator[_Element]:
        """The children that are a `tag`."""
        return (child for child in self.children if child.tag == tag)

    def info(self, name: str) -> str:
        """The first value of the info `name`, "" where there is none."""
        infos = (child.attributes for child in self.having("info"))
        return next((" ".join(info.get("value", "").split()) for info in infos if info.get("name") == name), "")

    def number(self, name: str, most: int) -> int | None:
        """The integer in the attribute `name`, from 0 to `most`; None where there is no such attribute."""
        given = self.attributes.get(name)
        return None if given is None else self.integer(name, given, most)

    def integer(self, name: str, given: str, most: int) -> int:
        if not re.fullmatch(r"[0-9]{1,20}", given) or int(given) > most:
            raise self.bad(f"{name} is {given[:40]!r}, a number from 0 to {most} was expected")
        return int(given)

    def index(self) -> int:
        """What the OS calls this PU or node."""
        found = self.number("os_index", _MOST_PUS - 1)
        if found is None:
            raise self.bad(f"a {self.kind} without os_index")
        return found

    def mask(self, name: str) -> int | None:
        """The attribute `name` as a bit for each PU, less than zero where the set has no end (0xf...f)."""
        given = self.attributes.get(name)
        if given is None:
            return None
        words = [word.removeprefix("0x") for word in given.lower().split(",")]
        endless = words[0] == "f...f"
        words = words[1:] if endless else words
        digits = "".join(word.zfill(8) for word in words) if len(words) > 1 else "".join(words)
        wrong = (not any(words) and not endless) or (len(words) > 1 and max(map(len, words)) > 8)
        if wrong or not re.fullmatch(r"[0-9a-f]*", digits):
            raise self.bad(f"{name} is {given[:40]!r}, a mask such as 0x0000000f,0xffffffff was expected")
        if len(digits) > _MOST_PUS // 4:
            raise self.bad(f"{name} names a PU above {_MOST_PUS - 1}, which is the last one that is read")
        return int(digits or "0", 16) - (1 << 4 * len(digits) if endless else 0)

    @cached_property
    def kind(self) -> str:
        """The type of an object; `Package` for a Socket too, `Cluster` for a kernel's, `Cache` for one with data."""
        given = self.attributes.get("type", "")
        if given == "Group":
            named = {self.attributes.get("subtype"), self.info("Type")}
            return "Cluster" if self.attributes.get("kind") == str(_KERNEL_CLUSTER) or "Cluster" in named else "Group"
        if re.fullmatch(r"(L[0-9]d?)?Cache", given):
            return "Cache" if self.attributes.get("cache_type") != "2" else "instruction cache"
        return {"Socket": "Package"}.get(given, given)

    @cached_property
    def cache(self) -> tuple[int, int] | None:
        """The level and size of a cache; None for one without a size, and for all that is none."""
        if self.kind != "Cache" or not (size := self.number("cache_size", _MOST_BYTES)):
            return None
        named = re.match("L([0-9])", self.attributes["type"])
        level = self.number("depth", 5) or (int(named[1]) if named else 0)
        if not 1 <= level <= 5:
            raise self.bad("a cache whose depth (its level) is not 1 to 5")
        return level, size


def _parse(data: bytes, file: str) -> _Element:
    """The outermost element. Nothing outside the file is read, and no entity is ever replaced."""
    parser = expat.ParserCreate()
    parser.buffer_text = True
    count = itertools.count(1)
    around = [_Element(file, 1, "", {})]

    def bad(what: str, advice: str = "") -> BadInput:
        return BadInput(file, what, place=f"line {parser.CurrentLineNumber}", advice=advice)

    def start(tag: str, attributes: dict[str, str]) -> None:
        if len(around) > MAX_DEPTH:
            raise bad(f"nested more than {MAX_DEPTH} deep")
        if next(count) > _MOST_ELEMENTS:
            raise bad(f"more than {_MOST_ELEMENTS} elements, which is the most that is read")
        element = _Element(file, parser.CurrentLineNumber, tag, attributes)
        around[-1].children.append(element)
        around.append(element)

    def text(given: str) -> None:
        if not given.isspace():
            around[-1].texts.append(given)

    def doctype(name: str, system: str | None, public: str | None, internal: bool) -> None:
        if internal:
            raise bad("the document type declares entities or the like, which no hwloc export does", _LSTOPO)

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda tag: around.pop()
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        place = f"line {error.lineno}, column {error.offset + 1}"
        raise BadInput(file, f"not XML: {expat.ErrorString(error.code)}", place=place, advice=_LSTOPO) from None
    except (LookupError, ValueError) as error:
        raise BadInput(file, f"not XML that can be read: {error}", place="line 1", advice=_LSTOPO) from None
    return around[0].children[0]


def _topology(document: _Element) -> _Element:
    """`document`, which must be a topology with one outermost object, in a version of the format that is known."""
    if document.tag != "topology":
        raise document.bad(f"the outermost element is <{document.tag[:40]}>, not <topology>", _LSTOPO)
    version = document.attributes.get("version", "1.0")
    if not re.fullmatch(r"[123](\.[0-9]+)?", version):
        raise document.bad(f"version is {version[:40]!r}, known are 1, 2 and 3", "Write it with hwloc 1, 2 or 3.")
    if len(list(document.having("object"))) != 1:
        raise document.bad("a topology has exactly one outermost object, the machine", _LSTOPO)
    return document


_Around = tuple[_Element, ...]
"""The objects around one, outermost first."""


def _objects(root: _Element) -> Iterator[tuple[_Element, _Around]]:
    """`root` and all objects below it as they stand in the file, each with those around it."""
    waiting: list[tuple[_Element, _Around]] = [(root, ())]
    while waiting:
        element, path = waiting.pop()
        element.mask("cpuset")
        yield element, path
        inner = (*path, element)
        waiting += [(child, inner) for child in reversed(list(element.having("object")))]


def _in(mask: int, pus: Iterable[int]) -> Pus:
    return frozenset(n for n in pus if mask >> n & 1)


def _seen(topology: _Element, root: _Element) -> Seen:
    """What the export shows of the PUs that are online."""
    objects = list(_objects(root))
    paths = _paths(root, objects)
    below: dict[_Element, set[int]] = {}
    for n, path in paths.items():
        for element in path:
            below.setdefault(element, set()).add(n)
    shared = {element: frozenset(pus) for element, pus in below.items()}
    loose = frozenset(n for n, path in paths.items() if all(element.kind != "Package" for element in path))
    packages = [element for element, _ in objects if element.kind == "Package"]
    nodes = _nodes([element for element, _ in objects if element.kind == "NUMANode"], paths)
    rows = _distances(topology, root, list(nodes))
    known = [SeenNode(n, nodes[n].pus, nodes[n].memory_bytes, rows.get(n, ())) for n in sorted(nodes)]
    return Seen(
        pus={n: _pu(n, path, shared, loose) for n, path in paths.items()},
        nodes=tuple(known),
        memory_bytes=sum(node.memory_bytes or 0 for node in known) or root.number("local_memory", _MOST_BYTES) or None,
        cpu=_cpu(topology, root, packages),
        where=HWLOC,
        kinds=_kinds(list(topology.having("cpukind")), paths),
    )


def _paths(root: _Element, objects: Iterable[tuple[_Element, _Around]]) -> dict[int, _Around]:
    """The PUs that are online in ascending order, each with the objects around it."""
    masks = [root.mask(name) for name in ("cpuset", "online_cpuset")]
    found: dict[int, _Around] = {}
    for element, path in objects:
        if element.kind == "PU":
            if element.index() in found:
                raise element.bad(f"PU {element.index()} is given twice")
            found[element.index()] = path
    online = [n for n in sorted(found) if all(mask is None or mask >> n & 1 for mask in masks)]
    if not online:
        raise root.bad("no PU that is online" if found else "no PU at all")
    return {n: found[n] for n in online}


def _pu(number: int, path: _Around, shared: Mapping[_Element, Pus], loose: Pus) -> SeenPu:
    """The PU `number`; one outside every package is in that of the `loose` ones."""
    nearest = {element.kind: shared[element] for element in path}
    package, own = nearest.get("Package", loose), frozenset([number])
    core = nearest.get("Core", own) & package | own
    cluster = nearest.get("Cluster")
    caches = {element.cache[0]: (element.cache[1], shared[element] | core) for element in path if element.cache}
    found = tuple(SeenCache(level, *caches[level]) for level in sorted(caches))
    return SeenPu(number, core, cluster and cluster | core, package, found)


def _nodes(objects: Iterable[_Element], online: Collection[int]) -> dict[int, SeenNode]:
    """The NUMA nodes by their numbers as they stand in the file.

    hwloc gives a node without PUs those that it is next to. It has none here: each PU is in its smallest node.
    """
    found: dict[int, SeenNode] = {}
    for element in objects:
        number, mask = element.index(), element.mask("cpuset")
        if number in found:
            raise element.bad(f"NUMANode {number} is given twice")
        if mask is None:
            raise element.bad(f"NUMANode {number} has no cpuset")
        memory = element.number("local_memory", _MOST_BYTES)
        found[number] = SeenNode(number, _in(mask, online), memory or None, ())
    placed: set[int] = set()
    for node in sorted(found.values(), key=lambda node: (len(node.pus), node.os_index)):
        if node.pus <= placed:
            found[node.os_index] = dataclasses.replace(node, pus=frozenset())
        placed |= node.pus
    return found


def _distances(topology: _Element, root: _Element, nodes: Sequence[int]) -> dict[int, tuple[float, ...]]:
    """For each node the latencies to all nodes in ascending order, from the first table of them that the OS gave.

    hwloc 1 tells the nodes of its table by their order in the file, later ones by their numbers.
    """
    tables = [table for table in topology.having("distances2") if table.attributes.get("type") == "NUMANode"]
    latencies = [t for t in tables if ~(t.number("kind", _MOST_PUS) or 0) & _LATENCY_BY_OS == 0]
    for table in latencies:
        if table.attributes.get("indexing") == "os":
            numbers = [table.integer("index", word, _MOST_PUS - 1) for word in _words(table, "indexes")]
            values = [float(table.integer("distance", word, 2**64)) for word in _words(table, "u64values")]
            return _rows(table, numbers, values, nodes)
    for table in root.having("distances"):
        if table.number("nbobjs", _MOST_PUS) == len(nodes):
            base = _decimal(table, "latency_base")
            return _rows(table, nodes, [_decimal(cell, "value") * base for cell in table.having("latency")], nodes)
    return {}


def _words(table: _Element, tag: str) -> list[str]:
    return [word for part in table.having(tag) for word in "".join(part.texts).split()]


def _decimal(element: _Element, name: str) -> float:
    given = element.attributes.get(name, "")
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,20})?", given):
        raise element.bad(f"{name} is {given[:40]!r}, a number such as 10.0 was expected")
    return float(given)


def _rows(
    table: _Element, numbers: Sequence[int], values: Sequence[float], nodes: Collection[int]
) -> dict[int, tuple[float, ...]]:
    """The rows of a table whose rows and columns stand for the nodes `numbers`."""
    size = len(numbers)
    if table.number("nbobjs", _MOST_PUS) != size or len(values) != size * size or len(set(numbers)) != size:
        raise table.bad(f"{size} different nodes and {len(values)} distances, not nbobjs of them and its square")
    place = {n: i for i, n in enumerate(numbers)}
    return {a: tuple(values[place[a] * size + place[b]] for b in sorted(nodes) if b in place) for a in place}


def _cpu(topology: _Element, root: _Element, packages: Iterable[_Element]) -> SeenCpu:
    model = next(filter(None, (element.info("CPUModel") for element in (*packages, root, topology))), "")
    architecture = root.info("Architecture") or topology.info("Architecture")
    isa = re.sub(r"^riscv(?=32|64)", "rv", architecture)
    return SeenCpu(model, isa, features_of(isa), _frequency(topology, model))


def _frequency(topology: _Element, model: str) -> Figure:
    """The clock of the fastest kind of core, by the same order of preference as discovery."""
    for name in ("FrequencyBaseMHz", "FrequencyMaxMHz"):
        if fastest := max((_of_kind(kind, name) for kind in topology.having("cpukind")), default=0):
            return Figure(value=fastest * 1e6, kind="specified", source=f"{name} in the hwloc export")
    rated = re.search(r"@ ([0-9]{1,3}(?:\.[0-9]{1,6})?) ?GHz", model)
    if rated and float(rated[1]):
        return Figure(value=round(float(rated[1]) * 1e9), kind="specified", source="CPUModel in the hwloc export")
    return defaults.FREQUENCY_HZ.model_copy(update={"source": "default; the hwloc export states no frequency"})


def _of_kind(kind: _Element, name: str) -> int:
    given = kind.info(name)
    return kind.integer(name, given, _MOST_MHZ) if given else 0


def _kinds(objects: Sequence[_Element], online: Collection[int]) -> tuple[SeenKind, ...]:
    """The kinds of core, fastest first, told apart as discovery does; none where all are alike or a PU is of none."""
    pus: dict[_Element, Pus] = {}
    for kind in objects:
        mask = kind.mask("cpuset")
        if mask is None:
            raise kind.bad("a cpukind without cpuset")
        pus[kind] = _in(mask, online).difference(*pus.values())
    pus = {kind: own for kind, own in pus.items() if own}
    capacity, fastest, base = (
        {kind: _of_kind(kind, name) for kind in pus}
        for name in ("LinuxCapacity", "FrequencyMaxMHz", "FrequencyBaseMHz")
    )
    types = {kind: kind.info("CoreType") for kind in pus}
    if all(capacity.values()) and len(set(capacity.values())) > 1:
        names, speed, source = {k: f"capacity {capacity[k]}" for k in pus}, capacity, "LinuxCapacity"
    elif all(types.values()) and len(set(types.values())) > 1:
        names, speed = {k: _CORE_TYPES.get(types[k], types[k]) for k in pus}, fastest
        source = "FrequencyMaxMHz; a cycle of these cores may also do less"
    else:
        names, speed = {k: f"{base[k] / 1e3:g} GHz" for k in pus if base[k]}, fastest
        source = "FrequencyMaxMHz; FrequencyBaseMHz tells the kinds apart"
    if sum(map(len, pus.values())) < len(online) or len(names) < len(pus) or not all(speed.values()):
        return ()
    return _by_speed(names, speed, pus, f"{source}, in the hwloc export")


def _by_speed(
    names: Mapping[_Element, str], speed: Mapping[_Element, int], pus: Mapping[_Element, Pus], source: str
) -> tuple[SeenKind, ...]:
    tops = {name: max(speed[kind] for kind in pus if names[kind] == name) for name in names.values()}
    made = []
    for name, top in sorted(tops.items(), key=lambda entry: -entry[1]):
        share = Figure(value=top / max(tops.values()), kind="inferred", source=source)
        made.append(SeenKind(name, frozenset().union(*(pus[kind] for kind in pus if names[kind] == name)), share))
    return tuple(made) if len(made) > 1 else ()
