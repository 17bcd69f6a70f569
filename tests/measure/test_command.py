"""`mapper calibrate` as a user sees it: a valid file, Ctrl-C and going on, who else measures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mapper.execution.place import Claim
from mapper.measure.probe import compiled
from tests.cli.commands import TINY, Result, mapper

pytestmark = pytest.mark.machine

QUICK = ("--rounds", "1", "--seconds", "0.01", "--only", "machine")
SLOW = ("--rounds", "3", "--seconds", "0.05", "--only", "machine")
PATIENCE_S = 120.0
"""How long to wait for other runs of mapper on this machine."""

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    monkeypatch.delenv("MAPPER_EMULATED", raising=False)
    return folder / "mapper"


def started(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mapper", "calibrate", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def calibrated(*arguments: object) -> Result:
    """A calibration in a process of its own, once no other run of mapper has the cores."""
    until = time.monotonic() + PATIENCE_S
    while True:
        process = started(*arguments)
        out, err = process.communicate(timeout=PATIENCE_S)
        if process.returncode != 6 or "taken by another run" not in err or time.monotonic() > until:
            return Result(process.returncode, out, err)
        time.sleep(1)


def states(folder: Path) -> list[Path]:
    return list(folder.glob("calibrate-*.jsonl"))


def test_a_quick_calibration_is_a_right_topology_file(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "host.json"
    done = calibrated(*QUICK, "-o", file)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert "measured" in lines[0]
    assert lines[1].startswith("Others took ")
    assert lines[-1] == f"Written to {file}."
    checked = mapper("topo", "check", file)
    assert (checked.code, checked.err) == (0, "")
    document = json.loads(file.read_text())
    assert document["overheads"]["dispatch_s"]["kind"] == "measured"
    assert document["overheads"]["dispatch_s"]["source"].startswith("mapper calibrate: one round, ")
    assert document["notes"][-1].startswith("Calibrated: ")
    assert states(cache) == []


@pytest.mark.soak
def test_rates_of_ops_go_into_the_file_and_plans_use_them(tmp_path: Path, cache: Path) -> None:
    """With a spread that refuses nothing: on a busy machine single rounds are far off."""
    file = tmp_path / "host.json"
    done = calibrated("--rounds", "1", "--seconds", "0.01", "--only", "rates", "--max-spread", "99%", "-o", file)
    assert done.code == 0, done.err
    rates = json.loads(file.read_text())["compute"]["rates"]
    assert rates["matmul"]["unit_s"]["kind"] == "measured"
    assert {"conv.depthwise", "normalization", "transcendental.gelu"} <= set(rates)
    told = mapper("model", "cost", TINY, "--topo", file, "--op", "linear")
    assert told.code == 0, told.err
    assert "rate of matmul" in told.out
    assert states(cache) == []


def test_json_is_one_document(tmp_path: Path) -> None:
    done = calibrated(*QUICK, "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert document.keys() == {"figures", "others_busy", "warnings", "machine"}
    kinds = {row["state"] for row in document["figures"]}
    assert "measured" in kinds
    assert compiled() or "not measured" in kinds
    for row in document["figures"]:
        assert row["state"] == "not measured" or row["low"] <= row["value"] <= row["high"]


def test_a_description_of_this_machine_keeps_its_other_figures(tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    assert mapper("topo", "discover", "-o", own).code == 0
    document = json.loads(own.read_text())
    document["overheads"]["handoff_s"] = {"value": 1.25e-5, "kind": "measured", "source": "by hand"}
    own.write_text(json.dumps(document))
    file = tmp_path / "new.json"
    done = calibrated(*QUICK, "--topo", own, "-o", file)
    assert done.code == 0, done.err
    assert json.loads(file.read_text())["overheads"]["handoff_s"] == document["overheads"]["handoff_s"]


@pytest.fixture
def interrupted(cache: Path) -> Iterator[subprocess.Popen[str]]:
    """A calibration that has measured something and is at it still."""
    until = time.monotonic() + PATIENCE_S
    process = started(*SLOW)
    while not (states(cache) and states(cache)[0].read_bytes().count(b"\n") > 4):
        if process.poll() is not None:
            assert process.communicate()[1].count("taken by another run"), "it ended"
            time.sleep(1)
            process = started(*SLOW)
        assert time.monotonic() < until
        time.sleep(0.01)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.soak)]
)
def test_interrupted_it_goes_on_where_it_was(
    interrupted: subprocess.Popen[str], cache: Path, number: signal.Signals, code: int
) -> None:
    interrupted.send_signal(number)
    _, err = interrupted.communicate(timeout=30)
    assert interrupted.returncode == code
    assert "measurements are kept: the same command goes on from there" in err
    assert "Traceback" not in err
    kept = states(cache)[0].read_bytes().count(b"\n") - 1
    done = calibrated(*SLOW)
    assert done.code == 0, done.err
    assert f"mapper: going on after {kept} of " in done.err
    assert states(cache) == []


@pytest.mark.soak
def test_killed_it_goes_on_too_or_begins_anew_when_told(interrupted: subprocess.Popen[str], cache: Path) -> None:
    interrupted.kill()
    interrupted.communicate()
    state = states(cache)[0]
    state.write_bytes(state.read_bytes()[:-3])
    kept = state.read_bytes().count(b"\n") - 1
    again = started(*SLOW)
    assert again.stderr is not None
    assert f"going on after {kept} of " in again.stderr.readline()
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=30)
    done = calibrated(*SLOW, "--fresh")
    assert done.code == 0
    assert "going on" not in done.err


def test_where_nothing_can_be_kept_it_says_so_and_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    done = calibrated(*QUICK)
    assert done.code == 0
    assert "this calibration cannot be resumed" in done.err


def test_two_at_once_are_told(tmp_path: Path) -> None:
    pu = min(os.sched_getaffinity(0))
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            with Claim([pu]):
                done = mapper("calibrate", *QUICK)
            break
        except Exception:
            assert time.monotonic() < until
            time.sleep(1)
    assert done.code == 6
    assert f"PU {pu} by process {os.getpid()}" in done.err


def test_an_emulated_machine_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAPPER_EMULATED", "1")
    done = mapper("calibrate", *QUICK, "-o", tmp_path / "host.json")
    assert (done.code, done.out) == (10, "")
    assert "emulated" in done.err
    assert not (tmp_path / "host.json").exists()


def test_another_machine_is_refused() -> None:
    done = mapper("calibrate", *QUICK, "--topo", "sg2042")
    assert (done.code, done.out) == (6, "")
    assert "another machine than this one" in done.err


@pytest.mark.parametrize(
    "options", [("--rounds", "0"), ("--seconds", "0"), ("--max-spread", "much"), ("--only", "everything")]
)
def test_options_that_make_no_sense(options: tuple[str, str]) -> None:
    assert mapper("calibrate", *options).code == 2
