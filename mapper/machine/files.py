"""Topology files: where a machine comes from when somebody names it, and how it is written."""

from __future__ import annotations

import difflib
import itertools
import json
from importlib import resources
from pathlib import Path
from typing import Any

from mapper import jsonio
from mapper.errors import UnknownName
from mapper.machine.model import SCHEMA, Machine

HOST = "host"
"""The name that stands for the machine at hand."""


def load_machine(spec: str | Path) -> Machine:
    """The machine that `spec` names: a topology file, a bundled one with or without `.json`, or `host`.

    Raises: BadInput with the place in the file that is wrong; UnknownName with near names.
    """
    path = Path(spec)
    if path.is_file() or isinstance(spec, Path) or path.name != str(spec):
        return jsonio.read_record(Machine, path, SCHEMA)
    name = spec.removesuffix(".json")
    if name in bundled_names():
        return _bundled(name)
    if spec == HOST:
        from mapper.machine.discover import discover

        return discover()
    known = [*bundled_names(), HOST]
    raise UnknownName("machine", spec, difflib.get_close_matches(name.lower(), known, n=2), known)


def bundled_names() -> list[str]:
    """The names of the machines that come with mapper, sorted."""
    files = (entry.name for entry in resources.files("mapper.topologies").iterdir())
    return sorted(name.removesuffix(".json") for name in files if name.endswith(".json"))


def save_machine(machine: Machine, path: Path) -> None:
    """Writes `machine` as a topology file: whole, or not at all and SystemRefused."""
    jsonio.write_text(path, machine_text(machine))


def machine_text(machine: Machine) -> str:
    """`machine` as the text of a topology file: a figure, a node or a list of numbers takes one line."""
    return _text(jsonio.plain(machine), "") + "\n"


def _bundled(name: str) -> Machine:
    source = f"{name}.json"
    document = jsonio.parse_json((resources.files("mapper.topologies") / source).read_bytes(), source)
    jsonio.require_schema(document, SCHEMA, source)
    return jsonio.validated(Machine, document, source)


def _text(value: Any, indent: str) -> str:
    if _is_flat(value):
        return _line(value)
    deeper = indent + "  "
    if isinstance(value, dict):
        texts = {key: f"{json.dumps(key)}: {_text(part, deeper)}" for key, part in value.items()}
        short = {key for key, part in value.items() if isinstance(part, str | int) and indent}
        lines = _joined([(key in short, text) for key, text in texts.items()])
        return "{\n" + ",\n".join(deeper + line for line in lines) + f"\n{indent}}}"
    return "[\n" + ",\n".join(deeper + _text(part, deeper) for part in value) + f"\n{indent}]"


def _joined(parts: list[tuple[bool, str]]) -> list[str]:
    """The texts of `parts` as lines: neighbours that are short (True) share one."""
    lines: list[str] = []
    for short, texts in itertools.groupby(parts, key=lambda part: part[0]):
        line = [text for _, text in texts]
        lines += [", ".join(line)] if short else line
    return lines


def _is_flat(value: Any) -> bool:
    """Whether `value` is a number, a text, a figure, or a list of numbers or short CPU lists."""
    if isinstance(value, dict):
        return not any(isinstance(part, dict | list) for part in value.values())
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
