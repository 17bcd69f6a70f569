"""Published instances with known optima, where they lie beside the checkout."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mapper.solver.problem import Limits
from mapper.solver.problem_file import load_problem
from mapper.solver.search.least_period import throughput
from mapper.solver.search.space import Space

FOLDER = Path(__file__).parents[3] / "shared" / "reference" / "planner"
OPTIMA: dict[str, Any] = json.loads((FOLDER / "optima.json").read_text())["tables"] if FOLDER.is_dir() else {}


LONG = ("gpt2_decode_int8.sg2042", 2)
"""Seconds; two others of that table that were open stay."""
REQUESTS = [
    pytest.param(name, i, marks=pytest.mark.soak if (name, i) == LONG else ())
    for name in sorted(OPTIMA)
    for i in range(len(OPTIMA[name]))
]


@cache
def space_of(name: str) -> Space:
    return Space(load_problem(FOLDER / "tables" / f"{name}.json"))


@pytest.mark.skipif(not OPTIMA, reason="the reference instances are not beside this checkout")
@pytest.mark.parametrize(("name", "number"), REQUESTS)
def test_known_optima_are_found_and_proved(name: str, number: int) -> None:
    """All of them, also those that were open: there latency and DRAM bind together."""
    request = OPTIMA[name][number]
    solution = throughput(space_of(name), Limits(max_latency_s=request["max_latency_s"]))
    assert solution.period_s <= request["period_s"] * 1.0001
    assert solution.period_s >= request["bound_s"] * (1 - 1e-9)
    assert solution.bound_s <= request["period_s"] * (1 + 1e-9)
    assert solution.best_period_s - solution.bound_s <= 1e-4 * solution.best_period_s
    assert request["max_latency_s"] is None or solution.latency_s <= request["max_latency_s"] * (1 + 1e-8)
