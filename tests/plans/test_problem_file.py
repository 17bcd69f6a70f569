"""Problem files: what is read, and what is refused with the place and a message of its own."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from mapper.errors import BadInput
from mapper.plans.problem_file import ProblemFile, read_problem, unpacked
from tests.solver.problem_files import documents, file_of

Document = dict[str, Any]

SMALL: Document = {
    "format": "mapper-problem/1",
    "name": "small",
    "machine": {
        "groups": 2, "cores_per_group": 4, "dram_bytes_per_s": 64.0, "group_cache": {"bytes": 64, "fill": 0.5},
        "chip_cache": {"name": "L3", "bytes": 1024, "fill": 1}, "handoff_s": 0.25, "link_bytes_per_s": 32.0,
        "ring_slots": 2,
    },
    "residencies": ["group", "chip", "dram"],
    "configs": [
        {"name": "1c", "cores": 1, "groups": 1, "cache_shares": 1},
        {"name": "4c", "cores": 4, "groups": 1, "cache_shares": 1},
        {"name": "8c", "cores": 8, "groups": 2, "cache_shares": 2},
    ],
    "ops": [
        {"name": name, "kind": "any", "weights": weights, "footprint": 4,
         "seconds": [[w, 2 * w, 4 * w], [w / 4, w / 2, w], [w / 4, w / 2, w]]}
        for name, weights, w in (("in", [["a", 4]], 8.0), ("left", [["a", 4]], 16.0), ("right", [["b", 16]], 32.0),
                                 ("out", [], 8.0))
    ],
    "tensors": [
        {"producer": "in", "readers": ["left", "right"], "bytes": 8},
        {"producer": 1, "readers": [3], "bytes": 8},
        {"producer": "right", "readers": [3], "bytes": 8},
    ],
}  # fmt: skip


@pytest.fixture
def document() -> Document:
    return copy.deepcopy(SMALL)


def read(document: Document, folder: Path) -> ProblemFile:
    path = folder / "p.json"
    path.write_text(json.dumps(document))
    return read_problem(path)[0]


def test_a_file_is_read_and_named(document: Document, tmp_path: Path) -> None:
    text = json.dumps(document)
    (tmp_path / "p.json").write_text(text)
    file, reference = read_problem(tmp_path / "p.json")
    assert (reference.name, reference.file) == ("small", "p.json")
    assert reference.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert file.order == (0, 1, 2, 3)
    assert file.ends == ((0, (1, 2)), (1, (3,)), (2, (3,)))
    assert file.total_weight_bytes == 20


def test_a_file_without_a_name_is_called_like_the_file(document: Document, tmp_path: Path) -> None:
    del document["name"]
    (tmp_path / "other.json").write_text(json.dumps(document))
    assert read_problem(tmp_path / "other.json")[1].name == "other"


def test_ops_are_put_into_an_order_in_which_they_can_run(document: Document) -> None:
    document["ops"].reverse()
    for tensor in document["tensors"]:
        tensor["producer"], tensor["readers"] = (
            {1: "left", "in": "in", "right": "right"}[tensor["producer"]],
            ["out" if reader == 3 else reader for reader in tensor["readers"]],
        )
    assert file_of(document).order == (3, 1, 2, 0)


@settings(max_examples=60, deadline=None)
@given(documents(most_ops=6))
def test_every_order_keeps_producers_before_readers(document: Document) -> None:
    file = file_of(document)
    place = {v: i for i, v in enumerate(file.order)}
    assert sorted(place) == list(range(len(file.ops)))
    assert all(place[producer] < place[reader] for producer, readers in file.ends for reader in readers)


def change(path: str, value: Any) -> Callable[[Document], None]:
    """Sets what the pointer `path` names."""

    def apply(document: Document) -> None:
        *parents, last = path.strip("/").split("/")
        at: Any = document
        for part in parents:
            at = at[int(part)] if isinstance(at, list) else at[part]
        at[int(last) if isinstance(at, list) else last] = value

    return apply


def cycle(document: Document) -> None:
    document["tensors"].append({"producer": "out", "readers": ["left"], "bytes": 1})


def self_read(document: Document) -> None:
    document["tensors"].append({"producer": "out", "readers": ["out"], "bytes": 1})


def no_chip_column(document: Document) -> None:
    document["residencies"] = ["group", "dram"]
    for op in document["ops"]:
        op["seconds"] = [row[:2] for row in op["seconds"]]


WRONG: dict[str, tuple[Callable[[Document], None], str, str]] = {
    "another version": (change("/format", "mapper-problem/2"), "/format", "'mapper-problem/1' was expected"),
    "a field that is none": (change("/colour", "red"), "/colour", "unknown field"),
    "no ops": (change("/ops", []), "/ops", "at least 1 item"),
    "an unknown producer": (change("/tensors/0/producer", "nothing"), "/tensors/0/producer", "no op 'nothing'"),
    "a reader beyond the ops": (change("/tensors/1/readers/0", 4), "/tensors/1/readers/0", "no op 4"),
    "a position before the ops": (change("/tensors/1/producer", -1), "/tensors/1/producer", "no op -1"),
    "an op that is none": (change("/tensors/1/producer", None), "/tensors/1/producer", "an op was expected"),
    "true for an op": (change("/tensors/1/readers/0", True), "/tensors/1/readers/0", "an op was expected"),
    "a cycle": (cycle, "/tensors/3", "the ops 'out', 'left' wait for each other"),
    "an op that reads itself": (self_read, "/tensors/3", "'out' reads what it produces itself"),
    "a negative time": (change("/ops/1/seconds/0/1", -1.0), "/ops/1/seconds/0/1", "greater than or equal to 0"),
    "a time beyond sums": (change("/ops/1/seconds/0/1", 1e300), "/ops/1/seconds/0/1", "less than or equal to"),
    "negative bytes": (change("/tensors/0/bytes", -1), "/tensors/0/bytes", "greater than or equal to 0"),
    "a negative weight": (change("/ops/0/weights/0/1", -4), "/ops/0/weights/0/1", "greater than or equal to 0"),
    "too few rows": (change("/ops/2/seconds", [[1, 2, 3]]), "/ops/2/seconds", "3 rows were expected"),
    "too short a row": (change("/ops/2/seconds/1", [1, 2]), "/ops/2/seconds/1", "3 numbers were expected"),
    "an op twice": (change("/ops/3/name", "in"), "/ops/3/name", "'in' is the name of op 0 too"),
    "a configuration twice": (change("/configs/1/name", "1c"), "/configs/1/name", "configuration 0 too"),
    "a weight of two sizes": (change("/ops/1/weights/0/1", 5), "/ops/1/weights/0", "5 bytes here and 4 in op 0"),
    "cores that do not divide": (change("/configs/2/cores", 7), "/configs/2/cores", "no multiple of 2 groups"),
    "more cores than a group": (change("/configs/1/cores", 5), "/configs/1/cores", "a group, which has 4"),
    "part of several groups": (change("/configs/2/cores", 4), "/configs/2/cores", "2 of 4 cores of each of 2 groups"),
    "caches that are not there": (change("/configs/1/cache_shares", 2), "/configs/1/cache_shares", "it has 1 groups"),
    "no group": (change("/machine/groups", 0), "/machine/groups", "greater than 0"),
    "groups beyond count": (change("/machine/groups", 10**18), "/machine/groups", "less than or equal to"),
    "cores beyond count": (change("/machine/groups", 300000), "/machine", "1200000 cores, which are more than"),
    "a cache filled beyond": (change("/machine/group_cache/fill", 1.5), "/machine/group_cache/fill", "less than or"),
    "residencies in another order": (
        change("/residencies", ["dram", "chip", "group"]), "/residencies", "nearest first",
    ),
    "a residency that is none": (change("/residencies/1", "node"), "/residencies", "group, node, dram"),
    "a chip cache without a column": (no_chip_column, "/residencies", "has a chip_cache"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_malformed_file_is_refused_at_its_place(name: str, document: Document, tmp_path: Path) -> None:
    apply, place, message = WRONG[name]
    apply(document)
    with pytest.raises(BadInput) as raised:
        read(document, tmp_path)
    assert (raised.value.place, raised.value.source) == (place, str(tmp_path / "p.json"))
    assert message in str(raised.value)


@pytest.mark.parametrize(("text", "message"), [("NaN", "NaN is not JSON"), ("1e999", "too large"), ('"1s"', "number")])
def test_a_number_that_is_none(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps(SMALL).replace('"handoff_s": 0.25', f'"handoff_s": {text}'))
    with pytest.raises(BadInput, match=message):
        read_problem(tmp_path / "p.json")


def test_no_configuration_fits(document: Document, tmp_path: Path) -> None:
    document["machine"]["groups"] = 1
    for i in (0, 0):
        document["configs"].pop(i)
        for op in document["ops"]:
            op["seconds"].pop(i)
    with pytest.raises(BadInput, match="/configs: none fits the machine, which has 4 cores"):
        read(document, tmp_path)


@pytest.mark.parametrize("text", ["[]", '{"format": "mapper-problem/1"}', '{"schema": "mapper-plan/1"}', "{"])
def test_a_file_that_is_something_else(text: str, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(BadInput):
        read_problem(tmp_path / "p.json")


def test_sizes_that_do_not_pack_are_named(document: Document) -> None:
    assert unpacked(file_of(document)) == ""
    document["configs"][0]["cores"] = 3
    assert "configurations of 3 cores do not divide groups of 4" in unpacked(file_of(document))
    document["machine"]["cores_per_group"] = 6
    document["configs"][1] |= {"cores": 2}
    document["configs"][2] |= {"cores": 12}
    assert "configurations of 2 cores do not divide 3" in unpacked(file_of(document))
