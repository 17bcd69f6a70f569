"""The few other plans that stand beside the chosen one: what people do today, and other trades of rate for latency."""

from __future__ import annotations

import math
from dataclasses import replace

from mapper.errors import Infeasible
from mapper.plans.model import Alternative
from mapper.solver.problem import Limits, Solution
from mapper.solver.search import least_latency, throughput
from mapper.solver.space import Space

COARSE = 1e-3
"""Relative precision of the periods of alternatives."""


def alternatives(space: Space, chosen: Solution, limits: Limits) -> tuple[Alternative, ...]:
    """What people do without a planner, always; of the others those that no listed plan beats in all of rate,
    latency and cores. The chosen plan itself is left out."""
    if space.stop.reached:
        return ()
    wanted = _habits(space)
    if limits.as_options():
        one_each = limits.max_replicas == 1 and len(space.problem.configs) == 1  # the default of graphs with times
        wanted.append(("best", "--replicas any" if one_each else "", Limits()))
    latency = _round_latency(space, chosen)
    if latency is not None:
        text = _milliseconds(latency)
        wanted.append((f"best within {text}", f"--max-latency {text}", Limits(max_latency_s=latency)))
    found = []
    for name, options, other in wanted:
        try:
            solution = throughput(space, replace(other, max_cores=limits.max_cores), tolerance=COARSE)
        except Infeasible:
            continue
        found.append(_alternative(name, options, solution, space))
    own = (1 / chosen.period_s, chosen.latency_s, _cores(chosen, space))
    kept: list[Alternative] = []
    for row in found:
        known = [own, *((k.throughput_per_s, k.latency_s, k.cores_used) for k in kept)]
        if any(_same(x, row) for x in known) or (row.name.startswith("best") and any(_covers(x, row) for x in known)):
            continue
        kept.append(row)
    return tuple(sorted(kept, key=lambda row: -row.throughput_per_s))


def _habits(space: Space) -> list[tuple[str, str, Limits]]:
    """What people do without a planner: every thread on one item, a copy a core, a stage a group."""
    problem = space.problem
    whole, one = problem.configs[-1], problem.configs[0]
    threads = f"{whole.cores} thread{'s' * (whole.cores > 1)}"
    native = Limits(stages=1, max_replicas=1, configurations=(whole,))
    wanted = [(f"native, {threads}", f"--stages 1 --replicas 1 --configurations {whole.name}", native)]
    if problem.cores > 1:
        streams = Limits(stages=1, configurations=(one,))
        wanted.append(("streams, one core each", f"--stages 1 --configurations {one.name}", streams))
    if problem.groups > 1:
        group = next(c for c in problem.configs if c.groups == 1 and c.cores == problem.cores_per_group)
        equal = Limits(max_replicas=1, configurations=(group,))  # the cores allow as many stages as there are groups
        wanted.append(("pipeline, one group a stage", f"--replicas 1 --configurations {group.name}", equal))
    return wanted


def _alternative(name: str, options: str, solution: Solution, space: Space) -> Alternative:
    return Alternative(
        name=name,
        options=options,
        throughput_per_s=1 / solution.period_s,
        latency_s=solution.latency_s,
        cores_used=_cores(solution, space),
    )


def _cores(solution: Solution, space: Space) -> int:
    return sum(stage.replicas * space.problem.configs[stage.config].cores for stage in solution.stages)


def _covers(known: tuple[float, float, int], row: Alternative) -> bool:
    """Whether a listed plan is at least as good in all three (to 0.1 %)."""
    rate, latency, cores = known
    return rate >= row.throughput_per_s * 0.999 and latency <= row.latency_s * 1.001 and cores <= row.cores_used


def _same(known: tuple[float, float, int], row: Alternative) -> bool:
    """Whether `row` is the known plan over again."""
    other = (row.throughput_per_s, row.latency_s, row.cores_used)
    return all(math.isclose(a, b, rel_tol=COARSE) for a, b in zip(known, other, strict=True))


def _round_latency(space: Space, chosen: Solution) -> float | None:
    """A round latency between the least that there is and the chosen plan's, None where the two are near."""
    least = least_latency(space, Limits())[0]
    if chosen.latency_s < 2 * least:
        return None
    middle = math.sqrt(least * chosen.latency_s)
    power = 10 ** math.floor(math.log10(middle))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= middle * 0.999))


def _milliseconds(seconds: float) -> str:
    return f"{seconds:g}s" if seconds >= 1 else f"{seconds * 1e3:g}ms"
