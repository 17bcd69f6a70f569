"""Which ops of a program are free, and which tensor a value really is.

An op is *free* when it moves no data: it shows all of another tensor in another shape (view, transpose, expand), or
it depends on nothing but constants (a position index). Free ops belong to no stage: every stage that reads one
computes it from the tensor behind it, so that a tensor crosses a border once, whatever shapes it is read in.
"""

from __future__ import annotations

from dataclasses import dataclass

from mapper.program.model import Program, ProgramOp

Reference = tuple[str, str]
"""("op" | "input" | "weight", name)."""


@dataclass(frozen=True)
class Views:
    """`root[name]` is the value that holds the data of op `name`; None for constants."""

    root: dict[str, Reference | None]
    free: frozenset[str]

    def root_of(self, reference: Reference) -> Reference | None:
        """The value that holds the data of `reference`."""
        kind, name = reference
        return self.root[name] if kind == "op" else reference


def views(program: Program) -> Views:
    """Finds the free ops of `program`."""
    root: dict[str, Reference | None] = {}
    free: set[str] = set()
    constant: set[str] = set()
    for op in program.ops:
        if all(kind == "op" and name in constant for kind, name in op.operands()):
            constant.add(op.name)
            free.add(op.name)
            root[op.name] = None
        elif _shows_all(program, op):
            free.add(op.name)
            root[op.name] = _behind(op, root)
        else:
            root[op.name] = ("op", op.name)
    return Views(root, frozenset(free))


def _shows_all(program: Program, op: ProgramOp) -> bool:
    """True for a view with every distinct element of what it shows."""
    if not op.view or op.many or op.target == "getitem":
        return False
    kind, name = next(op.operands())
    return program.type_of({kind: name}).bytes == op.type.bytes


def _behind(op: ProgramOp, root: dict[str, Reference | None]) -> Reference | None:
    kind, name = next(op.operands())
    return root[name] if kind == "op" else (kind, name)
