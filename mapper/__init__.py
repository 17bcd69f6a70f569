"""Decides which cores of a many-core CPU compute which part of a neural network.

    import mapper
    machine = mapper.load_machine("sg2042")
    graph   = mapper.trace(model, example_inputs)
    plan    = mapper.plan(graph, machine)
    with mapper.Executor(plan, model) as executor:
        for output in executor.map(batches): ...

Every command has its functions here: `mapper plan` is `plan` (with `plan_problem` for problem files), `mapper check` is
`check`, and so on. Imports are lazy: `import mapper` costs neither torch nor ortools.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mapper.cost.profile import load_profile as load_profile
    from mapper.cost.profile import save_profile as save_profile
    from mapper.cost.roofline import roofline as roofline
    from mapper.errors import MapperError as MapperError
    from mapper.execution.executor import Executor as Executor
    from mapper.execution.feeding.batcher import Batcher as Batcher
    from mapper.execution.hosts.run import run_host as run_host
    from mapper.execution.run import run as run
    from mapper.exporters.export import export as export
    from mapper.exporters.mappings.read import import_mapping as import_mapping
    from mapper.graph.importers.load import load_graph as load_graph
    from mapper.graph.trace import trace as trace
    from mapper.machine.cluster import cluster as cluster
    from mapper.machine.diff import compare as compare_machines
    from mapper.machine.discover import discover as discover
    from mapper.machine.files import load_machine as load_machine
    from mapper.machine.files import save_machine as save_machine
    from mapper.machine.restrict import restrict as restrict
    from mapper.plans.check import check as check
    from mapper.plans.costs import profile_costs as profile_costs
    from mapper.plans.file import load_plan as load_plan
    from mapper.plans.file import save_plan as save_plan
    from mapper.plans.problem_check import check_problem_plan as check_problem_plan
    from mapper.plans.problem_file import read_problem as read_problem
    from mapper.plans.problem_plan import load_problem_plan as load_problem_plan
    from mapper.plans.problem_plan import save_problem_plan as save_problem_plan
    from mapper.plans.source import graph_of_source as graph_of_source
    from mapper.reports.page.report import report as report
    from mapper.simulator.simulate import Arrivals as Arrivals
    from mapper.simulator.simulate import simulate as simulate
    from mapper.solver.explanation.explain import explain as explain
    from mapper.solver.front import front as front
    from mapper.solver.peers.against import against as against
    from mapper.solver.peers.pipedream import plan_pipedream as plan_pipedream
    from mapper.solver.plan import plan as plan
    from mapper.solver.problem import Limits as Limits
    from mapper.solver.problem_plan import plan_problem as plan_problem
    from mapper.sources.bundle import open_bundle as open_bundle
    from mapper.sources.bundle import write_bundle as write_bundle
    from mapper.study.bench import bench as bench
    from mapper.study.compare import compare as compare
    from mapper.study.exploration.dimensions import Dimensions as Dimensions
    from mapper.study.exploration.explore import explore as explore
    from mapper.study.profile import profile as profile
    from mapper.study.tune import tune as tune

_HOMES = {
    "Arrivals": "mapper.simulator.simulate",
    "Batcher": "mapper.execution.feeding.batcher",
    "Dimensions": "mapper.study.exploration.dimensions",
    "Executor": "mapper.execution.executor",
    "Limits": "mapper.solver.problem",
    "MapperError": "mapper.errors",
    "against": "mapper.solver.peers.against",
    "bench": "mapper.study.bench",
    "check": "mapper.plans.check",
    "check_problem_plan": "mapper.plans.problem_check",
    "cluster": "mapper.machine.cluster",
    "compare": "mapper.study.compare",
    "compare_machines": "mapper.machine.diff:compare",
    "discover": "mapper.machine.discover",
    "explain": "mapper.solver.explanation.explain",
    "export": "mapper.exporters.export",
    "explore": "mapper.study.exploration.explore",
    "front": "mapper.solver.front",
    "graph_of_source": "mapper.plans.source",
    "import_mapping": "mapper.exporters.mappings.read",
    "load_graph": "mapper.graph.importers.load",
    "load_machine": "mapper.machine.files",
    "load_plan": "mapper.plans.file",
    "load_problem_plan": "mapper.plans.problem_plan",
    "load_profile": "mapper.cost.profile",
    "open_bundle": "mapper.sources.bundle",
    "plan": "mapper.solver.plan",
    "plan_pipedream": "mapper.solver.peers.pipedream",
    "plan_problem": "mapper.solver.problem_plan",
    "profile": "mapper.study.profile",
    "profile_costs": "mapper.plans.costs",
    "read_problem": "mapper.plans.problem_file",
    "report": "mapper.reports.page.report",
    "restrict": "mapper.machine.restrict",
    "roofline": "mapper.cost.roofline",
    "run": "mapper.execution.run",
    "run_host": "mapper.execution.hosts.run",
    "save_machine": "mapper.machine.files",
    "save_plan": "mapper.plans.file",
    "save_problem_plan": "mapper.plans.problem_plan",
    "save_profile": "mapper.cost.profile",
    "simulate": "mapper.simulator.simulate",
    "trace": "mapper.graph.trace",
    "tune": "mapper.study.tune",
    "write_bundle": "mapper.sources.bundle",
}
"""Where each name is; after a colon what it is called there, if not the same."""

__all__ = [
    "Arrivals", "Batcher", "Dimensions", "Executor", "Limits", "MapperError", "__version__", "against", "bench",
    "check", "check_problem_plan", "cluster", "compare", "compare_machines", "discover", "explain", "explore", "export",
    "front", "graph_of_source", "import_mapping", "load_graph", "load_machine", "load_plan",
    "load_problem_plan", "load_profile", "open_bundle", "plan", "plan_pipedream", "plan_problem", "profile",
    "profile_costs", "read_problem", "report", "restrict", "roofline", "run", "run_host", "save_machine", "save_plan",
    "save_problem_plan", "save_profile", "simulate", "trace", "tune", "write_bundle",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mapper' has no attribute {name!r}")
    module, _, known = _HOMES[name].partition(":")
    return getattr(importlib.import_module(module), known or name)


def __dir__() -> list[str]:
    return __all__
