"""PipeDream `graph.txt`, the profile format of msr-fiddle/pipedream (SOSP 2019): one line an op, then one an edge.

node11 -- MaxPool2d(...) -- forward_compute_time=2.211, backward_compute_time=2.788, activation_size=205520896.000, parameter_size=0.000
<tab>node10 -- node11

file                                   graph
id                                     Op.name
description                            Op.target
forward_compute_time     ms            Op.proc_s
backward_compute_time    ms            Op.backward_s
activation_size          bytes         Op.write_bytes and Tensor.bytes; a list `[a; b]` is added up
parameter_size           bytes         Op.weights: one weight of that size
stage_id                               Op.given
"""  # noqa: E501

from __future__ import annotations

import math
import re

from mapper.errors import BadInput
from mapper.graph.importers.draft import Output, assembled, cost
from mapper.graph.model import Graph, Op, Scalar, WeightUse

_FIELDS = ("forward_compute_time", "backward_compute_time", "activation_size", "parameter_size")
_EXPECTED = "id -- description -- " + ", ".join(f"{name}=…" for name in _FIELDS)
_OP_LINE = re.compile(r"^\S+ -- .*forward_compute_time=", re.MULTILINE)


def looks_like_it(text: str) -> bool:
    """Whether `text` has an op line of this format."""
    return _OP_LINE.search(text) is not None


def parse(text: str, source: str, name: str) -> Graph:
    """The graph that the file `text` describes. Raises: BadInput with the line of what is wrong."""
    ops: dict[str, tuple[Op, int]] = {}
    edges: list[tuple[str, str, int]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        if line.startswith("\t"):
            edges.append((*_edge(line, source, number), number))
            continue
        op = _op(line, source, number)
        if op.name in ops:
            raise BadInput(source, f"op {op.name} is there twice, first on line {ops[op.name][1]}",
                           place=f"line {number}")  # fmt: skip
        ops[op.name] = (op, number)
    if len(ops) > 1 and not edges:
        raise BadInput(source, f"{len(ops)} ops and no edge: is the file cut off?",
                       advice="Edge lines begin with a tab: producer -- consumer.")  # fmt: skip
    return assembled(source, name, [op for op, _ in ops.values()], _outputs(ops, edges, source))


def _outputs(ops: dict[str, tuple[Op, int]], edges: list[tuple[str, str, int]], source: str) -> dict[str, Output]:
    outputs: dict[str, Output] = {}
    seen: set[tuple[str, str]] = set()
    for producer, reader, number in edges:
        for end in (producer, reader):
            if end not in ops:
                raise BadInput(source, f"there is no op {end!r}", place=f"line {number}")
        if producer == reader:
            raise BadInput(source, f"op {producer} reads its own output: a loop", place=f"line {number}")
        if (producer, reader) not in seen:
            seen.add((producer, reader))
            outputs.setdefault(producer, Output(ops[producer][0].write_bytes)).readers.append(reader)
    return outputs


def _edge(line: str, source: str, number: int) -> tuple[str, str]:
    ends = [part.strip() for part in line.strip().split(" -- ")]
    if len(ends) != 2 or not all(ends):
        raise BadInput(source, f"{line.strip()!r} is no edge: producer -- consumer was expected",
                       place=f"line {number}")  # fmt: skip
    return ends[0], ends[1]


def _op(line: str, source: str, number: int) -> Op:
    parts = line.strip().split(" -- ")
    given: dict[str, Scalar] = {}
    if len(parts) > 3 and parts[-1].startswith("stage_id="):
        stage = parts.pop().removeprefix("stage_id=")
        given["stage_id"] = int(cost(stage, "stage_id", source, f"line {number}"))
    if len(parts) < 3:
        raise BadInput(source, f"{line.strip()[:60]!r} is no op", place=f"line {number}",
                       advice=f"Expected: {_EXPECTED}; edge lines begin with a tab.")  # fmt: skip
    values = _values(parts[-1], source, number)
    activation, parameters = values["activation_size"], values["parameter_size"]
    for field in ("activation_size", "parameter_size"):
        if not values[field].is_integer():
            given[field] = values[field]
    size = math.ceil(parameters)
    return Op(
        name=parts[0].strip(),
        kind="other",
        target=" -- ".join(parts[1:-1]),
        proc_s=values["forward_compute_time"] / 1000,
        backward_s=values["backward_compute_time"] / 1000,
        write_bytes=math.ceil(activation),
        weights=(WeightUse(name=f"{parts[0].strip()}.weights", bytes=size, touched_bytes=size),) if size else (),
        given=given or None,
    )


def _values(text: str, source: str, number: int) -> dict[str, float]:
    """The four values of an op line, in the units of the file."""
    place = f"line {number}"
    found: dict[str, float] = {}
    for part in text.split(", "):
        name, equals, value = part.strip().partition("=")
        if not equals or name not in _FIELDS or name in found:
            raise BadInput(source, f"{part.strip()!r} was not expected among the values", place=place,
                           advice=f"Expected: {_EXPECTED}")  # fmt: skip
        if value.startswith("[") and value.endswith("]"):
            found[name] = sum(cost(x.strip(), name, source, place) for x in value[1:-1].split(";"))
        else:
            found[name] = cost(value, name, source, place)
    for name in _FIELDS:
        if name not in found:
            raise BadInput(source, f"{name} is missing: is the line cut off?", place=place,
                           advice=f"Expected: {_EXPECTED}")  # fmt: skip
    return found
