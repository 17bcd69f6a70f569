"""Costs as text: what a model costs on a machine, and where one op's number comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mapper.cost.explain import Explanation
from mapper.cost.forms import form
from mapper.cost.residency import DRAM, GROUP, PACKAGE
from mapper.cost.table import CostTable
from mapper.graph.model import Graph
from mapper.machine.model import Machine
from mapper.reports.table import table
from mapper.units import format_bytes, format_count, format_seconds

MOST = 12
"""Ops in the table of the costliest ones."""


@dataclass(frozen=True)
class Costs:
    """A graph's table with what it was made for; columns are one core, then the configuration that was asked for."""

    graph: Graph
    machine: Machine
    table: CostTable
    path: str

    @property
    def residency(self) -> int:
        """Where the weights of the whole model are when one replica runs it."""
        return PACKAGE if self.table.caches.holds_model(self.graph.weight_bytes) else DRAM

    def seconds(self, v: int, column: int) -> float:
        """Of op `v`."""
        return float(self.table.seconds[v, column, self.residency])

    def total(self, column: int) -> float:
        """Of the whole model."""
        return sum(self.seconds(v, column) for v in range(len(self.graph.ops)))


def cost_json(costs: Costs) -> dict[str, Any]:
    """All numbers of the table, an op a row, residencies nearest first."""
    t = costs.table
    return {
        "graph": costs.graph.name, "machine": costs.machine.name, "path": costs.path,
        "configurations": [config.name for config in t.configs], "residencies": list(t.caches.names),
        "residency": t.caches.names[costs.residency],
        "total_s": [costs.total(c) for c in range(len(t.configs))],
        "ops": [
            {"name": op.name, "kind": op.kind, "seconds": t.seconds[v].tolist(), "dispatch_s": float(t.dispatch_s[v]),
             "fork_join_s": t.fork_join_s[v].tolist()}
            for v, op in enumerate(costs.graph.ops)
        ],
    }  # fmt: skip


def cost_text(costs: Costs) -> list[str]:
    """The whole, then by kind of op, then the costliest ops."""
    graph, t = costs.graph, costs.table
    wide = len(t.configs) - 1
    totals = [costs.total(c) for c in range(len(t.configs))]
    names = [config.name for config in t.configs]
    gain = f", {format_seconds(totals[wide])} on {names[wide]} ({totals[0] / totals[wide]:.2f} ×)" if wide else ""
    order = sorted(range(len(graph.ops)), key=lambda v: -costs.seconds(v, wide))
    return [
        f"{graph.name} on {costs.machine.title or costs.machine.name}: {format_seconds(totals[0])} on one core{gain}",
        f"Path {costs.path}; weights in {t.caches.names[costs.residency]}; all cores busy.",
        "",
        *table(["kind", "ops", *names, "", "dispatch", "fork-join"], _kinds(costs, wide), right="234567", indent=""),
        "",
        *table(["costliest ops", "sort", *names, "gain", "module"], [_op(costs, v, wide) for v in order[:MOST]],
               right="234"[: len(names) + 1], indent=""),
        "",
        f"One of them in detail: mapper model cost {graph.name} --op {graph.ops[order[0]].name}",
    ]  # fmt: skip


def _kinds(costs: Costs, wide: int) -> list[list[str]]:
    graph, t = costs.graph, costs.table
    whole = costs.total(wide)
    kinds = dict.fromkeys(op.kind for op in graph.ops)
    rows = []
    for kind in sorted(kinds, key=lambda k: -sum(costs.seconds(v, wide) for v in _of(graph, k))):
        members = _of(graph, kind)
        sums = [sum(costs.seconds(v, c) for v in members) for c in range(len(t.configs))]
        rows.append([
            kind, str(len(members)), *map(format_seconds, sums), f"{sums[wide] / whole:.0%}" if whole else "",
            format_seconds(sum(float(t.dispatch_s[v]) for v in members)),
            format_seconds(sum(float(t.fork_join_s[v, wide]) for v in members)),
        ])  # fmt: skip
    return rows


def _of(graph: Graph, kind: str) -> list[int]:
    return [v for v, op in enumerate(graph.ops) if op.kind == kind]


def _op(costs: Costs, v: int, wide: int) -> list[str]:
    op = costs.graph.ops[v]
    values = [costs.seconds(v, c) for c in range(len(costs.table.configs))]
    gain = f"{values[0] / values[wide]:.2f} ×" if values[wide] else ""
    return [op.name, form(op, costs.graph.program).sort, *map(format_seconds, values), gain, op.module or op.target]


def explanation_text(e: Explanation, machine: Machine) -> list[str]:
    """The path, the amounts, and a table of the terms for each residency."""
    terms, op, runs = e.terms, e.op, e.terms.course
    rows, plural = [], "s" * (runs.forks != 1)
    for rho in (GROUP, PACKAGE, DRAM):
        parts = (terms.work_s, terms.weights_s[rho], terms.activations_s, terms.compute_s(rho), terms.dispatch_s,
                 terms.fork_join_s, terms.total_s(rho))  # fmt: skip
        rows.append([e.residencies[rho], *map(format_seconds, parts)])
    turns = f", {runs.turns} {runs.rule.loop} in series" if runs.turns > 1 else ""
    head = ["weights in", "arithmetic", "weights", "activations", "× busy", "dispatch", "fork-join", "sum"]
    return [
        f"{op.name}: {op.target or op.kind}" + (f" of {op.module}" if op.module else ""),
        f"on {machine.title or machine.name}, configuration {e.config.name}",
        "",
        f"sort         {e.form.sort}",
        f"path         {e.path}: over {_over(e)}{turns}",
        f"             {runs.rule.source}",
        f"team         {runs.team} of {e.config.cores} cores, {runs.forks} fork{plural} and join{plural}",
        f"amounts      {format_count(op.flop)} FLOP, {format_bytes(op.touched_bytes)} of weights, "
        f"{format_bytes(op.read_bytes)} read, {format_bytes(op.write_bytes)} written",
        f"arithmetic   {e.work_source}",
        f"activations  in {e.residencies[terms.level]}",
        f"dispatch     {op.nodes} program op{'s' * (op.nodes > 1)}"
        + (f", {format_seconds(terms.turns_s)} of it for the turns" if terms.turns_s else ""),
        "",
        *table(head, rows, right="1234567", indent=""),
        f"sum = {terms.busy:g} (all cores busy) × the longer of arithmetic and memory (weights and activations), "
        "dispatch and fork-join on top",
        *([f"and {format_seconds(terms.panels_s)} in which the team waits for panels"] if terms.panels_s else []),
        *([f"and {format_seconds(terms.pages_s)} for fresh pages of the result"] if terms.pages_s else []),
    ]


def _over(e: Explanation) -> str:
    rule = e.terms.course.rule
    names = {"team": "all cores", "nothing": "nothing", "blocks": "blocks of channels and lines"}
    alone = f" ({names.get(rule.alone, rule.alone)} where there is one)" if rule.alone != "nothing" else ""
    return names.get(rule.over, rule.over) + alone
