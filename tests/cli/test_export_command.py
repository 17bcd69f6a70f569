"""`mapper export` as a command: what it writes, what it refuses, and that it leaves nothing half done."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mapper.exporters.pinning import numactl
from mapper.exporters.registry import TARGETS, Target
from mapper.plans.file import save_plan
from tests.cli.commands import mapper
from tests.exporters.plans import pinned
from tests.tracing import machine_of

PINNING = [target for target in TARGETS.values() if not target.computes]


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """A plan file in a folder of its own."""
    path = tmp_path / "plans" / "plan.json"
    path.parent.mkdir()
    save_plan(pinned([2], [2], machine_of([range(5)])), path)
    return path


@pytest.mark.parametrize("target", PINNING, ids=lambda target: target.name)
def test_targets_that_only_pin(target: Target, plan: Path, tmp_path: Path) -> None:
    name, suffix = target.name, target.suffix
    out = tmp_path / f"out{suffix}"
    result = mapper("export", plan, "--to", name, "-o", out)
    assert (result.code, result.out) == (0, f"{out}: {TARGETS[name].title}\n")
    assert out.is_file() if suffix else (out / "README.md").is_file()
    assert ("README.md" in result.err) == (not suffix)
    assert sorted(os.listdir(tmp_path)) == sorted([out.name, "plans"])
    assert mapper("export", plan, "--to", name, "-o", out).code == 0, "an export is replaced by another"


def test_a_bundle_is_a_plan_too(plan: Path, tmp_path: Path) -> None:
    assert mapper("export", plan.parent, "--to", "csv", "-o", tmp_path / "out.csv").code == 0


def test_an_unknown_target_and_its_near_names(plan: Path, tmp_path: Path) -> None:
    result = mapper("export", plan, "--to", "numctl", "-o", tmp_path / "out")
    assert result.code == 3 and "no export target is called 'numctl'" in result.err
    assert "Did you mean numactl" in result.err
    far = mapper("export", plan, "--to", "zzz", "-o", tmp_path / "out")
    assert far.code == 3 and "One of json, csv, dot" in far.err


def test_a_folder_that_is_no_export_stays(plan: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "README.md").write_text("# mine\n")
    result = mapper("export", plan, "--to", "numactl", "-o", there)
    assert result.code == 3 and "is there already, and is no export" in result.err
    assert [file.name for file in there.iterdir()] == ["README.md"]
    file = tmp_path / "file"
    file.write_text("mine")
    assert mapper("export", plan, "--to", "numactl", "-o", file).code == 3
    assert file.read_text() == "mine"


def test_an_empty_folder_is_filled(plan: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert mapper("export", plan, "--to", "numactl", "-o", tmp_path / "out").code == 0


def test_one_export_takes_the_place_of_another(plan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for target in ("omp-places", "numactl"):
        assert mapper("export", plan, "--to", target, "-o", out).code == 0
    assert sorted(os.listdir(out)) == ["README.md", "launch.sh", "worker.sh"], "nothing of the first is left"


@pytest.mark.parametrize("target", ["numactl", "csv"])
def test_where_nothing_can_be_written(target: str, plan: Path, tmp_path: Path) -> None:
    result = mapper("export", plan, "--to", target, "-o", tmp_path / "absent" / "out")
    assert result.code == 10 and "cannot be written" in result.err
    proc = mapper("export", plan, "--to", target, "-o", "/proc/out")
    assert proc.code == 10 and "/proc/out cannot be written" in proc.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes into read-only folders")
@pytest.mark.parametrize("target", ["numactl", "csv"])
def test_a_read_only_folder(target: str, plan: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    result = mapper("export", plan, "--to", target, "-o", locked / "out")
    assert result.code == 10 and "cannot be written" in result.err


def test_a_file_where_a_folder_is(plan: Path, tmp_path: Path) -> None:
    result = mapper("export", plan, "--to", "csv", "-o", tmp_path)
    assert result.code == 10 and "cannot be written" in result.err


@pytest.mark.parametrize("options", [("--backend", "eager"), ("--model", "vit")])
def test_options_of_targets_that_compute(options: tuple[str, ...], plan: Path, tmp_path: Path) -> None:
    result = mapper("export", plan, "--to", "slurm", "-o", tmp_path / "out", *options)
    assert result.code == 2 and f"slurm takes no {options[0]}" in result.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("target", [t for t in TARGETS.values() if t.computes], ids=lambda target: target.name)
def test_a_back_end_that_a_target_does_not_take(target: Target, plan: Path, tmp_path: Path) -> None:
    result = mapper("export", plan, "--to", target.name, "-o", tmp_path / "out", "--backend", "abacus", "--trust")
    assert result.code == 2 and "abacus" in result.err
    assert not (tmp_path / "out").exists()


def test_a_plan_that_a_target_cannot_express(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    save_plan(pinned([2], [2]), path)
    result = mapper("export", path, "--to", "kubernetes", "-o", tmp_path / "out")
    assert result.code == 2 and "--reserve 1/host" in result.err
    assert os.listdir(tmp_path) == ["plan.json"]


def test_interrupted_writes_leave_nothing(plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    assert mapper("export", plan, "--to", "omp-places", "-o", out).code == 0
    before = sorted(os.listdir(out))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(numactl, "write_readme", interrupt)
    assert mapper("export", plan, "--to", "numactl", "-o", out).code == 130
    assert sorted(os.listdir(out)) == before and sorted(os.listdir(tmp_path)) == ["out", "plans"]
