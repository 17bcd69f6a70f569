"""Profiles of made-up truths: what a machine would measure whose costs are another table than the model's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from mapper.cost.configurations import Config
from mapper.cost.profile import MeasuredOps, Profile, Residency, Source, host_of, ranges
from mapper.cost.profiled import residency_of
from mapper.cost.residency import GROUP, PACKAGE
from mapper.cost.table import CostTable
from mapper.graph.model import Graph
from mapper.machine.model import Machine


def truth_of(table: CostTable, factors: object) -> CostTable:
    """`table` with its seconds times `factors`, nearer residencies never slower than farther ones."""
    seconds = table.seconds * np.asarray(factors)
    seconds[:, :, GROUP] = np.minimum(seconds[:, :, GROUP], seconds[:, :, PACKAGE:].min(axis=2))
    seconds[:, :, PACKAGE] = np.minimum(seconds[:, :, PACKAGE], seconds[:, :, 2])
    return dataclasses.replace(
        table, compute_s=seconds, dispatch_s=np.zeros_like(table.dispatch_s),
        fork_join_s=np.zeros_like(table.fork_join_s), spread_s=None,
    )  # fmt: skip


def measured(
    graph: Graph, machine: Machine, truth: CostTable, ops: Sequence[int], config: Config,
    residency: Residency = "cold", source: Source = "segment", factor: float = 1.0,
) -> MeasuredOps:  # fmt: skip
    """What a measurement of `ops` would give, `factor` times off."""
    column = truth.index(config.name)
    rho = residency_of(graph, machine, truth, ops, config, hot=residency != "cold")
    seconds = float(truth.seconds[list(ops), column, rho].sum()) * factor
    return MeasuredOps(
        ops=ranges(ops), configuration=config.name, residency=residency, source=source, median_s=seconds,
        low_s=seconds, high_s=seconds, rounds=5,
    )  # fmt: skip


def profile_with(graph: Graph, machine: Machine, rows: Sequence[MeasuredOps] = (), backend: str = "eager") -> Profile:
    """A profile of `graph` on `machine` with `rows`."""
    return Profile(
        model=graph.name, graph_sha256=graph.sha256, backend=backend, versions={"torch": "2.9"},
        machine=host_of(machine), mapper="0", ops=tuple(op.name for op in graph.ops), measurements=tuple(rows),
    )  # fmt: skip
