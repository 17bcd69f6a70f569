"""The study of this machine, as small as it can be: for real, interrupted, gone on with, and nothing private in it."""

from __future__ import annotations

import contextlib
import getpass
import json
import re
import socket
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mapper import jsonio
from mapper.errors import MachineMismatch
from mapper.machine.files import load_machine, save_machine
from mapper.machine.model import Machine
from mapper.measure import wanted as measure
from mapper.measure.calibrate import Calibration
from mapper.measure.journal import Journal
from mapper.reports.host_study import host_study_text
from mapper.study.host import ops, study, table
from mapper.study.host.ops import Op
from mapper.study.host.record import HostStudy
from mapper.study.host.study import ATEN, KIND, Kept, Settings, host_study
from mapper.study.host.table import failed, measured_cell
from tests.cli.commands import TINY, mapper

pytestmark = pytest.mark.machine

SMALL = Settings(models=(TINY,), items=(2,), calls=(1,), images=(1,), rounds=1, round_s=0.02)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A cache of its own, PUs that are not claimed (another run may be at work while tests are), few measurements."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(study, "Claim", lambda pus: contextlib.nullcontext())
    monkeypatch.setattr(study, "LOOK_S", 0.05)
    monkeypatch.setattr("mapper.measure.calibrate.wanted_of", _few)
    monkeypatch.setattr(study, "ops_of", _few_ops)
    yield


def _few(machine: Machine, free_bytes: float, compiled: bool, parts: Collection[measure.Part]) -> measure.Wanted:
    """Fork and join and dispatch."""
    every = measure.wanted(machine, free_bytes, compiled, parts[:1])  # type: ignore[index]
    kept = (measure.ForkJoin, measure.Dispatch)
    return measure.Wanted(tuple(m for m in every.measurements if isinstance(m.task, kept)), ())


def _few_ops(machine: Machine, images: tuple[int, ...]) -> list[Op]:
    """A product and a depthwise convolution."""
    every = ops.ops_of(machine, images)
    return [op for op in every if op.case.name in ("matmul 512x512x512", "conv.depthwise 1x960x7x960x3x1")]


def _strings(part: Any) -> Iterator[str]:
    """Every string in a document, keys too."""
    if isinstance(part, str):
        yield part
    for key, value in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
        yield from _strings(key)
        yield from _strings(value)


@pytest.mark.soak
def test_the_command_writes_one_file_with_everything_and_nothing_private(tmp_path: Path) -> None:
    file = tmp_path / "study.json"
    options = ("--model", TINY, "--model", "absent:model", "--items", "2", "--calls", "1", "--rounds", "1",
               "--seconds", "0.02")  # fmt: skip
    result = mapper("study", "--topo", "host", *options, "--json", "-o", file)
    assert result.code == 0, result.err
    document = json.loads(result.out)
    assert document == json.loads(file.read_text())
    said = ["needs the package absent, which is not installed: the table will be without absent:model", "takes about"]
    assert [part in result.err for part in said] == [True, True] and result.err.index(said[0]) < result.err.index(
        said[1]
    )
    found = HostStudy.model_validate(document)
    assert document["schema"] == "mapper-host-study/1" and not found.interrupted
    assert found.build is not None and found.build.torch == torch.__version__
    assert found.machine.counts == found.model_machine.counts  # type: ignore[union-attr]
    assert {row.sort for row in found.ops} == {"matmul", "conv.depthwise"} and found.memory
    assert any(row.place.startswith("/overheads/dispatch_s") for row in found.calibrated)
    tiny, absent = found.cells
    assert not absent.ways and "package absent" in absent.skipped[0].reason, "it costs its own cells only"
    first, *rest = tiny.ways
    assert "native" in first.kinds and first.over_native is None and first.outputs_identical
    assert first.rate_per_s.median > 0 and first.predicted_rate_per_s > 0 and first.latency_s.p50 > 0
    kinds = {kind for way in (first, *rest) for kind in way.kinds}
    if found.machine.counts["cores"] > 1:
        assert kinds == {"native", "copies", "pipeline", "planner"}
        assert all(way.over_native is not None and way.over_native.median > 0 for way in rest)
    assert found.findings and host_study_text(found)[0].startswith(found.machine.title or found.machine.name)
    assert not list((tmp_path / "cache").rglob("*.jsonl")), "what was kept for going on is not needed any more"
    private = [socket.gethostname(), getpass.getuser(), Path.home().as_posix(), Path.cwd().as_posix(), str(tmp_path)]
    for text in _strings(document):
        for name in private:
            assert not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text), text


