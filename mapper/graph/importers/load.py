"""`load_graph`: a graph file of any format that is known, told apart by what is in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mapper import jsonio
from mapper.errors import BadInput
from mapper.graph.importers import dnn_partitioning, pipedream
from mapper.graph.model import SCHEMA, Graph

KNOWN = (
    f"Known: our own JSON (schema {SCHEMA}, written by `mapper model trace`), dnn-partitioning JSON (nodes and edges), "
    "PipeDream graph.txt."
)
_NOT_FINITE = re.compile(r"(?<![\w.\"])(?:NaN|-?Infinity|-?\d+(?:\.\d+)?[eE]\+?\d{3,})(?=\s*[,}\]\n])")


def load_graph(path: str | Path) -> Graph:
    """The graph in the file `path`. Times of foreign files are milliseconds; those of the graph are seconds.

    Raises: BadInput with the line or the JSON pointer of what is wrong; for a cycle it names the ops on it.
    """
    path = Path(path)
    data = jsonio.read_bytes(path)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise BadInput(str(path), "not UTF-8 text, so no graph file", advice=KNOWN) from None
    if not text.strip():
        raise BadInput(str(path), "the file is empty", advice=KNOWN)
    if path.suffix == ".json" or text.lstrip()[0] in "{[":
        return _of_json(_parsed(text, str(path)), path)
    if path.suffix == ".txt" or pipedream.looks_like_it(text):
        return pipedream.parse(text, str(path), _name(path))
    raise BadInput(str(path), "unknown graph format", advice=KNOWN)


def is_graph_file(source: str) -> bool:
    """Whether `source` names a graph file rather than a model: a file that is there, ending in .json or .txt."""
    return Path(source).suffix in (".json", ".txt") and Path(source).is_file()


def _of_json(document: Any, path: Path) -> Graph:
    if isinstance(document, dict) and "schema" in document:
        jsonio.require_schema(document, SCHEMA, str(path))
        return jsonio.validated(Graph, document, str(path))
    if isinstance(document, dict) and "nodes" in document:
        return dnn_partitioning.parse(document, str(path), _name(path))
    raise BadInput(str(path), "JSON, but no graph that is known: no `schema`, no `nodes`", advice=KNOWN)


def _parsed(text: str, source: str) -> Any:
    """The JSON document; a number that is not finite is an error with its line."""
    try:
        return jsonio.parse_json(text, source)
    except BadInput as error:
        found = None if error.place else _NOT_FINITE.search(text)
        if found is None:
            raise
        line = text.count("\n", 0, found.start()) + 1
        column = found.start() - text.rfind("\n", 0, found.start())
        what = f"{found[0]} is no cost: numbers must be finite"
        raise BadInput(source, what, place=f"line {line}, column {column}") from None


def _name(path: Path) -> str:
    """What the graph is called: the file's name, or its folder's where all files are called graph.txt."""
    folder = path.resolve().parent.name
    return folder if path.stem == "graph" and folder else path.stem
