"""Random limits for property tests."""

from __future__ import annotations

import math

from hypothesis import strategies as st

from mapper.solver.problem import Limits, Problem
from tests.solver.brute import nodes_of, outcomes


def some_limits(draw: st.DrawFn, problem: Problem, slacks: tuple[float, ...] = (0.8, 1.0, 1.3)) -> Limits:
    """Up to three limits that bind in different ways, some of them impossible: those of a plan times `slacks`."""
    free = [row for row in outcomes(problem, Limits()) if row.period_s < math.inf]
    like = draw(st.sampled_from(free[:40]))
    slack = draw(st.sampled_from(slacks))
    given = draw(st.sets(st.sampled_from(["latency", "rate", "memory", "stages", "replicas", "cores"]), max_size=3))
    return Limits(
        max_latency_s=like.latency_s * slack + 1e-9 if "latency" in given else None,
        min_throughput_per_s=1 / (like.period_s * slack + 1e-9) if "rate" in given else None,
        node_memory_bytes=like.memory_bytes / nodes_of(problem) * slack + 1e-9 if "memory" in given else None,
        max_stages=draw(st.integers(1, 3)) if "stages" in given else None,
        max_replicas=draw(st.integers(1, 2)) if "replicas" in given else None,
        max_cores=draw(st.integers(1, problem.cores)) if "cores" in given else None,
    )
