"""What reports are made of for tests: plans of small models on machines of several shapes, with their graphs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache
from html.parser import HTMLParser

import torch
from torch import nn

import mapper
from mapper.cost.configurations import Config
from mapper.cost.imported import given_costs
from mapper.cost.table import CostTable
from mapper.graph.model import Graph, Op, Tensor
from mapper.machine.model import Machine
from mapper.plans.evaluate import Placed, evaluate
from mapper.plans.model import Plan, Proof, Request, Solver
from mapper.plans.reference import reference_of
from mapper.reports.page.contents import Contents
from mapper.reports.page.report import shown
from mapper.solver.problem import Limits
from tests.tracing import traced

HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp; ]]> <!-- \x00\x1b[31m {{ 7 * 7 }}"


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.wide, self.back = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.back(torch.relu(self.wide(self.norm(x))))


class _Net(nn.Module):
    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.first = nn.Linear(32, 64)
        self.blocks = nn.ModuleList(_Block(64) for _ in range(blocks))
        self.last = nn.Linear(64, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return self.last(x)


@cache
def pipeline() -> tuple[Plan, Graph]:
    """A net of twelve blocks in 16 stages on the SG2042, each on a group of its own."""
    return on_groups(mapper.load_machine("sg2042"))


def on_groups(machine: Machine, stages: int = 16) -> tuple[Plan, Graph]:
    """The same on groups of four cores of another machine, as far apart as may be; nothing is searched."""
    torch.manual_seed(0)
    graph = traced(_Net(12), torch.randn(256, 32), name="net").graph
    groups = [(group,) for group in machine.groups[:: len(machine.groups) // stages]]
    return _cut(graph, machine, mapper.roofline(graph, machine), Config(1, 4), groups), graph


@cache
def copies() -> tuple[Plan, Graph]:
    """The same net on a machine of two packages, as the planner likes it."""
    torch.manual_seed(0)
    graph = traced(_Net(2), torch.randn(64, 32), name="net").graph
    return mapper.plan(graph, mapper.load_machine("pack:2 numa:2 group:2 core:2")), graph


def chain(ops: int, name: str = "op", module: str = "m") -> Graph:
    """Ops one behind the other, each of its own time, in modules of ten."""
    nodes = tuple(
        Op(name=f"{name}{i}", kind="other", module=f"{module}.{i // 10}.inner", proc_s=1e-3 * (1 + i % 3))
        for i in range(ops)
    )
    tensors = tuple(
        Tensor(name=f"t{i}", producer=a.name, readers=(b.name,), bytes=1000)
        for i, (a, b) in enumerate(itertools.pairwise(nodes))
    )
    return Graph(name=name, ops=nodes, tensors=tensors)


def units(graph: Graph, stages: int, **more: str) -> Plan:
    """`graph`, which brings its times, in so many stages on as many units."""
    reference = reference_of(graph, "chain.json").model_copy(update=more)
    return mapper.plan(
        graph, mapper.load_machine(f"uniform:{stages}"), costs=given_costs(graph, 16e9), model=reference,
        limits=Limits(stages=stages, max_replicas=1),
    )  # fmt: skip


def cut(graph: Graph, stages: int) -> Plan:
    """`graph`, which brings its times, cut into so many stages of as many ops, a unit each; nothing is searched."""
    machine = mapper.load_machine(f"uniform:{stages}")
    return _cut(graph, machine, given_costs(graph, 16e9), Config(1, 1), [((i,),) for i in range(stages)])


def _cut(
    graph: Graph, machine: Machine, table: CostTable, config: Config, homes: Sequence[tuple[tuple[int, ...], ...]]
) -> Plan:
    """`graph` in a stage of about as many ops on the cores of each of `homes`."""
    names, count = [op.name for op in graph.ops], len(homes)
    ends = [len(names) * i // count for i in range(count + 1)]
    mapping = [Placed(tuple(names[ends[i] : ends[i + 1]]), config, home) for i, home in enumerate(homes)]
    made = evaluate(graph, machine, table, mapping)
    period = made.predicted.period_s
    solver = Solver(status="feasible", objective=period, best_objective=period, bound=period / 2, gap=0.5,
                    near_optimal=0, proved=Proof(space="nothing"))  # fmt: skip
    request = Request(costs={"source": table.source, **table.options})
    return made.as_plan(reference_of(graph, "chain.json"), machine, request, solver)


@cache
def hostile() -> tuple[Plan, Graph]:
    """A plan in which everything that has a name has a hostile one."""
    graph = chain(6, HOSTILE, HOSTILE.replace(".", ""))
    plan = units(graph, 3, title=HOSTILE, source=HOSTILE)
    machine = plan.machine.model_copy(update={"title": HOSTILE, "notes": (HOSTILE,)})
    others = tuple(other.model_copy(update={"name": HOSTILE, "options": HOSTILE}) for other in plan.alternatives)
    return plan.model_copy(update={"machine": machine, "alternatives": others, "provenance": {HOSTILE: HOSTILE}}), graph


@cache
def contents(kind: str) -> Contents:
    """What the report of one of the plans above shows; only what binds is explained."""
    plan, graph = {"pipeline": pipeline, "copies": copies, "hostile": hostile}[kind]()
    return shown(plan, graph, [], only=("binding",))


SECTIONS = ["machine", "model", "loads", "gantt", "roofline", "traffic", "measured", "alternatives", "explained",
            "provenance"]  # fmt: skip
VOID = {"meta", "link", "br", "img", "input"}


class Parsed(HTMLParser):
    """A page taken apart: its elements with their attributes, and the texts outside of script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.inside: dict[str, str] = {}
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "script"):
            self.inside[self.open[-1]] = self.inside.get(self.open[-1], "") + data
        else:
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]
