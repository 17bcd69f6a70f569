"""Which PUs this process may use, and binding the calling thread to some of them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence

from mapper.errors import MachineMismatch, SystemRefused
from mapper.machine.parts import Core
from mapper.machine.pus import format_pus


def allowed_pus() -> tuple[int, ...]:
    """The OS numbers of the PUs that the calling thread may use, ascending."""
    return tuple(sorted(os.sched_getaffinity(0)))


def pin(pus: Collection[int], *, cores: Sequence[Core] = (), allowed: Collection[int] | None = None) -> None:
    """Binds the calling thread, and threads it starts from now on, to `pus`, and makes sure that it worked.

    The kernel narrows a mask silently, so it is compared before (with `allowed`, by default what the thread may use
    now) and read back after. `cores` are those of the machine; with them messages say `PU 5 (core 2)`.

    Raises: MachineMismatch when `pus` is empty or some of it is not allowed; SystemRefused when the call fails.
    """
    wanted = frozenset(pus)
    if not wanted:
        raise MachineMismatch("no PU to bind to was given")
    missing = wanted - frozenset(allowed_pus() if allowed is None else allowed)
    if missing:
        raise MachineMismatch(
            f"{named(missing, cores)} may not be used by this process",
            advice=f"Allowed are PUs {format_pus(allowed_pus())}. Plan for fewer cores, or widen its cpuset.",
        )
    try:
        os.sched_setaffinity(0, wanted)
    except OSError as error:
        raise SystemRefused(
            f"binding to {named(wanted, cores)} was refused: {error.strerror}",
            advice="The container or a seccomp filter may forbid sched_setaffinity; see mapper doctor.",
        ) from error
    got = frozenset(allowed_pus())
    if got != wanted:
        raise SystemRefused(
            f"asked for {named(wanted, cores)}, bound to {named(got, cores)}",
            advice="The cpuset changed meanwhile; try again, or plan for the PUs that are left.",
        )


def named(pus: Iterable[int], cores: Sequence[Core] = ()) -> str:
    """`pus` in words, each with its core where `cores` tell it: `PU 5 (core 2), PU 9`."""
    core_of = {pu: core.logical for core in cores for pu in core.pus}
    return ", ".join(f"PU {pu} (core {core_of[pu]})" if pu in core_of else f"PU {pu}" for pu in sorted(pus))
