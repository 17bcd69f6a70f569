"""Files of plans and of what was measured or simulated of them, told apart by their fields."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mapper import jsonio
from mapper.cost.profile import SCHEMA as PROFILE
from mapper.cost.profile import Profile
from mapper.errors import BadInput
from mapper.execution.measurement import Measurement
from mapper.plans.file import load_plan
from mapper.plans.problem_plan import SCHEMA as PROBLEM_PLAN
from mapper.plans.problem_plan import ProblemPlan, load_problem_plan
from mapper.simulator.result import Simulated

if TYPE_CHECKING:
    from mapper.plans.model import Plan
    from mapper.study.bench import Bench

    Measured = Measurement | Bench | Simulated | Profile
    Result = Plan | ProblemPlan | Measurement | Bench | Simulated | Profile

WRITERS = (
    "what mapper run --json or -o, mapper run --profile, mapper profile -o, mapper bench -o or mapper simulate -o wrote"
)


def load_measured(path: str | Path) -> Measured:
    """The measurement, the comparison, the simulation or the profile in `path`. Raises: BadInput for other files."""
    found = _measured(jsonio.read_json(Path(path)), str(path))
    if found is None:
        raise BadInput(str(path), f"is no measurement: {WRITERS} was expected")
    return found


def load_result(path: str | Path) -> Result:
    """The plan in `path`, of a model or of a problem file, also in a bundle; or what was measured or simulated.

    Raises: BadInput for other files, with the first violation where a file is of a known kind.
    """
    path = Path(path)
    if path.is_dir():
        return load_plan(path)
    document = jsonio.read_json(path)
    if (found := _measured(document, str(path))) is not None:
        return found
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema == PROBLEM_PLAN:
        return load_problem_plan(path)
    if not str(schema).startswith("mapper-plan/"):
        raise BadInput(str(path), f"is neither a plan nor a measurement: a plan, a bundle, or {WRITERS} was expected")
    return load_plan(path)


def _measured(document: Any, source: str) -> Measured | None:
    """What `document` has measured or simulated; None for any other document."""
    fields = set(document) if isinstance(document, dict) else set()
    if fields and document.get("schema") == PROFILE:
        return jsonio.validated(Profile, document, source)
    if {"outputs_identical", "workers"} <= fields:
        return jsonio.validated(Measurement, document, source)
    if {"utilisation", "waits"} <= fields:
        return jsonio.validated(Simulated, document, source)
    if {"verdict", "chosen"} <= fields:
        from mapper.study.bench import Bench  # it needs torch

        return jsonio.validated(Bench, document, source)
    return None
