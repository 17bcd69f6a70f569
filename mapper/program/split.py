"""Cuts a program into the programs of its stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mapper.program.model import Input, Program, ProgramOp, TensorType, references
from mapper.program.views import Reference, Views, views


def split(program: Program, stages: Sequence[Sequence[str]]) -> tuple[Program, ...]:
    """One program a stage: its ops, the free and prepared ops that they read, and exactly the values that cross its
    borders.

    `stages` partitions the ops of `program` that are neither free nor prepared, parts of a tuple (`getitem`) left out:
    they stay with the op that returns it. An input of a stage is named after the model input or the op whose tensor it
    is; an output is either read by a later stage or an output of the model; those that no stage computes are the first
    one's. Stages must be in an order in which values only flow forward.

    Raises: ValueError when `stages` is no such partition. Stages in another order come out with an input
    that no stage before them gives.
    """
    seen = views(program)
    home = _homes(program, stages, seen)
    return tuple(_Cut(program, seen, home, s).program() for s in range(len(stages)))


def _homes(program: Program, stages: Sequence[Sequence[str]], seen: Views) -> dict[str, int]:
    """The stage of every op that has one."""
    home = {name: s for s, names in enumerate(stages) for name in names}
    if len(home) != sum(len(names) for names in stages):
        raise ValueError("an op is in two stages")
    for name in home:
        if name not in program.op or name in seen.stageless or program.op[name].target == "getitem":
            raise ValueError(f"{name!r} is no op that a stage could have")
    for op in program.ops:
        if op.name in seen.stageless:
            continue
        if op.target == "getitem":
            home[op.name] = home[next(op.references("op"))]
        elif op.name not in home:
            raise ValueError(f"{op.name} is in no stage")
    return home


class _Cut:
    """The part of `program` that stage `s` computes."""

    def __init__(self, program: Program, seen: Views, home: dict[str, int], s: int) -> None:
        self.whole, self.views, self.home, self.s = program, seen, home, s
        self.wanted: set[str] = set()
        self.entering: dict[Reference, TensorType] = {}
        self.weights: set[str] = set()

    def program(self) -> Program:
        """The stage as a program of its own."""
        outputs = self._outputs()
        for op in self.whole.ops:
            if self.home.get(op.name) == self.s:
                self._want(("op", op.name))
        for output in outputs:
            self._want(output)
        ops = tuple(self._rewritten(op) for op in self.whole.ops if op.name in self.wanted)
        return Program(
            name=f"{self.whole.name}.{self.s}",
            inputs=tuple(
                Input(name=name, type=kind) for (_, name), kind in sorted(self.entering.items(), key=self._rank)
            ),
            weights=tuple(weight for weight in self.whole.weights if weight.name in self.weights),
            ops=ops,
            outputs=tuple(self._renamed({kind: name}) for kind, name in outputs),
            output_names=tuple(name for _, name in outputs),
        )

    def _rank(self, item: tuple[Reference, TensorType]) -> tuple[int, int]:
        """Model inputs first, then tensors in program order."""
        (kind, name), _ = item
        names = [x.name for x in (self.whole.inputs if kind == "input" else self.whole.ops)]
        return (kind == "op", names.index(name))

    def _outputs(self) -> list[Reference]:
        """What leaves: tensors of this stage that later stages read, and outputs of the model that belong here."""
        leaving: dict[Reference, None] = {}
        for op in self.whole.ops:
            if self.home.get(op.name, self.s) == self.s:
                continue
            for root in self._roots(op):
                if root[0] == "op" and self.home[root[1]] == self.s:
                    leaving[root] = None
        for output in self.whole.outputs:
            ((kind, name),) = output.items()
            behind = self.views.root_of((kind, name))
            if (self.home.get(behind[1], 0) if behind is not None and behind[0] == "op" else 0) == self.s:
                leaving[kind, name] = None
        return list(leaving)

    def _roots(self, op: ProgramOp) -> list[Reference]:
        """The tensors of stages that hold the data which `op` reads, through free ops."""
        if op.target == "getitem":
            return []
        out = []
        for name in op.references("op"):
            out += self._behind(name)
        return out

    def _behind(self, name: str) -> list[Reference]:
        root = self.views.root[name]
        return [root] if root is not None and root[0] == "op" and root[1] in self.home else []

    def _want(self, reference: Reference) -> None:
        """Takes in `reference`: from this stage, computed again if it has none, or through the border."""
        pending = [reference]
        while pending:
            kind, name = reference = pending.pop()
            if kind == "weight":
                self.weights.add(name)
            elif kind == "input":
                self.entering[reference] = self.whole.input[name].type
            elif self.home.get(name, self.s) != self.s:
                self.entering[reference] = self.whole.op[name].type
            elif name not in self.wanted:
                self.wanted.add(name)
                pending += self.whole.op[name].operands()

    def _rewritten(self, op: ProgramOp) -> ProgramOp:
        if not any(("op", name) in self.entering for name in references(op.args, "op", op.kwargs)):
            return op
        kwargs = {key: self._renamed(value) for key, value in op.kwargs.items()}
        return op.model_copy(update={"args": tuple(self._renamed(a) for a in op.args), "kwargs": kwargs})

    def _renamed(self, argument: Any) -> Any:
        """`argument` with references to entering tensors turned into inputs."""
        if isinstance(argument, list | tuple):
            return [self._renamed(a) for a in argument]
        if isinstance(argument, dict) and ("op", argument.get("op")) in self.entering:
            return {"input": argument["op"]}
        return argument
