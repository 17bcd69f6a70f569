"""The plan of a problem file: ops by position, configurations by name, numbers of replicas, and no cores.

`mapper schema problem-plan` prints its schema. Times are seconds, sizes bytes. Fields that a newer minor version adds
are kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from mapper import jsonio
from mapper.errors import BadInput
from mapper.plans.model import SCHEMA as PLAN_SCHEMA
from mapper.plans.model import PlanRecord, Solver
from mapper.plans.problem_file import ProblemRef

SCHEMA = "mapper-problem-plan/1"
Objective = Literal["throughput", "latency", "cores"]


class ProblemLimits(PlanRecord):
    """What the plan had to keep; None is no limit. `stages` is an exact number, `configurations` are names of the
    problem file's, `together` and `apart` sets of its ops by name."""

    max_latency_s: float | None = Field(default=None, ge=0)
    min_throughput_per_s: float | None = Field(default=None, ge=0)
    stages: int | None = Field(default=None, ge=1)
    max_stages: int | None = Field(default=None, ge=1)
    max_replicas: int | None = Field(default=None, ge=1)
    max_cores: int | None = Field(default=None, ge=1)
    configurations: tuple[str, ...] | None = None
    together: tuple[tuple[str, ...], ...] | None = None
    apart: tuple[tuple[str, ...], ...] | None = None

    @property
    def given(self) -> dict[str, Any]:
        """Those that are set, by name; also those that only a newer version knows."""
        return self.model_dump(exclude_none=True)


class ProblemRequest(PlanRecord):
    """What was asked for."""

    objective: Objective = "throughput"
    limits: ProblemLimits = ProblemLimits()


class NamedConfiguration(PlanRecord):
    """A configuration of the problem file."""

    name: str


class ProblemStage(PlanRecord):
    """A stage: its ops by their positions in the file, and what each of its replicas gets.

    `load_s` is the time of one item in it; `weight_bytes` are distinct, `dram_bytes` those of them that an item draws
    from DRAM; `private_bytes` is its largest footprint and the ring slots of what enters.
    """

    id: int = Field(ge=0)
    ops: tuple[int, ...] = Field(min_length=1, description="positions in the problem file, from 0")
    residency: str
    configuration: NamedConfiguration
    replicas: int = Field(ge=1, description="how many")
    exclusive: bool = Field(default=False, description="its groups hold no other stage: cores count in whole groups")
    load_s: float = Field(ge=0)
    weight_bytes: float = Field(ge=0)
    dram_bytes: float = Field(ge=0)
    private_bytes: float = Field(ge=0)


class ProblemPredicted(PlanRecord):
    """What the problem file predicts. `latency_s` is the sum of the loads, `cores_used` counts whole groups where a
    stage is exclusive."""

    period_s: float = Field(gt=0)
    throughput_per_s: float = Field(gt=0)
    latency_s: float = Field(ge=0)
    cores_used: int = Field(ge=1)
    dram_bytes_per_item: float = Field(ge=0)
    limited_by: str

    def value(self, objective: Objective) -> float:
        """What the plan is to have little of: its period, its latency (seconds), or its cores."""
        return {"throughput": self.period_s, "latency": self.latency_s, "cores": float(self.cores_used)}[objective]


class ProblemPlan(PlanRecord):
    """A plan of a problem file. Stages stand in an order in which every tensor is read in its own or a later one."""

    schema_: Literal["mapper-problem-plan/1"] = Field(default="mapper-problem-plan/1", alias="schema")
    problem: ProblemRef
    request: ProblemRequest
    solver: Solver
    predicted: ProblemPredicted
    stages: tuple[ProblemStage, ...] = Field(min_length=1)
    provenance: dict[str, Any] = Field(default={})


def load_problem_plan(path: Path) -> ProblemPlan:
    """The plan of a problem file in `path`.

    Raises: BadInput with the JSON pointer of the first violation, or when the file is of another major version.
    """
    document = jsonio.read_json(path)
    if isinstance(document, dict) and document.get("schema") == PLAN_SCHEMA:
        raise BadInput(
            str(path), "is the plan of a model or a graph, not of a problem file",
            advice=f"It is checked without --problem: mapper check {path}.",
        )  # fmt: skip
    jsonio.require_schema(document, SCHEMA, str(path))
    plan = jsonio.validated(ProblemPlan, document, str(path))
    for i, stage in enumerate(plan.stages):
        if stage.id != i:
            what = f"stage ids count from 0; {stage.id} stands at position {i}"
            raise BadInput(str(path), what, place=f"/stages/{i}/id")
    return plan


def save_problem_plan(plan: ProblemPlan, path: Path) -> None:
    """Writes `plan` to `path`, whole or not at all; the same plan gives the same bytes."""
    jsonio.write_text(path, problem_plan_text(plan))


def problem_plan_text(plan: ProblemPlan) -> str:
    """The plan as it stands in its file."""
    return jsonio.dumps(jsonio.plain(plan))


def is_problem_plan(path: Path) -> bool:
    """Whether `path` is a file that calls itself a plan of a problem file. A bundle is a folder, so it is none."""
    if path.is_dir():
        return False
    document = jsonio.read_json(path)
    return isinstance(document, dict) and document.get("schema") == SCHEMA
