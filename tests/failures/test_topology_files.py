"""Malformed topology files: each gives its own message with the place, and exit code 3."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mapper.errors import BadInput
from mapper.jsonio import dumps, plain
from mapper.machine.files import load_machine
from tests.failures.changes import Change, put

TEXT = dumps(plain(load_machine("sg2042")))


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
    "regular: no level": (put({"shape": "cluster:4"}, "nodes"), "/nodes/shape", "'cluster:4' is not a level"),
    "regular: order": (put({"shape": "core:4 numa:2"}, "nodes"), "/nodes/shape", "'numa:2' is out of order"),
    "regular: attributes": (put({"shape": "core:4(l2=1MiB)"}, "nodes"), "/nodes/shape", "have fields of their own"),
    "regular: too few PUs": (
        put({"shape": "core:4", "pus": "0-2"}, "nodes"),
        "/nodes/pus",
        "3 PUs, but the shape has 4",
    ),
    "regular: no list": (put({"shape": "core:4", "pus": "0-x"}, "nodes"), "/nodes/pus", "'0-x' is not a CPU list"),
    "regular: threads": (
        put({"shape": "core:4 pu:2", "pus": ["0-3"]}, "nodes"),
        "/nodes/pus",
        "1 lists, but the shape has 2 PUs a core",
    ),
    "regular: short thread": (
        put({"shape": "core:4 pu:2", "pus": ["0-3", "4-6"]}, "nodes"),
        "/nodes/pus/1",
        "3 PUs, but the shape has 4 cores",
    ),
    "regular: duplicate": (
        put({"shape": "core:4", "pus": "0-2,2"}, "nodes"),
        "/nodes/0/groups/0",
        "PU 2 is given twice",
    ),
    "regular: unknown field": (put({"shape": "core:4", "cpus": "0-3"}, "nodes"), "/nodes/cpus", "unknown field"),
    "regular: negative memory": (
        put({"shape": "core:4", "memory_bytes": -1}, "nodes"),
        "/nodes/memory_bytes",
        "greater than zero",
    ),
    "core of no kind": (
        put([{"name": "P", "cores": "0-62", "speed": 1}], "core_kinds"),
        "/core_kinds",
        "core 63 is of no kind",
    ),
    "core of two kinds": (
        put([{"name": "P", "cores": "0-63", "speed": 1}, {"name": "E", "cores": "8", "speed": 0.5}], "core_kinds"),
        "/core_kinds/1/cores",
        "core 8 is in two kinds",
    ),
    "kind of an absent core": (
        put([{"name": "P", "cores": "0-64", "speed": 1}], "core_kinds"),
        "/core_kinds/0/cores",
        "core 64 does not exist, there are 64",
    ),
    "speed over 1": (
        put([{"name": "P", "cores": "0-63", "speed": 2}], "core_kinds"),
        "/core_kinds/0/speed",
        "must be in (0, 1], not 2",
    ),
    "places for too few groups": (
        lambda d: d["layout"]["groups"].pop(),
        "/layout/groups",
        "15 places, but there are 16 groups",
    ),
    "two groups in one place": (
        put([1, 1], "layout", "groups", 3),
        "/layout/groups",
        "two groups lie in one place",
    ),
    "controller of an absent node": (
        put(4, "layout", "controllers", 0, "node"),
        "/layout/controllers/0/node",
        "there are 4 nodes, from 0",
    ),
    "part of another size": (
        put({"fingerprint": "x", "cores": "0-3"}, "part_of"),
        "/part_of/cores",
        "4 cores, but the machine has 64",
    ),
    "a source that is not there": (
        put("[nobody] said so", "caches", 2, "bytes", "source"),
        "/caches/2/bytes/source",
        "[nobody] is not in /sources",
    ),
    "negative threads' cost": (
        put({"4": -1}, "overheads", "fork_join_s"),
        "/overheads/fork_join_s/4",
        "must not be negative",
    ),
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
