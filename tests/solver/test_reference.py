"""Published instances with known optima, where they lie beside the checkout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mapper.solver.problem import Limits
from mapper.solver.problem_file import load_problem
from mapper.solver.search import Search

FOLDER = Path(__file__).parents[3] / "shared" / "reference" / "planner"
OPTIMA: dict[str, Any] = json.loads((FOLDER / "optima.json").read_text())["tables"] if FOLDER.is_dir() else {}


@pytest.mark.skipif(not OPTIMA, reason="the reference instances are not beside this checkout")
@pytest.mark.parametrize("name", sorted(OPTIMA))
def test_known_optima_are_found_and_proved(name: str) -> None:
    search = Search(load_problem(FOLDER / "tables" / f"{name}.json"))
    for request in OPTIMA[name]:
        if request["status"] != "optimal":
            continue
        solution = search.throughput(Limits(max_latency_s=request["max_latency_s"]))
        assert solution.period_s <= request["period_s"] * 1.0001
        assert solution.bound_s <= request["period_s"] * (1 + 1e-9)
        assert solution.best_period_s - solution.bound_s <= 1e-4 * solution.best_period_s


@pytest.mark.skipif(not OPTIMA, reason="the reference instances are not beside this checkout")
def test_open_instances_keep_a_true_bound() -> None:
    """Latency and DRAM bind together there, which this search proves no optimum for."""
    for name, requests in OPTIMA.items():
        for request in (r for r in requests if r["status"] != "optimal"):
            solution = Search(load_problem(FOLDER / "tables" / f"{name}.json")).throughput(
                Limits(max_latency_s=request["max_latency_s"])
            )
            assert solution.bound_s <= request["period_s"] * (1 + 1e-9)
            assert solution.period_s >= request["bound_s"] * (1 - 1e-9)
