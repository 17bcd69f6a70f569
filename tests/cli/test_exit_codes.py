"""What goes wrong is told in one message, with the exit code that the help promises; nothing goes to stdout."""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path

import pytest

from mapper.machine.files import load_machine, machine_text
from tests.cli.commands import TINY, mapper

PLAN = ("plan", "--topo", "sg2042", "--model")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


CASES: dict[str, tuple[tuple[str, ...], int, str]] = {
    "no such option": (("plan", "--nope"), 2, "No such option: --nope"),
    "no such command": (("plam",), 2, "No such command 'plam'"),
    "a number below its least": ((*PLAN, TINY, "--batch", "0"), 2, "--batch"),
    "a missing option": (("plan",), 2, "--model NAME or --graph FILE"),
    "an unknown unit": ((*PLAN, TINY, "--max-latency", "5parsec"), 2, "mapper: '5parsec': unknown unit"),
    "a negative fraction": ((*PLAN, TINY, "--near-optimal=-5%"), 2, "must not be negative"),
    "an unknown configuration": ((*PLAN, TINY, "--configurations", "3x3"), 2, "'3x3' is no configuration"),
    "more stages than ops": ((*PLAN, TINY, "--stages", "100000"), 2, "100000 stages were asked for"),
    "a missing plan": (("check", "absent.json"), 3, "mapper: absent.json: no such file"),
    "a missing card": ((*PLAN, "absent.toml"), 3, "mapper: absent.toml: no such file"),
    "a missing topology": (("plan", "--model", TINY, "--topo", "./absent.json"), 3, "no such file"),
    "an unknown model": ((*PLAN, "mobilnetv2"), 3, "no model is called 'mobilnetv2'\nDid you mean mobilenetv2?"),
    "an unknown topology": (
        ("plan", "--model", TINY, "--topo", "sg2024"),
        3,
        "no machine is called 'sg2024'\nDid you mean sg2044 or sg2042?",
    ),
    "a source without a module": ((*PLAN, ":build"), 3, "not of the form package.module:name"),
    "weights that are not there": ((*PLAN, TINY, "--weights", "absent.safetensors"), 3, "absent.safetensors"),
    "a library that is not there": ((*PLAN, "nolibrary:build"), 8, "python -m pip install nolibrary"),
    "a folder that is not there": (
        (*PLAN, TINY, "-o", "absent/plan.json"),
        10,
        "mapper: absent/plan.json cannot be written: No such file or directory",
    ),
    "a folder to write to": ((*PLAN, TINY, "-o", "."), 10, "mapper: . cannot be written: Is a directory"),
}


@pytest.mark.parametrize("name", CASES)
def test_exit_codes(name: str) -> None:
    arguments, code, message = CASES[name]
    result = mapper(*arguments)
    assert (result.code, result.out) == (code, "")
    assert message in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"schema": "mapper-plan/1",\n "model": }', "plan.json, line 2, column 11: not JSON"),
        ('{"schema": "mapper-plan/2"}', "plan.json, /schema: schema is 'mapper-plan/2', 'mapper-plan/1' was expected"),
        ('{"schema": "mapper-plan/1"}', "plan.json, /model: Field required"),
        ("[]", "plan.json: a JSON object was expected, not list"),
    ],
)
def test_a_plan_that_is_none(folder: Path, text: str, message: str) -> None:
    (folder / "plan.json").write_text(text)
    result = mapper("check", "plan.json")
    assert (result.code, result.out) == (3, "")
    assert result.err.startswith(f"mapper: {message}")


def test_a_topology_that_is_cut_off(folder: Path) -> None:
    text = machine_text(load_machine("sg2042"))
    (folder / "half.json").write_text(text[: len(text) // 2])
    result = mapper("plan", "--model", TINY, "--topo", "half.json")
    assert result.code == 3
    assert re.match(r"mapper: half.json, line \d+, column \d+: not JSON", result.err)


def test_infeasible_limits_come_with_a_lever_that_helps() -> None:
    result = mapper(*PLAN, TINY, "--max-latency", "1us")
    assert (result.code, result.out) == (4, "")
    lever = re.search(r"  (--max-latency) (\S+) ", result.err)
    assert lever is not None
    again = mapper(*PLAN, TINY, *lever.groups())
    assert again.code == 0
    assert "Best throughput with latency ≤ " in again.out


def test_ctrl_c_is_told_and_leaves_the_old_file(folder: Path) -> None:
    (folder / "plan.json").write_text("precious")
    result = mapper(*PLAN, "tests.program.modules:interrupted", "-o", "plan.json")
    assert (result.code, result.out, result.err) == (130, "", "mapper: interrupted\n")
    assert (folder / "plan.json").read_text() == "precious"


def test_an_old_file_stays_whole_when_the_new_one_cannot_be_written(folder: Path) -> None:
    (folder / "plan.json").write_text("precious")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        result = mapper(*PLAN, TINY, "-o", "plan.json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert result.code == 10
    assert result.err == "mapper: plan.json cannot be written: File too large\n"
    assert (folder / "plan.json").read_text() == "precious"
    assert os.listdir(folder) == ["plan.json"]
