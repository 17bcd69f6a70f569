"""Malformed topology files: each gives its own message with the place, and exit code 3."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mapper.errors import BadInput
from mapper.jsonio import dumps, plain
from mapper.machine.files import load_machine

TEXT = dumps(plain(load_machine("sg2042")))

Document = dict[str, Any]
Change = Callable[[Document], object]


def put(value: Any, *path: str | int) -> Change:
    """A change that sets the part of a document at `path`."""

    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return change


CASES: dict[str, tuple[Change, str, str]] = {
    "wrong schema version": (put("mapper-topology/2", "schema"), "/schema", "'mapper-topology/1' was expected"),
    "no schema": (lambda d: d.pop("schema"), "/schema", "schema is None"),
    "unknown field": (put(1, "memory", "colour"), "/memory/colour", "unknown field"),
    "unknown field at the top": (put(1, "a/b~c"), "/a~1b~0c", "unknown field"),
    "missing field": (lambda d: d.pop("nodes"), "/nodes", "Field required"),
    "core in two groups": (
        put("4-6,3", "nodes", 0, "groups", 1),
        "/nodes/0/groups/1",
        "PU 3 is already in /nodes/0/groups/0; a core belongs to one group",
    ),
    "group in two nodes": (
        put("4-7", "nodes", 1, "groups", 2),
        "/nodes/1/groups/2",
        "this group is already /nodes/0/groups/1; a group belongs to one node",
    ),
    "duplicate PU": (put("0-3,2", "nodes", 0, "groups", 0), "/nodes/0/groups/0", "PU 2 is given twice"),
    "duplicate PU in one core": (put(["0,0"], "nodes", 0, "groups", 0), "/nodes/0/groups/0", "PU 0 is given twice"),
    "empty group": (put("", "nodes", 0, "groups", 0), "/nodes/0/groups/0", "a group needs at least one core"),
    "not a CPU list": (put("0-x", "nodes", 0, "groups", 0), "/nodes/0/groups/0", "'0-x' is not a CPU list"),
    "no core": (put([{"groups": []}], "nodes"), "/nodes", "no core at all"),
    "no node": (put([], "nodes"), "/nodes", "at least 1 item"),
    "zero capacity": (put(0, "caches", 1, "bytes"), "/caches/1/bytes", "must be greater than zero, not 0"),
    "negative capacity": (put(-5, "caches", 1, "bytes", "value"), "/caches/1/bytes", "greater than zero, not -5"),
    "negative memory": (put(-1, "nodes", 2, "memory_bytes"), "/nodes/2/memory_bytes", "greater than zero"),
    "efficiency over 1": (
        put(1.5, "compute", "efficiency", "conv"),
        "/compute/efficiency/conv",
        "must be in (0, 1], not 1.5",
    ),
    "bounds out of order": (
        put({"value": 1, "low": 2}, "overheads", "dispatch_s"),
        "/overheads/dispatch_s",
        "low, value and high must be in this order",
    ),
    "asymmetrical distances": (
        put(16, "distances", 1, 0),
        "/distances/0/1",
        "15, but /distances/1/0 is 16",
    ),
    "too small matrix": (lambda d: d["distances"].pop(), "/distances", "a 4 × 4 matrix was expected"),
    "short row": (lambda d: d["distances"][2].pop(), "/distances", "a 4 × 4 matrix was expected"),
    "nearer than itself": (
        lambda d: [put(5, "distances", 0, 1)(d), put(5, "distances", 1, 0)(d)],
        "/distances/0/1",
        "nearer than the node is to itself",
    ),
    "zero distance": (put(0, "distances", 2, 2), "/distances/2/2", "must be greater than zero, not 0"),
    "unknown kind": (
        put("guessed", "frequency_hz", "kind"),
        "/frequency_hz/kind",
        "'specified', 'measured', 'inferred' or 'assumed'",
    ),
    "unknown distance": (lambda d: d["links"].update(near=d["links"]["node"]), "/links/near", "Input should be 'core'"),
    "missing link": (lambda d: d["links"].pop("node"), "/links", "the distance 'node' is missing"),
    "two caches of one level": (
        lambda d: d["caches"].append(d["caches"][1]),
        "/caches",
        "two caches of one level are shared by each group",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_malformed_topology_names_the_place_and_the_reason(case: str, tmp_path: Path) -> None:
    change, place, message = CASES[case]
    document = json.loads(TEXT)
    change(document)
    (tmp_path / "bad.json").write_text(json.dumps(document))
    with pytest.raises(BadInput) as caught:
        load_machine(tmp_path / "bad.json")
    error = caught.value
    assert error.place == place
    assert message in str(error)
    assert str(error).startswith(f"{tmp_path / 'bad.json'}, {place}: ")
    assert error.exit_code == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, column 1: not JSON"),
        (TEXT[:2000], "not JSON"),
        ("[]", "a JSON object was expected, not list"),
        (TEXT.replace('"value": 0.12,', '"value": NaN,'), "NaN is not JSON"),
        (
            TEXT.replace('"value": 0.12,', '"value": 1e999,'),
            "bad.json: the number 1e999 is too large",
        ),
        (TEXT.replace('"name"', '"schema"', 1), "the key 'schema' is given twice"),
        ("[" * 200_000, "nested more than"),
        ("\udcff", "not UTF-8"),
    ],
)
def test_text_that_is_no_topology(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(BadInput) as caught:
        load_machine(tmp_path / "bad.json")
    assert message in str(caught.value)
