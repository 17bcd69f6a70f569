"""`mapper schema`: the JSON Schemas of the files."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mapper.cli import completion
from mapper.cli.output import emit_json

if TYPE_CHECKING:
    from pydantic import BaseModel


DRAFT = "https://json-schema.org/draft/2020-12/schema"


class Kind(StrEnum):
    """Files that have a schema."""

    plan = "plan"
    topology = "topology"
    cluster = "cluster"
    graph = "graph"
    program = "program"
    model = "model"
    problem = "problem"
    problem_plan = "problem-plan"
    front = "front"
    profile = "profile"
    host_study = "host-study"


File = Annotated[
    str,
    typer.Argument(metavar="KIND", help=f"Which file: {', '.join(Kind)}.", autocompletion=completion.one(*Kind)),
]


def schema_command(kind: File) -> None:
    """Print the JSON Schema of a file."""
    from mapper.errors import UsageError, one_of

    if kind not in list(Kind):
        raise UsageError(f"there is no file {kind!r} that has a schema", advice=one_of(kind, Kind))
    emit_json(schema_of(Kind(kind)))


def schema_of(kind: Kind) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `kind` as it stands in its file."""
    from mapper.cost.profile import Profile
    from mapper.graph.model import Graph
    from mapper.machine.cluster_file import Cluster
    from mapper.plans.front import Front
    from mapper.plans.model import Plan
    from mapper.plans.problem_file import ProblemFile
    from mapper.plans.problem_plan import ProblemPlan
    from mapper.program.cards import ModelCard
    from mapper.program.model import Program
    from mapper.study.host.record import HostStudy

    records: dict[Kind, type[BaseModel]] = {
        Kind.plan: Plan,
        Kind.cluster: Cluster,
        Kind.graph: Graph,
        Kind.program: Program,
        Kind.model: ModelCard,
        Kind.problem: ProblemFile,
        Kind.problem_plan: ProblemPlan,
        Kind.front: Front,
        Kind.profile: Profile,
        Kind.host_study: HostStudy,
    }
    if kind is Kind.topology:
        from mapper.machine.complete import schema as topology_schema

        return {"$schema": DRAFT, **topology_schema()}
    schema: dict[str, Any] = records[kind].model_json_schema(mode="validation", by_alias=True)
    return {"$schema": DRAFT, **schema}
