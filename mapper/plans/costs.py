"""From a plan to the graph and the costs that it was made with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mapper.cost.imported import given_costs
from mapper.cost.paths import PATHS
from mapper.cost.pipedream import OBJECTIVE, planned_costs, without_inputs
from mapper.cost.profile import (
    PROFILE,
    Profile,
    load_profile,
    merged,
    require_same_backend,
    require_same_graph,
    require_same_machine,
)
from mapper.cost.profiled import profiled
from mapper.cost.roofline import roofline
from mapper.cost.table import GIVEN, CostTable
from mapper.errors import BadInput, UsageError
from mapper.graph.model import Graph
from mapper.machine.model import Machine
from mapper.plans.model import Plan


def is_of_file(plan: Plan) -> bool:
    """Whether `plan` is of a graph file, of which it knows the name only."""
    return plan.request.costs.get("source") == GIVEN or plan.model.source.endswith((".json", ".txt"))


def planned_graph(plan: Plan, graph: Graph) -> Graph:
    """What of `graph` is planned: PipeDream's objective leaves out inputs."""
    return without_inputs(graph) if plan.request.costs.get("objective_model") == OBJECTIVE else graph


def require_graph(plan: Plan, graph: Graph, source: str) -> None:
    """Raises BadInput when `graph`, which is from `source`, is not the one that `plan` is of."""
    if graph.sha256 != plan.model.graph_sha256:
        raise BadInput(source, f"is not the graph that the plan was made for: its hash is {graph.sha256[:12]}…, the "
                       f"plan's {plan.model.graph_sha256[:12]}…")  # fmt: skip


def profile_of(paths: Sequence[Path]) -> Profile:
    """The profiles in `paths` as one. Raises: BadInput or MachineMismatch where they do not belong together."""
    return merged([load_profile(path) for path in paths], ", ".join(map(str, paths)))


def profile_costs(profile: Profile, graph: Graph, machine: Machine, source: str = "profile") -> CostTable:
    """The costs of `graph` on `machine` that `profile` (from `source`) gives.

    Raises: BadInput where it is of another graph, MachineMismatch where it is of another machine.
    """
    require_same_graph(profile, graph.sha256, [op.name for op in graph.ops], source)
    require_same_machine(profile, machine, source)
    return profiled(profile, graph, machine, roofline(graph, machine), source).table


def costs_of(plan: Plan, graph: Graph, profile: Profile | None = None) -> CostTable | None:
    """The costs that `plan` was made with, of `graph` (`planned_graph`); None where they come from elsewhere: from a
    profile that is not given.

    Raises: UsageError where the plan says of them what cannot be, BadInput or MachineMismatch where `profile` is of
    another graph, back end or machine.
    """
    costs = plan.request.costs
    if profile is not None and costs.get("source") != PROFILE:
        raise UsageError(f"the plan was made with costs from {costs.get('source')}, not with a profile",
                         advice="Leave --costs out.")  # fmt: skip
    if costs.get("source") == PROFILE:
        if profile is None:
            return None
        require_same_backend(profile, costs.get("backend", ""))
        return profile_costs(profile, graph, plan.machine)
    if costs.get("objective_model") == OBJECTIVE:
        return planned_costs(graph, len(plan.machine.groups), costs)[1]
    if costs.get("source") == "roofline":
        path = next((path for path in PATHS if path == costs.get("path")), None)  # check names one that is none
        return roofline(graph, plan.machine, path=path)
    if costs.get("source") == GIVEN and graph.costed:
        return given_costs(graph, _number(costs.get("bandwidth_bytes_per_s")))
    return None


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        raise UsageError(f"the plan gives the bandwidth {text!r}, which is no number") from None
