"""Where a cost comes from: one op's number in the table, term by term."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mapper.cost.configurations import Config
from mapper.cost.forms import Form, form
from mapper.cost.paths import path_of
from mapper.cost.residency import DRAM, GROUP, PACKAGE
from mapper.cost.roofline import Roofline, Terms
from mapper.errors import UsageError, one_of
from mapper.graph.model import Graph, Op
from mapper.machine.model import Machine
from mapper.machine.parts import Path


@dataclass(frozen=True)
class Explanation:
    """One op with one configuration: what it is, the path it takes, and its terms.

    `work_source` says where its arithmetic's price is from; `residencies` are the names of GROUP, PACKAGE and DRAM.
    """

    op: Op
    form: Form
    config: Config
    path: Path
    terms: Terms
    work_source: str
    residencies: tuple[str, str, str]

    def as_json(self) -> dict[str, Any]:
        """Everything, seconds per residency included: `total_s` of a residency is the table's number, to the bit."""
        terms, rule = self.terms, self.terms.course.rule
        return {
            "op": self.op.name, "kind": self.op.kind, "target": self.op.target, "module": self.op.module,
            "form": asdict(self.form), "configuration": self.config.name, "path": self.path,
            "rule": {"over": rule.over, "alone": rule.alone, "grain": rule.grain, "loop": rule.loop,
                     "serial_below": rule.serial_below, "source": rule.source},
            "team": terms.course.team, "turns": terms.course.turns, "forks": terms.course.forks,
            "flop": self.op.flop, "weight_bytes": self.op.touched_bytes, "read_bytes": self.op.read_bytes,
            "write_bytes": self.op.write_bytes, "work_source": self.work_source,
            "dispatch_s": terms.dispatch_s, "turns_s": terms.turns_s, "fork_join_s": terms.fork_join_s,
            "busy": terms.busy, "work_s": terms.work_s, "activations_s": terms.activations_s,
            "activations_at": self.residencies[terms.level], "panels_s": terms.panels_s, "pages_s": terms.pages_s,
            "residencies": [
                {"name": self.residencies[rho], "weights_s": terms.weights_s[rho], "compute_s": terms.compute_s(rho),
                 "total_s": terms.total_s(rho)}
                for rho in (GROUP, PACKAGE, DRAM)
            ],
        }  # fmt: skip


def explain(graph: Graph, machine: Machine, name: str, config: Config, path: Path | None = None) -> Explanation:
    """Where the costs of the op `name` come from.

    Raises: UsageError when there is no such op, or its time came with the graph; BadInput where a figure is missing.
    """
    if graph.costed:
        raise UsageError(f"{graph.name} brings its own times: there is nothing to explain")
    if name not in graph.position:
        raise UsageError(f"{graph.name} has no op {name!r}", advice=one_of(name, graph.position))
    path = path or path_of(machine)
    model = Roofline(machine, path)
    op = graph.ops[graph.position[name]]
    shown = form(op, graph.program)
    return Explanation(op, shown, config, path, model.terms(op, shown, config), work_source(machine, op, shown, model),
                       model.caches.names)  # fmt: skip


def work_source(machine: Machine, op: Op, shown: Form, model: Roofline) -> str:
    """What an op's arithmetic is priced with, in words."""
    compute = machine.compute
    rate = model.rate_of(shown)
    if op.kind == "none":
        return "nothing is computed"
    if rate is not None:
        figure = compute.rates[rate].unit_s
        return f"rate of {rate}: {figure.value:.3g} s a unit ({figure.kind}; {figure.source})"
    for table, unit in ((compute.efficiency, "of the peak"), (compute.seconds_per_element, "s an element")):
        name = next((n for n in (shown.sort, op.kind) if n in table), None)
        if name is not None:
            figure = table[name]
            return f"{name}: {figure.value:.3g} {unit} ({figure.kind}; {figure.source})"
    return "no figure"
