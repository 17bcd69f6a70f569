"""The programs of a plan's stages, and which of them gives which output of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mapper.errors import BadInput
from mapper.plans.model import Plan
from mapper.program.model import Program
from mapper.program.split import split


def stage_programs(plan: Plan, program: Program, source: str = "plan") -> tuple[Program, ...]:
    """The program of each stage of `plan`.

    Raises: BadInput when `program` is not the one that was planned, or the stages are no partition of it in an order
    in which tensors only flow forward.
    """
    if program.sha256 != plan.model.graph_sha256:
        raise BadInput(
            source,
            f"it maps the graph {plan.model.graph_sha256[:12]}, the model at hand is {program.sha256[:12]}",
            place="/model/graph_sha256",
            advice=f"{made_with_torch(plan)}A bundle brings its graph.",
        )
    for i, stage in enumerate(plan.stages):
        unknown = [name for name in stage.ops if name not in program.op]
        if unknown:
            raise BadInput(source, f"the model has no op {unknown[0]!r}", place=f"/stages/{i}/ops")
    try:
        programs = split(program, [stage.ops for stage in plan.stages])
    except (ValueError, KeyError) as error:
        raise BadInput(source, f"its stages are no partition of the model: {error}", place="/stages") from None
    _refuse_backward(program, programs, source)
    return programs


def made_with_torch(plan: Plan) -> str:
    """A sentence for advice, empty where the plan does not say it."""
    return f"The plan was made with torch {plan.model.torch}. " if plan.model.torch else ""


def _refuse_backward(program: Program, programs: Sequence[Program], source: str) -> None:
    """Every tensor that enters a stage must come from the feeder or from a stage before it."""
    known = set(program.input)
    for i, stage in enumerate(programs):
        late = [given.name for given in stage.inputs if given.name not in known]
        if late:
            raise BadInput(
                source,
                f"stage {i} reads {late[0]!r}, which no stage before it produces",
                place=f"/stages/{i}",
                advice="Stages must be in an order in which tensors flow forward.",
            )
        known.update(stage.output_names)


def output_homes(program: Program, programs: Sequence[Program]) -> list[tuple[int, int]]:
    """For each output of the model the stage that hands it out, and its position among that stage's outputs."""
    places: dict[tuple[str, str], tuple[int, int]] = {}
    for s, stage in enumerate(programs):
        for i, reference in enumerate(stage.outputs):
            places.setdefault(_key(reference), (s, i))
    return [places[_key(reference)] for reference in program.outputs]


def _key(reference: Mapping[str, Any]) -> tuple[str, str]:
    ((kind, name),) = reference.items()
    return kind, str(name)
