"""The front: plans of which none is better than another in throughput, latency and cores, and what was proved of them.

`mapper schema front` prints its schema. Times are seconds. Fields that a newer minor version adds are kept.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from mapper import jsonio
from mapper.errors import UsageError
from mapper.plans.model import ModelRef, PlanRecord

SCHEMA = "mapper-front/1"


class FrontMachine(PlanRecord):
    """The machine that was planned for: its name and the fingerprint of its shape."""

    name: str
    title: str = ""
    fingerprint: str
    cores: int = Field(ge=1)
    topology_sha256: str


class FrontRequest(PlanRecord):
    """What was asked for. `precision` is the fraction of period and latency to which the front is to be complete."""

    objective: Literal["pareto"] = "pareto"
    limits: dict[str, Any] = Field(default_factory=dict)
    batch: int = 1
    costs: dict[str, str] = Field(default_factory=dict)
    near_optimal: float = Field(ge=0)
    precision: float = Field(gt=0)


class FrontStage(PlanRecord):
    """A stage in short: how many ops from which to which, and what each of its replicas gets."""

    ops: int = Field(ge=1)
    first: str
    last: str
    configuration: str
    replicas: int = Field(ge=1)
    threads: int = Field(ge=1, description="of one replica")


class FrontPoint(PlanRecord):
    """A plan of the front. `latency_s` is the sum of the stage loads; `cores_used` counts whole groups where a stage
    has them to itself, as limits on cores do. `bound_s`: no plan of at most this latency and so many cores has a
    shorter period. `options`, instead of `--objective pareto`, give a plan as good."""

    throughput_per_s: float = Field(gt=0)
    period_s: float = Field(gt=0)
    latency_s: float = Field(gt=0)
    cores_used: int = Field(ge=1)
    bound_s: float = Field(ge=0)
    placed: bool = Field(description="with the distances of its cores; otherwise with distances at their least")
    stages: tuple[FrontStage, ...] = Field(min_length=1)
    options: str


class FrontProof(PlanRecord):
    """How complete the front is: for every plan of `space`, with distances at their least, there is a point with at
    most the fraction `precision` more period and latency, in no more cores.

    `status`: `complete` where that is the fraction that was asked for; otherwise `incomplete`, with a larger one, or
    without any where nothing of the kind is proved.
    """

    status: Literal["complete", "incomplete"]
    precision: float | None = Field(default=None, ge=0)
    before_distances: float | None = Field(
        default=None, ge=0, description="that of all plans found, with distances at their least, before any is placed"
    )
    statement: str
    space: str
    assumptions: tuple[str, ...] = ()


class Front(PlanRecord):
    """The trades of throughput, latency and cores of a model on a machine, the fastest first."""

    schema_: Literal["mapper-front/1"] = Field(default="mapper-front/1", alias="schema")
    model: ModelRef
    machine: FrontMachine
    request: FrontRequest
    points: tuple[FrontPoint, ...] = Field(min_length=1)
    proved: FrontProof
    provenance: dict[str, Any] = Field(default_factory=dict)


def load_front(path: str | Path) -> Front:
    """The front in the JSON file `path`. Raises: BadInput with the place of the first violation."""
    return jsonio.read_record(Front, Path(path), SCHEMA)


def save_front(front: Front, path: str | Path) -> None:
    """Writes `front` to `path`, as JSON or, by its ending, CSV. Raises: UsageError for another ending."""
    path = Path(path)
    texts = {".json": front_json, ".csv": front_csv}
    if path.suffix not in texts:
        raise UsageError(f"{path}: a front is written as .json or .csv")
    jsonio.write_text(path, texts[path.suffix](front))


def front_json(front: Front) -> str:
    """The front as it stands in its file; the same front gives the same bytes."""
    return jsonio.dumps(jsonio.plain(front))


def front_csv(front: Front) -> str:
    """One line a point."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["throughput_per_s", "period_s", "latency_s", "cores_used", "bound_s", "placed", "stages", "options"])
    for x in front.points:
        stages = " | ".join(f"{s.replicas} x {s.configuration} ({s.ops} ops)" for s in x.stages)
        rows.writerow(
            [x.throughput_per_s, x.period_s, x.latency_s, x.cores_used, x.bound_s, x.placed, stages, x.options]
        )
    return out.getvalue()
