"""The reference of the Python API, from the docstrings of `mapper.__all__` and of the types that its functions take."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from typing import Any

import mapper
from docs.generate.cli import cell, escaped

SECTIONS = {
    "Machines": ("load_machine", "save_machine", "discover", "restrict", "cluster", "compare_machines"),
    "Models and graphs": ("trace", "graph_of_source", "load_graph", "open_bundle", "write_bundle"),
    "Planning": ("plan", "Limits", "front", "explain", "check", "load_plan", "save_plan", "against", "plan_pipedream"),
    "Costs": ("roofline", "profile", "profile_costs", "load_profile", "save_profile"),
    "Problem files": ("read_problem", "plan_problem", "check_problem_plan", "load_problem_plan", "save_problem_plan"),
    "Running": ("Executor", "Batcher", "run", "run_host", "bench", "tune"),
    "Simulating and exploring": ("simulate", "Arrivals", "explore", "Dimensions"),
    "Other runtimes": ("export", "import_mapping"),
    "Reports": ("report", "compare"),
    "Errors": ("MapperError",),
}
TYPES = {
    "mapper.machine.model": ("Machine", "Core", "Node", "Cache", "Memory", "Figure", "Link"),
    "mapper.program.model": ("Program",),
    "mapper.graph.model": ("Graph", "Op", "Tensor"),
    "mapper.plans.model": ("Plan", "Stage", "Load", "Replica", "Configuration", "Edge", "Predicted", "Solver"),
    "mapper.plans.front": ("Front",),
    "mapper.cost.profile": ("Profile",),
    "mapper.execution.measurement": ("Measurement",),
    "mapper.study.compare": ("SideBySide",),
    "mapper.study.sides": ("Side",),
    "mapper.errors": ("UsageError", "BadInput", "UnknownName", "Infeasible", "NoPlanInTime", "MachineMismatch",
                      "ExecutionFailed", "MissingFeature", "PromiseBroken", "SystemRefused"),
}  # fmt: skip
"""Types that users touch, by module."""


def page() -> str:
    """The page: directives of Sphinx's autodoc, in Markdown, and a table of the fields of each record."""
    lines = ["# Python API", "",
             "Names are imported when they are first used: `import mapper` costs neither torch "
             "nor OR-Tools.", ""]  # fmt: skip
    placed = {name for names in SECTIONS.values() for name in names}
    rest = tuple(name for name in mapper.__all__ if name not in placed and name != "__version__")
    for title, names in (SECTIONS | ({"More": rest} if rest else {})).items():
        lines += [f"## {title}", ""]
        for name in names:
            lines += entry(f"mapper.{name}", getattr(mapper, name))
    lines += ["## Types", ""]
    for module, names in TYPES.items():
        found = importlib.import_module(module)
        for name in names:
            lines += entry(f"{module}.{name}", getattr(found, name))
    return "\n".join(lines) + "\n"


def entry(name: str, found: Any) -> Iterator[str]:
    """The directive of the function or class called `name`."""
    if not inspect.isclass(found):
        yield from ["```{eval-rst}", f".. autofunction:: {name}", "```", ""]
        return
    yield from ["```{eval-rst}", f".. autoclass:: {name}", "   :members:"]
    fields = [field for field, _, _ in _fields(found)]
    if fields:
        yield f"   :exclude-members: {', '.join([*fields, 'model_config', 'model_post_init'])}"
    yield from ["```", ""]
    if fields:
        yield from [f"| field of `{found.__name__}` | type | |", "| --- | --- | --- |"]
        yield from (f"| `{field}` | `{cell(kind)}` | {cell(escaped(text))} |" for field, kind, text in _fields(found))
        yield ""


def _fields(found: type) -> list[tuple[str, str, str]]:
    """Name, type and meaning of each field of a record."""
    if dataclasses.is_dataclass(found):
        return [(field.name, _name(field.type), "") for field in dataclasses.fields(found)
                if not field.name.startswith("_")]  # fmt: skip
    model: dict[str, Any] = getattr(found, "model_fields", {})
    return [(name, _name(field.annotation), field.description or "") for name, field in model.items()]


def _name(kind: Any) -> str:
    text = (
        kind
        if isinstance(kind, str)
        else kind.__name__
        if isinstance(kind, type) and not hasattr(kind, "__args__")
        else str(kind)
    )
    return text.replace("typing.", "").replace("mapper.", "")
