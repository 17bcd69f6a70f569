"""Decides which cores of a many-core CPU compute which part of a neural network.

    import mapper
    machine = mapper.load_machine("sg2042")
    graph   = mapper.trace(model, example_inputs)
    plan    = mapper.plan(graph, machine)
    with mapper.Executor(plan, model) as executor:
        for output in executor.map(batches): ...

Imports are lazy: `import mapper` costs neither torch nor ortools.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mapper.errors import MapperError as MapperError
    from mapper.execution.executor import Executor as Executor
    from mapper.graph.trace import trace as trace
    from mapper.machine.files import load_machine as load_machine
    from mapper.plans.check import check as check
    from mapper.plans.file import load_plan as load_plan
    from mapper.solver.plan import plan as plan

_HOMES = {
    "Executor": "mapper.execution.executor",
    "MapperError": "mapper.errors",
    "check": "mapper.plans.check",
    "load_machine": "mapper.machine.files",
    "load_plan": "mapper.plans.file",
    "plan": "mapper.solver.plan",
    "trace": "mapper.graph.trace",
}

__all__ = ["Executor", "MapperError", "__version__", "check", "load_machine", "load_plan", "plan", "trace"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mapper' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
