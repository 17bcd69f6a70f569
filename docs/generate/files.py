"""The reference of the files, from the JSON Schemas that `mapper schema` gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from docs.generate.cli import cell, escaped
from mapper.cli.schema import Kind, schema_of

PAGES = {
    "plan": "The plan file",
    "topology": "The topology file",
    "cluster": "The cluster file",
    "model": "The model card",
    "graph": "The graph file",
    "problem": "The problem file",
    "problem-plan": "The plan of a problem file",
    "front": "The front",
    "profile": "The profile",
    "program": "The program of a bundle",
    "host-study": "The study of a host",
}
"""Titles. A kind of file that is not here has its name for one."""


def pages() -> dict[str, str]:
    """A page for each kind of file, by its name."""
    return {kind.value: page(kind) for kind in Kind}


def page(kind: Kind) -> str:
    """The page of `kind`, in Markdown: a table of the fields of the file and of each record in it."""
    schema = schema_of(kind)
    title = PAGES.get(kind.value, kind.value)
    lines = [f"# {title}", "", f"`mapper schema {kind.value}` prints its JSON Schema, which this page is made of."]
    lines += ["", *_record(schema)]
    for name, record in schema.get("$defs", {}).items():
        lines += [f"## {name}", "", *_record(record)]
    return "\n".join(lines) + "\n"


def _record(record: dict[str, Any]) -> Iterator[str]:
    if record.get("description"):
        yield from [escaped(record["description"]), ""]
    properties: dict[str, Any] = record.get("properties", {})
    if not properties:
        yield from [f"{_type(record).capitalize()}.", ""]
        return
    yield from ["| field | is | |", "| --- | --- | --- |"]
    required = record.get("required", ())
    for name, given in properties.items():
        notes = [escaped(given.get("description", ""))]
        if name not in required:
            notes.append(f"Default: {_default(given['default'])}." if "default" in given else "May be left out.")
        yield f"| `{name}` | {cell(_type(given))} | {cell(' '.join(filter(None, notes)))} |"
    more = record.get("additionalProperties", True)
    yield from ["", "Other fields are refused." if more is False else "Other fields are kept as they are.", ""]


def _default(value: Any) -> str:
    if isinstance(value, dict | list) and len(str(value)) > 40:
        return "see the schema"
    return {"None": "none", "True": "`true`", "False": "`false`", "": '`""`'}.get(str(value), f"`{value}`")


def _type(given: dict[str, Any]) -> str:
    """What a field may be, in words."""
    if "$ref" in given:
        name = given["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in given:
        return f"`{_json(given['const'])}`"
    if "enum" in given:
        return ", ".join(f"`{_json(value)}`" for value in given["enum"])
    for key in ("anyOf", "oneOf", "allOf"):
        if key in given:
            return " or ".join(dict.fromkeys(_type(each) for each in given[key]))
    kind = given.get("type", "any")
    match kind:
        case "array" if "prefixItems" in given:
            return f"array of {', '.join(_type(each) for each in given['prefixItems'])}"
        case "array":
            return f"array of {_type(given['items'])}" if isinstance(given.get("items"), dict) else "array"
        case "object" if isinstance(given.get("additionalProperties"), dict):
            return f"object of {_type(given['additionalProperties'])}"
        case list():
            return " or ".join(kind)
    return "nothing" if kind == "null" else str(kind) + _bounds(given)


def _bounds(given: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "\\<"}
    bounds = [f"{sign} {given[key]}" for key, sign in signs.items() if key in given]
    return f" {' and '.join(bounds)}" if bounds else ""


def _json(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
