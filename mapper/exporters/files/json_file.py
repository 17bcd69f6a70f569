"""The target `json`: stages, their ops and tensors, and workers, as one document for programs of people's own."""

from __future__ import annotations

from pathlib import Path

from mapper import jsonio
from mapper.exporters.registry import Export
from mapper.exporters.workers import workers_of

SCHEMA = "mapper-mapping/1"


def write(export: Export, path: Path) -> None:
    """Writes the document. Tensors are called after the op or input that gives them; PUs and nodes are the OS's."""
    plan = export.plan
    keys = {"id", "ops", "inputs", "outputs", "weight_bytes", "flop"}
    document = {
        "schema": SCHEMA,
        "model": {"name": plan.model.name, "item": [jsonio.plain(spec) for spec in plan.model.item]},
        "machine": plan.machine.name,
        "backend": plan.request.backend,
        "period_s": plan.predicted.period_s,
        "latency_s": plan.predicted.latency_s,
        "window": plan.predicted.window,
        "stages": [
            {**stage.model_dump(mode="json", include=keys), "load_s": stage.load.total_s} for stage in plan.stages
        ],
        "edges": [edge.model_dump(mode="json", by_alias=True, exclude={"rings"}) for edge in plan.edges],
        "workers": [jsonio.plain(worker) for worker in workers_of(plan)],
    }
    jsonio.write_text(path, jsonio.dumps(document))
