"""Plan files: read with every violation named, written whole."""

from __future__ import annotations

from pathlib import Path

from mapper import jsonio
from mapper.errors import BadInput
from mapper.plans.model import SCHEMA, Plan
from mapper.plans.problem_plan import SCHEMA as PROBLEM_SCHEMA


def load_plan(path: str | Path) -> Plan:
    """The plan in `path`: a plan file, or a bundle (a folder with `plan.json` in it).

    Raises: BadInput with the JSON pointer of the first violation, or when the file is of another major version, or is
    the plan of a problem file, which has no cores.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "plan.json"
    document = jsonio.read_json(path)
    if isinstance(document, dict) and document.get("schema") == PROBLEM_SCHEMA:
        raise BadInput(
            str(path), "is the plan of a problem file: it has no model, no machine and no cores, only numbers of them",
            advice=f"It can be checked: mapper check {path} --problem FILE. What runs is the plan of a model.",
        )  # fmt: skip
    jsonio.require_schema(document, SCHEMA, str(path))
    plan = jsonio.validated(Plan, document, str(path))
    _check_references(plan, str(path))
    return plan


def save_plan(plan: Plan, path: Path) -> None:
    """Writes `plan` to `path`; the same plan gives the same bytes."""
    jsonio.write_text(path, plan_text(plan))


def plan_text(plan: Plan) -> str:
    """The plan as it stands in its file."""
    return jsonio.dumps(jsonio.plain(plan))


def _check_references(plan: Plan, source: str) -> None:
    """Stage ids, edges and cores must refer to what is there; what they promise is for `check`."""
    cores = len(plan.machine.cores)
    taken: dict[int, int] = {}
    for i, stage in enumerate(plan.stages):
        if stage.id != i:
            raise BadInput(
                source, f"stage ids count from 0; {stage.id} stands at position {i}", place=f"/stages/{i}/id"
            )
        for j, replica in enumerate(stage.replicas):
            place = f"/stages/{i}/replicas/{j}/cores"
            for core in replica.cores:
                if not 0 <= core < cores:
                    raise BadInput(source, f"core {core} is not on the machine, which has {cores}", place=place)
                if taken.setdefault(core, i) != i or replica.cores.count(core) > 1:
                    raise BadInput(source, f"core {core} is used twice", place=place)
    for i, edge in enumerate(plan.edges):
        for end in (edge.source, edge.target):
            if end != "feeder" and not 0 <= end < len(plan.stages):
                raise BadInput(source, f"there is no stage {end}", place=f"/edges/{i}")
