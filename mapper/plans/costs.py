"""From a plan to the graph and the costs that it was made with."""

from __future__ import annotations

from mapper.cost.imported import given_costs
from mapper.cost.paths import PATHS
from mapper.cost.pipedream import OBJECTIVE, planned_costs, without_inputs
from mapper.cost.roofline import roofline
from mapper.cost.table import GIVEN, CostTable
from mapper.errors import BadInput, UsageError
from mapper.graph.model import Graph
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


def costs_of(plan: Plan, graph: Graph) -> CostTable | None:
    """The costs that `plan` was made with, of `graph` (`planned_graph`); None where they come from elsewhere.

    Raises: UsageError where the plan says of them what cannot be.
    """
    costs = plan.request.costs
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
