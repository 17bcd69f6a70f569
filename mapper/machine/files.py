"""Topology files: where a machine comes from when somebody names it, and how it is written."""

from __future__ import annotations

import itertools
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

from mapper import jsonio
from mapper.errors import UnknownName
from mapper.machine.cluster import linked, parse_link
from mapper.machine.cluster_file import AT, cluster_called, is_several, read_cluster
from mapper.machine.cluster_file import SCHEMA as CLUSTER_SCHEMA
from mapper.machine.complete import completed
from mapper.machine.model import SCHEMA, Machine
from mapper.machine.shape import compact_nodes

CLUSTER_FAMILY = CLUSTER_SCHEMA.partition("/")[0]

HOST = "host"
"""The name that stands for the machine at hand."""


def load_machine(spec: str | Path, link: str | None = None) -> Machine:
    """The machine that `spec` names: a topology file, an hwloc export (`.xml`), a bundled one with or without `.json`,
    `host`, a shape such as `pack:2 numa:4 group:4 core:4`, or `uniform:K`; or one of these with other figures, such as
    `sg2042+l2_bytes=2MiB`; a cluster file; or several hosts, such as `sg2042*4@10Gbit,20us` or `a.json+b.json*2`.

    `link` is the network between several hosts, such as `10Gbit,20us`, in the place of the one that `spec` states.

    What a file leaves out (memory, compute, overheads, links) is filled in with defaults that say so.

    >>> machine = load_machine("sg2042")
    >>> len(machine.cores), len(machine.groups), len(machine.nodes)
    (64, 16, 4)
    >>> len(load_machine("sg2042*2", link="10Gbit,20us").hosts)
    2

    Raises: BadInput with the place in the file that is wrong; UnknownName with near names; UsageError where several
    hosts have no link, or one host has.
    """
    if isinstance(spec, str) and not Path(spec).is_file():
        if is_several(spec):
            return cluster_called(spec, link, load_machine)
        base, _, inline = spec.partition(AT)
        if inline:
            return load_machine(base, link or inline)
    machine = _loaded(spec)
    return machine if link is None else linked(machine, parse_link(link))


def _loaded(spec: str | Path) -> Machine:
    """A machine that has a name or a file of its own."""
    path = Path(spec)
    if path.is_file() or isinstance(spec, Path):
        return _from_file(path)
    base, mark, changes = str(spec).partition("+")
    if mark and "=" in changes:
        from mapper.machine.changes import changed

        return changed(load_machine(base), changes)
    name = spec.removesuffix(".json")
    if name in bundled_names():
        return _bundled(name)
    if spec == HOST:
        from mapper.machine.discover import discover

        return discover()
    if ":" in spec:
        from mapper.machine.synthetic import synthetic, uniform

        return uniform(spec) if spec.startswith("uniform:") else synthetic(spec)
    if path.name != str(spec):
        return _from_file(path)
    raise UnknownName("machine", spec, [*bundled_names(), HOST])


def _from_file(path: Path) -> Machine:
    if path.suffix == ".xml":
        from mapper.machine.hwloc import read_hwloc

        return read_hwloc(path)
    document = jsonio.read_json(path)
    if isinstance(document, dict) and str(document.get("schema", "")).startswith(CLUSTER_FAMILY):
        jsonio.require_schema(document, CLUSTER_SCHEMA, str(path))
        return read_cluster(document, path, _loaded)
    return _read(document, str(path))


def _read(document: Any, source: str) -> Machine:
    jsonio.require_schema(document, SCHEMA, source)
    return jsonio.validated(Machine, completed(document), source)


def bundled_names() -> list[str]:
    """The names of the machines that come with mapper, sorted."""
    files = (entry.name for entry in resources.files("mapper.topologies").iterdir())
    return sorted(name.removesuffix(".json") for name in files if name.endswith(".json"))


def similar(machine: Machine) -> list[str]:
    """The bundled machines that may complete `machine`: those of its shape, its family of instructions, and the sizes
    of the caches that it shows."""
    family, sizes = _family(machine.isa), {(c.level, c.shared_by): c.bytes.value for c in machine.caches}
    return [
        known.name
        for known in map(_bundled, bundled_names())
        if family and _family(known.isa) == family and known.fingerprint == machine.fingerprint
        and all(sizes.get((c.level, c.shared_by), c.bytes.value) == c.bytes.value for c in known.caches)
    ]  # fmt: skip


def _family(isa: str) -> str:
    """Such as rv64, x86_64 or aarch64."""
    found = re.match(r"rv(32|64)|\w+", isa)
    return found[0] if found else ""


def save_machine(machine: Machine, path: Path) -> None:
    """Writes `machine` as a topology file: whole, or not at all and SystemRefused."""
    jsonio.write_text(path, machine_text(machine))


def machine_text(machine: Machine) -> str:
    """`machine` as the text of a topology file: a figure, a node or a list of numbers takes one line."""
    return _text(_compact(jsonio.plain(machine)), "") + "\n"


def _bundled(name: str) -> Machine:
    source = f"{name}.json"
    return _read(jsonio.parse_json((resources.files("mapper.topologies") / source).read_bytes(), source), source)


def _compact(document: dict[str, Any]) -> dict[str, Any]:
    """The document with its nodes as a shape where they are all alike, and what is empty left out."""
    document = {key: value for key, value in document.items() if value or key in ("memory", "links", "caches")}
    if document["overheads"].get("fork_join_s") == {}:
        document["overheads"] = {k: v for k, v in document["overheads"].items() if k != "fork_join_s"}
    return {**document, "nodes": compact_nodes(document["nodes"])}


def _text(value: Any, indent: str) -> str:
    if _is_flat(value):
        return _line(value)
    deeper = indent + "  "
    if isinstance(value, dict):
        texts = {key: f"{json.dumps(key)}: {_text(part, deeper)}" for key, part in value.items()}
        short = {key for key, part in value.items() if isinstance(part, str | int) and len(texts[key]) < 60 and indent}
        lines = _joined([(key in short, text) for key, text in texts.items()])
        return "{\n" + ",\n".join(deeper + line for line in lines) + f"\n{indent}}}"
    parts = [_text(part, deeper) for part in value]
    if all(isinstance(part, list) and len(part) == 2 for part in value):  # places: eight a line
        parts = [", ".join(parts[i : i + 8]) for i in range(0, len(parts), 8)]
    return "[\n" + ",\n".join(deeper + part for part in parts) + f"\n{indent}]"


def _joined(parts: list[tuple[bool, str]]) -> list[str]:
    """The texts of `parts` as lines: neighbours that are short (True) share one."""
    lines: list[str] = []
    for short, texts in itertools.groupby(parts, key=lambda part: part[0]):
        line = [text for _, text in texts]
        lines += [", ".join(line)] if short else line
    return lines


def _is_flat(value: Any) -> bool:
    """Whether `value` is a number, a text, a figure, a short record, or a list of numbers or short CPU lists."""
    if isinstance(value, dict):
        if any(isinstance(part, dict) for part in value.values()) or not all(map(_is_flat, value.values())):
            return False
        return "value" in value or len(_line(value)) < 100
    if isinstance(value, list):
        return all(isinstance(part, int | float) or (isinstance(part, str) and len(part) < 40) for part in value)
    return True


def _line(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return short if float(short := f"{value:g}") == value else str(int(value))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {_line(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_line(part) for part in value) + "]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
