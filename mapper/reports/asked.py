"""What was asked of a plan, and how good it is proved to be, in words."""

from __future__ import annotations

from typing import Any

from mapper.plans.model import Solver
from mapper.units import format_bytes, format_seconds

HEADS = {"throughput": "Best throughput", "latency": "Least latency", "cores": "Fewest cores",
         "pareto": "Trades of throughput, latency and cores"}  # fmt: skip
_VALUES = {"throughput": "Period", "latency": "Latency", "cores": "Cores"}
_LIMITS = {
    "max_latency_s": "latency ≤ {}",
    "min_throughput_per_s": "≥ {} items/s",
    "stages": "{} stages",
    "max_stages": "≤ {} stages",
    "max_replicas": "≤ {} replicas a stage",
    "max_cores": "≤ {} cores",
    "node_memory_bytes": "≤ {} a node",
    "configurations": "configurations {}",
}


def head(objective: str, limits: dict[str, Any]) -> str:
    """Such as `Best throughput with latency ≤ 1.00 s, ≤ 4 stages`."""
    given = ", ".join(limit_text(name, value) for name, value in limits.items())
    return f"{HEADS[objective]} with {given}" if given else HEADS[objective]


def limit_text(name: str, value: Any) -> str:
    """Such as `≤ 4 stages`."""
    if name in ("together", "apart"):
        return "; ".join(f"{', '.join(ops)} {name}" for ops in value)
    shown: str | int
    if name == "max_latency_s":
        shown = format_seconds(value)
    elif name == "node_memory_bytes":
        shown = format_bytes(value)
    elif isinstance(value, float):
        shown = f"{value:g}"
    else:
        shown = value if isinstance(value, str | int) else ", ".join(value)
    return _LIMITS.get(name, f"{name} {{}}").format(shown).replace("≤ 1 replicas", "one replica")


def proof(objective: str, value: float, solver: Solver, of: str) -> str:
    """Such as `Period 179 ms, bound 179 ms, gap 0.00%: proved optimal for this cost model`. `value` is the plan's."""
    shown = [f"{x:.0f}" if objective == "cores" else format_seconds(x) for x in (value, solver.bound)]
    status = f"proved optimal for {of}" if solver.status == "optimal" else solver.status
    return f"{_VALUES[objective]} {shown[0]}, bound {shown[1]}, gap {solver.gap:.2%}: {status}"
