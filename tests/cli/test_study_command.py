"""The options of `mapper study`: which mean something on which machine; what is measured is in tests/study/host."""

from __future__ import annotations

import json

import pytest

from mapper.cli.schema import DRAFT
from tests.cli.commands import mapper


@pytest.mark.parametrize(
    "arguments",
    [("--topo", "host", "--samples", "3"), ("--topo", "host", "--figures", "x"), ("--quick",), ("--map", "--quick"),
     ("--topo", "sg2042", "--rounds", "2")],
)  # fmt: skip
def test_options_of_the_other_way_are_refused(arguments: tuple[str, ...]) -> None:
    result = mapper("study", *arguments)
    assert result.code == 2 and "--topo host" in result.err and not result.out


@pytest.mark.parametrize("sizes", ["", "0", "1,,2", "one"])
def test_sizes_are_positive_whole_numbers(sizes: str) -> None:
    for topo in ("host", "sg2042"):
        result = mapper("study", "--topo", topo, "--items", sizes)
        assert result.code == 2 and "1,8,64" in result.err


def test_the_file_of_a_measured_study_has_a_schema() -> None:
    result = mapper("schema", "host-study")
    assert result.code == 0
    schema = json.loads(result.out)
    assert schema["$schema"] == DRAFT and schema["properties"]["schema"]["const"] == "mapper-host-study/1"