def test_a_model_that_is_not_there_is_told_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study._Run, "everything", lambda run: pytest.fail("measured"))
    result = mapper("study", "--topo", "host", "--model", TINY, "--model", "mobilenetv")
    assert result.code == 3 and "mobilenetv2" in result.err


@pytest.mark.soak
def test_interrupted_it_gives_what_it_has_and_goes_on_from_there() -> None:
    said: list[str] = []

    def stop(message: str) -> None:
        if "tracing and planning" in message:
            raise KeyboardInterrupt

    found = host_study(SMALL, say=stop, tell=said.append)
    assert found.interrupted and found.ops and found.calibrated and not found.cells
    assert any("the same command goes on" in message for message in said)
    said.clear()
    again = host_study(SMALL, tell=said.append)
    assert any("going on after" in message for message in said), said
    assert not again.interrupted and again.calibrated == found.calibrated and again.ops == found.ops
    assert [cell.model for cell in again.cells] == [TINY] and again.cells[0].ways


def test_what_is_kept_can_be_read_again(tmp_path: Path) -> None:
    machine = load_machine("host")
    calibration = Calibration(figures=(), others_busy=0.0, warnings=(), machine=machine)
    cell = failed("m", 1, MachineMismatch("no"))
    pieces = [Kept(place="calibration", calibration=jsonio.plain(calibration)), Kept(place="m", cell=cell),
              Kept(place="op", op=ops.Round(place="op", round=0, value=1.0, busy_cores=1.5))]  # fmt: skip
    with Journal(tmp_path, "key", 0.0, pytest.fail, KIND) as journal:
        for piece in pieces:
            journal.add(piece)
    with Journal(tmp_path, "key", 1.0, pytest.fail, KIND) as journal:
        assert list(journal.read().entries.values()) == pieces
    assert jsonio.validated(Calibration, pieces[0].calibration, "") == calibration


def test_an_interrupted_command_writes_its_file_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(run: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(study._Run, "everything", stop)
    file = tmp_path / "study.json"
    result = mapper("study", "--topo", "host", "--model", TINY, "-o", file)
    assert result.code == 130, result.err
    document = json.loads(file.read_text())
    assert document["interrupted"] is True and "it was interrupted" in result.out
    assert HostStudy.model_validate(document).build is None


def test_what_takes_too_long_is_left_out_and_says_why() -> None:
    short = SMALL.asked.model_copy(update={"limit_s": 1e-3})
    cell = measured_cell(TINY, 2, load_machine("host"), short, lambda message: None)
    assert not cell.ways and "it would take about" in cell.skipped[0].reason
    assert cell.skipped[-1].what == "all ways"


def test_what_is_slower_than_predicted_ends_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table._Cost, "seconds", lambda self, asked: 0.0)
    short = SMALL.asked.model_copy(update={"limit_s": 1e-3})
    cell = measured_cell(TINY, 2, load_machine("host"), short, lambda message: None)
    assert not cell.ways and "it was not done after" in cell.skipped[-1].reason


@pytest.mark.soak
def test_the_path_of_riscv_is_asked_for_and_computed() -> None:
    asked = Settings(models=(TINY,), items=(1,), rounds=1, round_s=0.02, without_onednn=True).asked
    assert asked.backend == ATEN
    cell = measured_cell(TINY, 1, load_machine("host"), asked, lambda message: None)
    assert cell.ways and all(way.rate_per_s.median > 0 for way in cell.ways), cell.skipped


def test_another_machine_s_description_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    save_machine(load_machine("pack:2 numa:2 group:2 core:4"), other)
    assert mapper("study", "--topo", "host", "--like", other).code == MachineMismatch.exit_code


def test_names_of_models_are_told_without_their_folders() -> None:
    assert Settings(models=("/home/someone/mine.toml", "vit")).asked.models == ("mine", "vit")
