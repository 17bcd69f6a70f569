"""Uncertain figures and mechanisms."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapper.machine.files import load_machine
from mapper.machine.model import figures
from mapper.study.sg2042.parameters import IGNORED, MECHANISMS, Mechanism, drawn, mechanisms, parameters, unranged

SG2042 = load_machine("sg2042")
KNOWN = parameters(SG2042)


def test_every_range_that_costs_depend_on_is_a_parameter() -> None:
    ranged = {
        pointer for pointer, figure in figures(SG2042)
        if (figure.low is not None or figure.high is not None) and not any(part in pointer for part in IGNORED)
    }  # fmt: skip
    assert {pointer for parameter in KNOWN for pointer, *_ in parameter.values} == ranged
    assert len({parameter.name for parameter in KNOWN}) == len(KNOWN) > 15
    assert sum(len(parameter.values) > 1 for parameter in KNOWN) == 2, "products, and what is priced by the element"


@given(st.sampled_from(KNOWN), st.floats(0, 1))
def test_a_parameter_goes_from_its_low_end_by_the_centre_to_its_high_end(parameter: object, share: float) -> None:
    from mapper.study.sg2042.parameters import Parameter

    assert isinstance(parameter, Parameter)
    known = dict(figures(SG2042))
    for place, pick in ((0.0, "low"), (0.5, "value"), (1.0, "high")):
        for pointer, value in parameter.at(place).items():
            figure = known[pointer]
            end = getattr(figure, pick)
            assert value == pytest.approx(figure.value if end is None else end)
    between = parameter.at(share)
    for pointer, low, _, high in parameter.values:
        assert low * (1 - 1e-12) <= between[pointer] <= high * (1 + 1e-12)


def test_samples_are_drawn_with_the_seed_and_together_where_they_belong_together() -> None:
    machines = [drawn(SG2042, KNOWN, random.Random(seed)) for seed in (1, 1, 2)]
    assert machines[0] == machines[1] != machines[2]
    efficiency = machines[0].compute.efficiency
    assert len({figure.value for figure in efficiency.values()}) == 1
    assert machines[0].fingerprint == SG2042.fingerprint


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda m: m.name)
def test_a_mechanism_is_taken_out_and_nothing_else(mechanism: Mechanism) -> None:
    without = mechanism.without(SG2042)
    before, after = dict(figures(SG2042)), dict(figures(without))
    changed = {pointer for pointer in before if before[pointer].value != getattr(after.get(pointer), "value", None)}
    assert len(changed) == len(mechanism.values)
    assert bool(changed) or mechanism.path is not None
    assert (without.distances is None) == mechanism.flat


def test_only_mechanisms_that_a_machine_has_are_taken_out() -> None:
    names = {name: [m.name for m in mechanisms(load_machine(name))] for name in ("sg2042", "epyc-7763", "core:4")}
    assert names["sg2042"] == [m.name for m in MECHANISMS]
    assert names["sg2042"][-1] not in names["epyc-7763"], "it has oneDNN"
    assert "panels of products" not in names["core:4"] and "fork and join" in names["core:4"]


def test_assumed_figures_without_a_range_are_named() -> None:
    cut = SG2042.compute.efficiency["matmul"].model_copy(update={"low": None, "high": None})
    compute = SG2042.compute.model_copy(update={"efficiency": {**SG2042.compute.efficiency, "matmul": cut}})
    assert unranged(SG2042) == ()
    assert unranged(SG2042.model_copy(update={"compute": compute})) == ("/compute/efficiency/matmul",)


def test_what_a_machine_does_not_state_cannot_be_taken_out() -> None:
    plain = load_machine("core:4")
    for mechanism in MECHANISMS:
        assert mechanism.without(plain).fingerprint == plain.fingerprint
