"""Which ops of a program belong to no stage, which are computed once, and which tensor a value really is.

An op is *free* when it moves no data: it shows all of another tensor in another shape (view, transpose, expand), or
it depends on nothing but constants (a position index). An op is *prepared* when it depends on no input of the model,
but on weights and constants alone (a bias gathered from a table, a part of a weight, a transposed weight): it is
computed once, before the first item. An op can be both.

Neither belongs to a stage: every stage that reads one computes it from the tensor or the weights behind it, so that a
tensor crosses a border once, whatever shapes it is read in, and what is prepared never crosses one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mapper.program.model import Program, ProgramOp

Reference = tuple[str, str]
"""("op" | "input" | "weight", name)."""

MOST_GROWTH_BYTES = 16 * 2**20
"""By how much the result of a prepared op may exceed the weights that it depends on: every process holds it in memory
of its own. What is larger (weights stored in few bits, a table made from a range), and all that reads it, is computed
for every item."""


@dataclass(frozen=True)
class Views:
    """`root[name]` is the value that holds the data of op `name`: an input, a weight, or an op that is not free; None
    for constants. `first[name]` is the first of all prepared ops that compute what the prepared op `name` does."""

    root: dict[str, Reference | None]
    free: frozenset[str]
    first: dict[str, str]

    @cached_property
    def prepared(self) -> frozenset[str]:
        """The ops that are computed once."""
        return frozenset(self.first)

    @cached_property
    def stageless(self) -> frozenset[str]:
        """The ops that belong to no stage: free ones and prepared ones."""
        return self.free | self.prepared

    @cached_property
    def inputless(self) -> frozenset[str]:
        """The ops among those that depend on no input: prepared ones, and constants too large for that."""
        return self.prepared | {name for name, root in self.root.items() if root is None}

    def root_of(self, reference: Reference) -> Reference | None:
        """The value that holds the data of `reference`."""
        kind, name = reference
        return self.root[name] if kind == "op" else reference


def views(program: Program) -> Views:
    """Finds the free and the prepared ops of `program`."""
    root: dict[str, Reference | None] = {}
    free: set[str] = set()
    constant: set[str] = set()
    behind: dict[str, frozenset[str]] = {}
    first: dict[str, str] = {}
    known: dict[str, str] = {}
    for op in program.ops:
        weights = _weights_behind(op, behind)
        if weights is not None and _growth_bytes(program, op, weights) <= MOST_GROWTH_BYTES:
            behind[op.name] = weights
            first[op.name] = known.setdefault(_call(op, first), op.name)
        if all(kind == "op" and name in constant for kind, name in op.operands()):
            constant.add(op.name)
            free.add(op.name)
            root[op.name] = None
        elif _shows_all(program, op):
            free.add(op.name)
            root[op.name] = _behind(op, root)
        else:
            root[op.name] = ("op", first.get(op.name, op.name))
    return Views(root, frozenset(free), first)


def _shows_all(program: Program, op: ProgramOp) -> bool:
    """True for a view with every distinct element of what it shows."""
    if not op.view or op.many or op.target == "getitem":
        return False
    kind, name = next(op.operands())
    return program.type_of({kind: name}).bytes == op.type.bytes


def _behind(op: ProgramOp, root: dict[str, Reference | None]) -> Reference | None:
    kind, name = next(op.operands())
    return root[name] if kind == "op" else (kind, name)


def _weights_behind(op: ProgramOp, behind: Mapping[str, frozenset[str]]) -> frozenset[str] | None:
    """The weights that `op` depends on, where all that it reads is weights and prepared ops, `behind`; else None."""
    found: set[str] = set()
    for kind, name in op.operands():
        if kind == "weight":
            found.add(name)
        elif kind == "op" and name in behind:
            found |= behind[name]
        else:
            return None
    return frozenset(found)


def _growth_bytes(program: Program, op: ProgramOp, weights: frozenset[str]) -> int:
    """By how many bytes the results of `op` exceed `weights`."""
    results = sum(result.bytes for result in op.outputs if result is not None)
    return results - sum(program.weight[name].type.bytes for name in weights)


def _call(op: ProgramOp, first: Mapping[str, str]) -> str:
    """What the prepared op `op` calls, the same text for ops that compute the same."""
    return f"{op.target}{_renamed([*op.args, sorted(op.kwargs.items())], first)!r}"


def _renamed(argument: Any, first: Mapping[str, str]) -> Any:
    """`argument` with each op replaced by the first that computes the same."""
    if isinstance(argument, list | tuple):
        return [_renamed(a, first) for a in argument]
    if isinstance(argument, dict) and isinstance(argument.get("op"), str):
        return {"op": first.get(argument["op"], argument["op"])}
    return argument
