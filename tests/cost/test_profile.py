"""Profile files: written and read, refused where they are broken or stale, merged."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapper.cli.schema import Kind, schema_of
from mapper.cost.profile import (
    MeasuredOps,
    Profile,
    load_profile,
    merged,
    ranges,
    require_same_backend,
    require_same_graph,
    require_same_machine,
    save_profile,
)
from mapper.errors import BadInput, MachineMismatch
from mapper.machine.figures import Figure
from mapper.machine.files import load_machine
from mapper.machine.restrict import restrict
from tests.cost.profiles import profile_with
from tests.planning.test_machines import block_chain

MACHINE = load_machine("pack:1 numa:1 group:2 core:2")
GRAPH = block_chain(4)
NAMES = tuple(op.name for op in GRAPH.ops)


def row(ops: Any = ((0, 4),), seconds: float = 1e-3, **fields: Any) -> MeasuredOps:
    given = {"configuration": "1x1", "residency": "cold", "source": "segment", "rounds": 5} | fields
    return MeasuredOps(ops=ops, median_s=seconds, low_s=seconds, high_s=2 * seconds, **given)


PROFILE = profile_with(GRAPH, MACHINE, [row(), row(((0, 1), (2, 4)), source="stage", residency="stream")])


def test_a_file_keeps_its_schema(tmp_path: Path) -> None:
    save_profile(PROFILE, tmp_path / "p.json")
    document = json.loads((tmp_path / "p.json").read_text())
    validator = jsonschema.Draft202012Validator(schema_of(Kind.profile))
    validator.validate(document)
    for change in ({"schema": "mapper-other/1"}, {"colour": "red"}, {"ops": []}):
        assert not validator.is_valid({**document, **change})


def test_a_file_comes_back(tmp_path: Path) -> None:
    for one in (PROFILE, profile_with(GRAPH, MACHINE)):
        save_profile(one, tmp_path / "p.json")
        assert load_profile(tmp_path / "p.json") == one
        assert load_profile(tmp_path / "p.json").sha256 == one.sha256
    assert PROFILE.names(PROFILE.measurements[1]) == ("op0", "op2", "op3")
    assert PROFILE.measurements[1].count == 3


@given(st.sets(st.integers(0, 40), min_size=1))
def test_ranges_hold_exactly_their_positions(positions: set[int]) -> None:
    found = ranges(sorted(positions))
    assert row(found).positions() == sorted(positions)
    assert all(b < c for (_, b), (c, _) in itertools.pairwise(found))


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("schema", "mapper-profile/2", "/schema"),
        ("ops", ["op0", "op0", "op1", "op2"], "/ops"),
        ("ops", ["op0"], "/measurements/0/ops"),
        ("measurements/0/ops", [[2, 1]], "/measurements/0/ops"),
        ("measurements/0/ops", [[0, 2], [1, 3]], "/measurements/0/ops"),
        ("measurements/0/ops", [], "/measurements/0/ops"),
        ("measurements/0/median_s", 0, "/measurements/0/median_s"),
        ("measurements/0/median_s", "soon", "/measurements/0/median_s"),
        ("measurements/1/low_s", 1.0, "/measurements/1"),
        ("measurements/1/residency", "warm", "/measurements/1/residency"),
        ("measurements/1/others_busy", 2, "/measurements/1/others_busy"),
        ("machine/cores", 0, "/machine/cores"),
        ("surprise", 1, "/surprise"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_its_place(place: str, value: object, told: str, tmp_path: Path) -> None:
    save_profile(PROFILE, tmp_path / "p.json")
    document = json.loads((tmp_path / "p.json").read_text())
    *path, last = place.split("/")
    part: Any = document
    for key in path:
        part = part[int(key)] if isinstance(part, list) else part[key]
    part[last] = value
    (tmp_path / "p.json").write_text(json.dumps(document))
    with pytest.raises(BadInput, match=r"p\.json") as raised:
        load_profile(tmp_path / "p.json")
    assert raised.value.place.startswith(told)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "mapper-profile/1"', "null"])
def test_a_file_that_is_cut_off_is_bad_input(text: str, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(BadInput):
        load_profile(tmp_path / "p.json")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"fingerprint": "0" * 16}, "shape"), ({"cpu_model": "another"}, "CPU model 'another'"),
        ({"isa": "riscv64"}, "instruction set"), ({"frequency_hz": 1e9}, "frequency 1 GHz, not 2 GHz"),
    ],
)  # fmt: skip
def test_another_machine_is_refused_and_what_differs_is_told(changes: dict[str, Any], told: str) -> None:
    here = MACHINE.model_copy(update={"frequency_hz": Figure(value=2e9)})
    own = profile_with(GRAPH, here)
    require_same_machine(own, here)
    require_same_machine(own, restrict(here, cores="0-1"))  # a part of the same machine
    require_same_machine(own, here.model_copy(update={"frequency_hz": Figure(value=2.001e9)}))
    other = own.model_copy(update={"machine": own.machine.model_copy(update=changes)})
    with pytest.raises(MachineMismatch, match="mapper profile") as raised:
        require_same_machine(other, here, "p.json")
    assert told in str(raised.value) and "p.json" in str(raised.value)


def test_another_graph_back_end_or_version_is_refused() -> None:
    require_same_graph(PROFILE, GRAPH.sha256, NAMES)
    with pytest.raises(BadInput, match="/graph_sha256") as raised:
        require_same_graph(PROFILE, block_chain(5).sha256, NAMES)
    assert "Profile the model again" in str(raised.value)
    with pytest.raises(BadInput, match="/ops"):
        require_same_graph(PROFILE, GRAPH.sha256, [*NAMES, "more"])
    require_same_backend(PROFILE, "eager", {"torch": "2.9"})
    with pytest.raises(BadInput, match="back end eager, not with openvino"):
        require_same_backend(PROFILE, "openvino")
    with pytest.raises(BadInput, match=r"torch 2\.9, this is torch 2\.10") as raised:
        require_same_backend(PROFILE, "eager", {"torch": "2.10"})
    assert "Profile the model again" in str(raised.value)


def test_profiles_are_merged_by_name_and_the_later_one_counts() -> None:
    turned = PROFILE.model_copy(update={"ops": NAMES[::-1], "measurements": (row(((0, 1),), 7.0), row(((0, 4),), 9.0))})
    both = merged([PROFILE, turned])
    found = {m.ops: m.median_s for m in both.measurements if m.residency == "cold"}
    assert found == {((0, 4),): 9.0, ((3, 4),): 7.0}
    assert len(both.measurements) == 3
    assert merged([both, both]) == both


@pytest.mark.parametrize(
    "other",
    [
        PROFILE.model_copy(update={"graph_sha256": "0"}), PROFILE.model_copy(update={"backend": "openvino"}),
        PROFILE.model_copy(update={"versions": {"torch": "2.8"}}),
        PROFILE.model_copy(update={"machine": PROFILE.machine.model_copy(update={"cpu_model": "x"})}),
    ],
)  # fmt: skip
def test_profiles_of_two_things_are_not_merged(other: Profile) -> None:
    with pytest.raises((BadInput, MachineMismatch)):
        merged([PROFILE, other])
