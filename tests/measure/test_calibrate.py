"""The course of a calibration, with measurements that are made up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mapper import jsonio
from mapper.errors import MachineMismatch, SystemRefused
from mapper.machine.discover import discover
from mapper.machine.figures import Figure
from mapper.machine.files import load_machine, machine_text
from mapper.machine.model import Machine, figures
from mapper.measure import calibrate as module
from mapper.measure.calibrate import (
    Calibration,
    Settings,
    calibrate,
    described_here,
    journal_for,
    refuse_emulated,
    with_figures,
)
from mapper.measure.journal import CALIBRATION, Journal
from mapper.measure.wanted import Measurement, Wanted, wanted
from tests.machines.trees import booted_on, write_tree

SETTINGS = Settings(rounds=3, seconds=0.01)
Measured = tuple[str, int]


class Fake:
    """Measures nothing: every value is 1, a percent more in each round; stops at the call that is told."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.calls: list[Measured] = []
        self.stop_at = stop_at

    def __call__(self, measurement: Measurement, number: int) -> float:
        if len(self.calls) == self.stop_at:
            raise KeyboardInterrupt
        self.calls.append((measurement.place, number))
        return 1.0 + 0.01 * number


@pytest.fixture
def machine() -> Machine:
    return load_machine("numa:2 group:2 core:2(l1=32KiB l2=1MiB)")


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else computes, as far as these tests can see."""
    monkeypatch.setattr(module, "snapshot", dict)


def run(
    machine: Machine, folder: Path, measure: Callable[[Measurement, int], float], said: list[str] | None = None
) -> Calibration:
    said = [] if said is None else said
    with Journal(folder, "k" * 64, 1e9, said.append, CALIBRATION) as journal:
        return calibrate(machine, plan(machine), SETTINGS, journal.read(), measure, tell=said.append)


def plan(machine: Machine) -> Wanted:
    return wanted(machine, 1e12, True)


def test_rounds_are_interleaved(machine: Machine, tmp_path: Path) -> None:
    fake = Fake()
    run(machine, tmp_path, fake)
    places = [m.place for m in plan(machine).measurements]
    assert fake.calls == [(place, number) for number in range(3) for place in places]


def test_figures_go_where_they_belong(machine: Machine, tmp_path: Path) -> None:
    result = run(machine, tmp_path, Fake())
    assert {row.state for row in result.figures} == {"measured"}
    found = dict(figures(result.machine))
    before = dict(figures(machine))
    for row in result.figures:
        figure = found[row.place]
        assert (figure.value, figure.low, figure.high, figure.kind) == (1.01, 1.0, 1.02, "measured")
        assert (row.value, row.low, row.high, row.rounds) == (1.01, 1.0, 1.02, (1.0, 1.01, 1.02))
        assert figure.source.startswith("mapper calibrate: median of 3 rounds, ")
    places = {row.place for row in result.figures}
    assert all(figure == before[place] for place, figure in found.items() if place not in places)
    assert result.machine.overheads.fork_join_s.keys() == {2, 4, 8}
    assert result.machine.notes[-1] == f"Calibrated: {len(places)} figures measured."
    text = machine_text(result.machine)
    assert load_text(text, tmp_path) == result.machine


def load_text(text: str, folder: Path) -> Machine:
    (folder / "machine.json").write_text(text)
    return load_machine(folder / "machine.json")


def test_noise_refuses_a_figure_and_the_old_one_stays(machine: Machine, tmp_path: Path) -> None:
    def noisy(measurement: Measurement, number: int) -> float:
        return 1.0 + number if measurement.place == "/overheads/dispatch_s" else 1.0

    result = run(machine, tmp_path, noisy)
    row = next(row for row in result.figures if row.place == "/overheads/dispatch_s")
    assert (row.state, row.reason, row.value, row.rounds) == ("refused", "spread 50 %", 2.0, (1.0, 2.0, 3.0))
    assert result.machine.overheads.dispatch_s == machine.overheads.dispatch_s
    assert result.machine.notes[-1].endswith("figures measured, 1 refused (dispatch).")


def test_what_cannot_be_measured_is_listed_with_its_reason(machine: Machine, tmp_path: Path) -> None:
    without = wanted(machine, 1e12, False)
    with Journal(tmp_path, "k" * 64, 1e9, print, CALIBRATION) as journal:
        result = calibrate(machine, without, SETTINGS, journal, Fake())
    row = next(row for row in result.figures if row.place == "/memory/latency_s")
    assert (row.state, row.value) == ("not measured", None)
    assert "C compiler" in row.reason
    assert "not measured (" in result.machine.notes[-1]


@pytest.mark.parametrize("stop_at", [1, 7, 20])
def test_an_interrupted_calibration_goes_on_where_it_was(machine: Machine, tmp_path: Path, stop_at: int) -> None:
    total = 3 * len(plan(machine).measurements)
    said: list[str] = []
    first, second = Fake(stop_at), Fake()
    with pytest.raises(KeyboardInterrupt):
        run(machine, tmp_path, first, said)
    assert said == [f"{stop_at} of {total} measurements are kept: the same command goes on from there"]
    resumed = run(machine, tmp_path, second, said)
    assert said[1:] == [f"going on after {stop_at} of {total} measurements"]
    assert len(first.calls) == stop_at
    assert not set(first.calls) & set(second.calls)
    whole = run(machine, tmp_path / "other", Fake())
    assert resumed.figures == whole.figures
    assert resumed.machine.model_copy(update={"notes": ()}) == whole.machine.model_copy(update={"notes": ()})


def test_an_interruption_before_the_first_round_says_nothing(machine: Machine, tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run(machine, tmp_path, Fake(0), said)
    assert said == []


def test_load_by_others_is_told(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(1000))
    pus = [pu for core in machine.cores for pu in core.pus]

    def counters() -> dict[int, tuple[float, float]]:
        now = next(seconds)
        return {pu: (0.5 * now, float(now)) for pu in pus}

    monkeypatch.setattr(module, "snapshot", counters)
    result = run(machine, tmp_path, Fake())
    assert result.others_busy == pytest.approx(0.5)
    assert result.warnings == ("others took 50% of the cores meanwhile: better repeat it on an idle machine",)
    assert result.machine.notes[-1] == f"Calibrated: {result.warnings[0]}."


def test_ones_own_work_is_not_the_others(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"now": 0.0}
    pus = [pu for core in machine.cores for pu in core.pus]
    monkeypatch.setattr(module, "snapshot", lambda: dict.fromkeys(pus, (clock["now"], clock["now"])))

    def measure(measurement: Measurement, number: int) -> float:
        clock["now"] += 1.0
        return 1.0

    with Journal(tmp_path, "k" * 64, 1e9, print, CALIBRATION) as journal:
        result = calibrate(machine, plan(machine), SETTINGS, journal, measure, own_s=lambda: clock["now"] * len(pus))
    assert result.others_busy == 0
    assert result.warnings == ()


def test_a_quota_is_warned_of(machine: Machine, tmp_path: Path) -> None:
    limited = machine.model_copy(update={"cpu_quota": Figure(value=1.5)})
    assert any("quota of 1.5 PUs" in warning for warning in run(limited, tmp_path, Fake()).warnings)


def test_rounds_far_apart_are_warned_of(machine: Machine, tmp_path: Path) -> None:
    def moving(measurement: Measurement, number: int) -> float:
        return 4.0 if (measurement.place, number) == ("/links/node/line_s", 1) else 1.0

    with Journal(tmp_path, "k" * 64, 1e9, print, CALIBRATION) as journal:
        result = calibrate(machine, plan(machine), Settings(rounds=9, seconds=0.01), journal, moving)
    assert [w.partition(":")[0] for w in result.warnings] == [
        "the greatest round is more than 2 times the least for line, same node"
    ]


def test_notes_of_an_earlier_calibration_go(machine: Machine, tmp_path: Path) -> None:
    kept = machine.model_copy(update={"notes": ("Mine.", "Calibrated: long ago.")})
    assert with_figures(kept, {}, ["Calibrated: now."]).notes == ("Mine.", "Calibrated: now.")


def test_the_key_tells_machines_and_settings_apart(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    other = load_machine("numa:2 group:2 core:2(l1=32KiB l2=2MiB)")
    renamed = machine.model_copy(update={"cpu_model": "another"})
    moved = booted_on(machine, 3)

    def path(of: Machine, settings: Settings = SETTINGS) -> Path:
        return journal_for(of, plan(of), settings, print).path

    paths = [path(machine), path(other), path(renamed), path(moved), path(machine, Settings(rounds=4, seconds=0.01))]
    assert len(set(paths)) == len(paths)
    assert path(machine) == path(machine)
    assert paths[0].parent == tmp_path / "mapper"


def test_a_description_of_this_machine_gets_its_pu_numbers(tmp_path: Path) -> None:
    described = load_machine("sg2042")
    here = discover(write_tree(tmp_path, booted_on(described, 8)))
    moved = described_here(described, here)
    assert {core.pus for core in moved.cores} == {core.pus for core in here.cores}
    assert moved.memory == described.memory
    assert described_here(described, described) is described
    assert described_here(described, discover(write_tree(tmp_path / "one", described, nodes=False))) is described


def test_a_description_of_another_machine_is_refused(machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(MachineMismatch, match="another machine than this one"):
        described_here(load_machine("sg2042"), machine)
    described = load_machine("sg2042")
    one_node = discover(write_tree(tmp_path, booted_on(described, 8), nodes=False))
    with pytest.raises(MachineMismatch, match="which core is where cannot be told"):
        described_here(described, one_node)


def test_an_emulated_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAPPER_EMULATED", raising=False)
    refuse_emulated()
    monkeypatch.setenv("MAPPER_EMULATED", "1")
    with pytest.raises(SystemRefused, match="emulated"):
        refuse_emulated()


def test_the_result_is_json(machine: Machine, tmp_path: Path) -> None:
    result = run(machine, tmp_path, Fake())
    document = json.loads(jsonio.dumps(jsonio.plain(result)))
    assert {"place", "name", "state", "value", "low", "high", "rounds"} <= document["figures"][0].keys()
    assert Calibration.model_validate(document) == result
