"""`--costs`: measured costs instead of the model's, for the commands that plan and check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mapper.cost.profile import Profile
    from mapper.machine.model import Machine

Costs = Annotated[
    list[Path] | None,
    typer.Option("--costs", help="A profile of the model (mapper profile). May be repeated: later ones count."),
]


def profile_given(paths: Sequence[Path] | None, machine: Machine, backend: str | None) -> Profile | None:
    """The profile in `paths` for plans on `machine` that `backend` computes (None: whatever was profiled).

    Raises: BadInput where it is of another back end, or, on the machine at hand, of other versions of it;
    MachineMismatch where it is of another machine.
    """
    from mapper.backends.registry import backend_called
    from mapper.cost.profile import require_same_backend, require_same_machine
    from mapper.plans.costs import profile_of

    if not paths:
        return None
    found, source = profile_of(paths), ", ".join(map(str, paths))
    require_same_machine(found, machine, source)
    name = backend or found.backend
    require_same_backend(found, name, backend_called(name).versions() if _is_here(machine) else None, source)
    return found


def _is_here(machine: Machine) -> bool:
    """Whether `machine` is the one that this process is on."""
    from mapper.cost.profile import host_of
    from mapper.machine.discover import discover

    one, other = host_of(machine), host_of(discover())
    return (one.fingerprint, one.cpu_model, one.isa) == (other.fingerprint, other.cpu_model, other.isa)
