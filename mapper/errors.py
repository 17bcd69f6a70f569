"""The one family of errors. Each says what is wrong, where, and what to do, and knows its exit code.

Exit codes are those of the command line (`mapper --help`): 0 done, 1 a bug in mapper, 2 usage, and the ones below.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LISTED_BESIDE_NEAR, LISTED = 12, 40
"""Names that are listed at most: beside near ones, and where there are no near ones."""
_NEAR, _SHOWN = 2, 5


def near_names(name: str, known: Iterable[str], likeness: float = 0.6) -> list[str]:
    """At most two of the names `known` that `name` may have been meant to be, the nearest first; upper and lower case
    are the same. `likeness` is from 0 to 1 (equal)."""
    spelt: dict[str, str] = {}
    for each in known:
        spelt.setdefault(each.lower(), each)
    return [spelt[found] for found in difflib.get_close_matches(name.lower(), spelt, n=_NEAR, cutoff=likeness)]


def one_of(name: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """Advice for a `name` that is none of those `known`: `Did you mean scatter? One of compact, scatter, per-group.`

    Many names are not listed beside near ones; of very many a few are shown. `likeness` is that of `near_names`.
    """
    names = list(known)
    near = near_names(name, names, likeness)
    hint = f"Did you mean {' or '.join(near)}?" if near else ""
    if len(names) > (LISTED_BESIDE_NEAR if near else LISTED):
        alike = [each for each in names if name.lower() in each.lower()] or names
        return hint or f"One of {len(names)}, such as {', '.join(alike[:_SHOWN])}."
    return f"{hint} One of {', '.join(names)}.".lstrip() if names else "There is none."


class MapperError(Exception):
    """Base of every error that a user can cause or repair.

    `str(error)` is the whole message: what happened, where, and, after a line break, what to do about it.
    """

    exit_code = 1

    def __init__(self, what: str, *, advice: str = "") -> None:
        self.what = what
        self.advice = advice
        super().__init__(f"{what}\n{advice}" if advice else what)


class UsageError(MapperError):
    """The call contradicts itself or lacks something."""

    exit_code = 2


class BadInput(MapperError):
    """A file or value that is not what it has to be.

    `place` is a JSON pointer, `line 3, column 7`, or an op's name.
    """

    exit_code = 3

    def __init__(self, source: str, what: str, *, place: str = "", advice: str = "") -> None:
        self.source = source
        self.place = place
        where = f"{source}, {place}" if place else source
        super().__init__(f"{where}: {what}", advice=advice)


class UnknownName(BadInput):
    """A model, machine or target that is not there; names the near ones of those `known`."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = list(known)
        self.near = near_names(name, names)
        super().__init__(kind, f"no {kind} is called {name!r}", advice=one_of(name, names))


class Infeasible(MapperError):
    """No plan keeps the limits. `levers` are changes that, each alone, make the request feasible."""

    exit_code = 4

    def __init__(self, what: str, levers: Iterable[str] = ()) -> None:
        self.levers = list(levers)
        head = "Any one of these makes it feasible:" if len(self.levers) > 1 else "This makes it feasible:"
        super().__init__(what, advice="\n  ".join([head, *self.levers]) if self.levers else "")


class NoPlanInTime(MapperError):
    """The time limit passed before any plan was found."""

    exit_code = 5


class MachineMismatch(MapperError):
    """The plan does not fit this machine, or its cores are taken."""

    exit_code = 6


class ExecutionFailed(MapperError):
    """A worker died, raised or hung. Names the worker, its stage, and where its log is."""

    exit_code = 7


class MissingFeature(MapperError):
    """An optional package that is not installed; `advice` is the command that adds it."""

    exit_code = 8


class PromiseBroken(MapperError):
    """Outputs differ from the reference, or a checked plan breaks a promise."""

    exit_code = 9


class SystemRefused(MapperError):
    """The operating system refused: a file, a mount or a call."""

    exit_code = 10
