"""The plan: which ops run where, what was proved of it, and what it promises. `mapper schema plan` prints its schema.

A plan is data: reading one imports and runs nothing that it names. Fields that a newer minor version adds are kept.
Times are seconds, sizes bytes; cores are logical numbers of `machine`, never what the OS calls them.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mapper.machine.model import Machine
from mapper.machine.parts import Distance

SCHEMA = "mapper-plan/1"
FEEDER = "feeder"
"""The process that feeds items and collects results, as `Edge.source` or `Edge.target`."""

Status = Literal["optimal", "feasible", "infeasible", "unknown"]


class PlanRecord(BaseModel):
    """A frozen part of a plan; keeps fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False, populate_by_name=True)


class TensorSpec(PlanRecord):
    """A named tensor of an item: shape with the batch in it, dtype; integers are drawn below `high`."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    high: int | None = None


class ModelRef(PlanRecord):
    """Where the model comes from, exactly enough to trace it again."""

    name: str
    title: str = ""
    source: str = Field(description="model card name or file, package.module:callable, or graph file")
    options: dict[str, Any] = {}
    graph_sha256: str
    weights: str = Field(description="seed:N for random weights, sha256:HASH of a weights file")
    dtype: str
    item: tuple[TensorSpec, ...]
    item_name: str = Field(default="item", description="what one element of the batch is")
    torch: str = ""


class Request(PlanRecord):
    """What was asked for."""

    objective: Literal["throughput", "latency", "cores"] = "throughput"
    limits: dict[str, Any] = {}
    batch: int = 1
    micro_batches: int = Field(default=1, ge=1, description="calls of the model that an item of `batch` is split into")
    backend: str = "eager"
    costs: dict[str, str] = {}


class Proof(PlanRecord):
    """Of what the bound holds: the space that was searched, and what the cost model assumes."""

    space: str
    assumptions: tuple[str, ...] = ()


class Solver(PlanRecord):
    """How good the plan is, of this cost model. `objective` is this plan's; `gap` is best against bound."""

    status: Status
    objective: float
    best_objective: float
    bound: float
    gap: float
    near_optimal: float
    proved: Proof
    tie_break: Literal["complete", "incomplete"] = "complete"
    versions: dict[str, str] = {}


class Predicted(PlanRecord):
    """What the cost model predicts. `latency_s` is the sum of the stage loads, which is what limits mean."""

    period_s: float = Field(gt=0)
    throughput_per_s: float = Field(gt=0)
    latency_s: float = Field(gt=0)
    critical_path_s: float = Field(gt=0)
    window: int = Field(ge=1, description="items in flight under steady load")
    cores_used: int = Field(ge=1)
    dram_bytes_per_item: float = Field(ge=0)
    node_memory_bytes: tuple[float, ...] = Field(default=(), description="what each NUMA node holds")
    limited_by: str


class Configuration(PlanRecord):
    """What each replica of a stage gets: `cores_per_group` cores of each of `groups` groups, one thread a core."""

    name: str
    groups: int = Field(ge=1)
    cores_per_group: int = Field(ge=1)
    threads: int = Field(ge=1)

    @property
    def cores(self) -> int:
        """Cores of one replica."""
        return self.groups * self.cores_per_group


class WeightPlace(PlanRecord):
    """NUMA nodes that hold a replica's weights."""

    policy: Literal["node", "interleave"]
    nodes: tuple[int, ...]


class Replica(PlanRecord):
    """One copy of a stage: its cores by logical number, and where its weights live."""

    host: int = 0
    configuration: Configuration
    cores: tuple[int, ...] = Field(min_length=1)
    weights: WeightPlace


class Load(PlanRecord):
    """Seconds of one item in one stage, by cause; `total_s` is their sum."""

    compute_s: float = Field(ge=0)
    dispatch_s: float = Field(ge=0)
    fork_join_s: float = Field(ge=0)
    in_s: float = Field(ge=0)
    out_s: float = Field(ge=0)
    total_s: float = Field(ge=0)


class Stage(PlanRecord):
    """A convex set of ops, run by one or more replicas. Ops are those of the graph: free and prepared ones are in no
    stage."""

    id: int = Field(ge=0)
    ops: tuple[str, ...] = Field(min_length=1)
    inputs: tuple[str, ...] = Field(description="tensors that enter, model inputs included")
    outputs: tuple[str, ...] = Field(description="tensors that leave, model outputs included")
    residency: str
    weight_bytes: int
    touched_bytes: int
    activation_bytes: int
    flop: float
    dram_bytes: float
    memory_bytes: float = Field(
        default=0, description="what a replica holds besides weights: live activations, ring slots, its process"
    )
    load: Load
    replicas: tuple[Replica, ...] = Field(min_length=1)


class Ring(PlanRecord):
    """One replica handing items to another; "feeder" is replica 0 of the feeder."""

    from_replica: int
    to_replica: int
    node: int
    distance: Distance


class Edge(PlanRecord):
    """Tensors that one stage hands to another, in one slot an item. `from` and `to` in the file."""

    source: int | Literal["feeder"] = Field(validation_alias="from", serialization_alias="from")
    target: int | Literal["feeder"] = Field(validation_alias="to", serialization_alias="to")
    tensors: tuple[str, ...] = Field(min_length=1)
    bytes: int
    slots: int = Field(ge=1)
    rings: tuple[Ring, ...] = ()


class Alternative(PlanRecord):
    """Another plan for the same request, with the command-line options that give it."""

    name: str
    throughput_per_s: float
    latency_s: float
    cores_used: int
    options: str = ""


class Plan(PlanRecord):
    """A mapping of a model onto a machine."""

    schema_: Literal["mapper-plan/1"] = Field(default="mapper-plan/1", alias="schema")
    model: ModelRef
    machine: Machine
    fingerprint: str
    request: Request
    solver: Solver
    predicted: Predicted
    stages: tuple[Stage, ...] = Field(min_length=1)
    edges: tuple[Edge, ...]
    alternatives: tuple[Alternative, ...] = ()
    provenance: dict[str, Any] = {}

    @property
    def ahead(self) -> int:
        """How many calls lie ready beside those of the window. With a single stage, one for each replica: it finds its
        next call when it is done with one, and waits neither for the feeder nor for the others. With several stages
        none: whoever is free would take them, and latencies be longer than planned."""
        return len(self.stages[0].replicas) if len(self.stages) == 1 else 0

    @cached_property
    def stage_of(self) -> dict[str, int]:
        """The stage of each op."""
        return {op: stage.id for stage in self.stages for op in stage.ops}

    @property
    def cores(self) -> tuple[int, ...]:
        """All cores that it uses, ascending."""
        return tuple(sorted(core for stage in self.stages for replica in stage.replicas for core in replica.cores))
