"""From timed ops to rates, on made-up timings; and a calibration's cases are what the cost model takes them for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mapper.cost.forms import form
from mapper.machine.files import load_machine
from mapper.measure import calibrate as module
from mapper.measure.calibrate import Settings, calibrate
from mapper.measure.cases import CASES, STANDS_FOR, Case
from mapper.measure.journal import CALIBRATION, Journal
from mapper.measure.kernels import kernel, operands
from mapper.measure.rates import by_place, fitted, folded
from mapper.measure.wanted import Measurement, Timed, wanted
from tests.tracing import traced

SIZES = ((8, 64, 64), (64, 256, 256), (128, 768, 768), (512, 512, 512))
PRODUCTS = [Case("matmul", size, i > 1) for i, size in enumerate(SIZES)]
CONVOLUTIONS = [case for case in CASES if case.sort == "conv"]


@given(st.floats(1e-7, 1e-4), st.floats(1e-12, 1e-9), st.floats(1e-11, 1e-9))
def test_a_fit_finds_what_made_the_timings(start: float, unit: float, byte: float) -> None:
    found = fitted(CONVOLUTIONS, [start + unit * c.units + byte * c.weight_bytes for c in CONVOLUTIONS])
    for case in CONVOLUTIONS:  # a parameter that hardly shows is left out
        assert found.seconds(case) == pytest.approx(start + unit * case.units + byte * case.weight_bytes, rel=0.1)


@given(st.lists(st.floats(1e-7, 1e-1), min_size=4, max_size=4))
def test_no_parameter_is_negative_whatever_was_measured(seconds: list[float]) -> None:
    found = fitted(PRODUCTS, seconds)
    assert min(found.start_s, found.unit_s, found.weight_byte_s) >= 0
    assert max(found.start_s, found.unit_s) > 0


def test_one_far_off_size_does_not_spoil_the_others() -> None:
    seconds = [3e-6 + 1e-11 * case.units for case in PRODUCTS]
    found = fitted(PRODUCTS, [*seconds[:2], seconds[2] * 3, seconds[3]])
    assert found.unit_s == pytest.approx(1e-11, rel=0.15)


def test_a_view_has_a_start_only() -> None:
    view = next(case for case in CASES if case.sort == "none")
    assert fitted([view], [2e-6]).start_s == pytest.approx(2e-6)
    assert fitted([view], [2e-6]).unit_s == 0


def timings(speedup: float, fork_join: float) -> dict[tuple[Case, int], list[float]]:
    out = {}
    for case in PRODUCTS:
        work = 1e-11 * case.units
        out[case, 1] = [(3e-6 + work) * noise for noise in (0.99, 1.0, 1.01)]
        if case.teams:
            out[case, 2] = [3e-6 + fork_join + work / speedup] * 3
    return out


def test_figures_with_range_and_source() -> None:
    (rate,) = folded(timings(1.8, 4e-6), {2: 4e-6})
    assert rate.sort == "matmul"
    assert rate.figures["start_s"].value == pytest.approx(3e-6, rel=0.02)
    unit = rate.figures["unit_s"]
    assert unit.value == pytest.approx(1e-11, rel=0.02)
    assert unit.low is not None and unit.high is not None and unit.low < unit.value < unit.high
    assert rate.figures["speedup/2"].value == pytest.approx(1.8, rel=0.02)
    assert unit.source == "mapper calibrate: 4 sizes, median of 3 rounds each, fitted"
    assert rate.spread == pytest.approx(0.01, rel=0.1)
    assert rate.misfit < 0.01


def test_weights_in_memory_have_a_price_of_their_own() -> None:
    """64 MiB in 5 ms after 3 µs, whatever the sizes in cache say."""
    far = Case("matmul", (1, 4096, 4096), far=True)
    (rate,) = folded(timings(1.8, 0.0) | {(far, 1): [5e-3] * 3}, {})
    assert rate.figures["dram_byte_s"].value == pytest.approx((5e-3 - 3e-6) / 2**26, rel=0.01)
    assert rate.figures["unit_s"].value == pytest.approx(1e-11, rel=0.02)


@pytest.mark.parametrize(("true", "told"), [(5.0, 2.0), (0.01, 0.25)])
def test_a_team_gains_no_more_than_its_threads_and_loses_no_more_than_threefold(true: float, told: float) -> None:
    (rate,) = folded(timings(true, 0.0), {})
    assert rate.figures["speedup/2"].value == told


def test_kinds_take_the_rate_of_the_sort_that_stands_for_them() -> None:
    rates = folded({(c, 1): [1e-5 + c.units * 1e-10] for c in CASES}, {})
    places = by_place(rates)
    for kind, sort in STANDS_FOR.items():
        assert places[f"/compute/rates/{kind}/unit_s"] == places[f"/compute/rates/{sort}/unit_s"]


def test_a_calibration_puts_rates_into_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "snapshot", dict)
    machine = load_machine("group:2 core:2")
    asked = wanted(machine, 1e12, False, ("rates",))
    calls: list[tuple[str, int]] = []

    def measure(m: Measurement, number: int) -> float:
        assert isinstance(m.task, Timed)
        calls.append((m.place, number))
        return (1e-6 + m.task.case.units * 1e-10) / len(m.task.pus) ** 0.5

    with Journal(tmp_path, "k" * 64, 1e9, print, CALIBRATION) as journal:
        result = calibrate(machine, asked, Settings(rounds=9), journal.read(), measure)
    assert len(calls) == 5 * len(asked.measurements)
    rates = result.machine.compute.rates
    assert set(rates) == {case.sort for case in CASES} | set(STANDS_FOR)
    assert rates["matmul"].unit_s.value == pytest.approx(1e-10, rel=0.02)
    assert set(rates["matmul"].speedup) == {2, 4}
    assert rates["none"].speedup == {}
    assert {row.state for row in result.figures} == {"measured"}


def test_a_sort_whose_rounds_spread_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "snapshot", dict)
    machine = load_machine("group:1 core:1")
    asked = wanted(machine, 1e12, False, ("rates",))

    def measure(m: Measurement, number: int) -> float:
        assert isinstance(m.task, Timed)
        return (1e-6 + m.task.case.units * 1e-10) * (1 + number * (m.task.case.sort == "softmax"))

    with Journal(tmp_path, "k" * 64, 1e9, print, CALIBRATION) as journal:
        result = calibrate(machine, asked, Settings(rounds=5), journal.read(), measure)
    assert "softmax" not in result.machine.compute.rates and "matmul" in result.machine.compute.rates
    refused = {row.name for row in result.figures if row.state == "refused"}
    assert refused == {"softmax, start_s", "softmax, unit_s", "softmax, weight_byte_s"}


def test_rounds_in_which_others_computed_say_nothing_of_teams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def snapshot() -> dict[int, tuple[float, float]]:
        now[0] += 1.0
        return dict.fromkeys(range(2), (now[0], now[0]))

    monkeypatch.setattr(module, "snapshot", snapshot)
    machine = load_machine("group:1 core:2")
    asked = wanted(machine, 1e12, False, ("rates",))
    with Journal(tmp_path, "k" * 64, 1e9, print, CALIBRATION) as journal:
        result = calibrate(machine, asked, Settings(rounds=1), journal.read(),
                           lambda m, number: 1e-6 + m.task.case.units)  # type: ignore[union-attr]  # fmt: skip
    assert result.machine.compute.rates["matmul"].speedup == {}
    reasons = {row.reason for row in result.figures if row.state == "not measured"}
    assert reasons == {"others were at work in every round"}


class _Call(torch.nn.Module):
    """The operator of a case as a model."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.call, _ = operands(case.sort, case.sizes)

    def forward(self, *tensors: torch.Tensor) -> object:
        return self.call(*tensors)


SMALLEST = [next(case for case in CASES if case.sort == sort) for sort in dict.fromkeys(c.sort for c in CASES)]
COMPUTED = [case for case in SMALLEST if case.sort != "none"]


@pytest.mark.parametrize("case", COMPUTED, ids=lambda case: case.sort)
def test_a_case_is_what_the_cost_model_takes_it_for(case: Case) -> None:
    _, given_ = operands(case.sort, case.sizes)
    found = traced(_Call(case), *given_)
    op = next(op for op in found.graph.ops)
    shown = form(op, found.program)
    assert (shown.sort, shown.units) == (case.sort, case.units)


@pytest.mark.parametrize("case", SMALLEST, ids=lambda case: case.sort)
def test_a_kernel_runs_on_other_operands_in_turn(case: Case) -> None:
    call = kernel(case.sort, case.sizes)
    with torch.inference_mode():
        assert call() is not call()


def test_the_weights_that_a_convolution_lays_out() -> None:
    assert Case("conv", (1, 64, 56, 128, 3, 1)).weight_bytes == 4 * 64 * 128 * 9
    assert Case("conv.depthwise", (1, 64, 56, 64, 3, 1)).weight_bytes == 4 * 64 * 9
    assert Case("matmul", (1, 2, 3)).weight_bytes == 0
