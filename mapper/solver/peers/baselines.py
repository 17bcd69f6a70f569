"""Planners without an optimiser: what people do by hand, and partitions by one number an op."""

from __future__ import annotations

import itertools

import numpy as np

from mapper.errors import UsageError
from mapper.solver.peers.register import Proposal, Task, planner
from mapper.solver.problem import Array

_SCALE = 2**40


@planner("native", source="one process, intra-op threads on all cores: the default of PyTorch (torch.set_num_threads)")
def native(task: Task) -> tuple[Proposal, ...]:
    """One stage on the largest configuration that may be used."""
    configs = task.problem.configs
    usable = [c for c, config in enumerate(configs) if config.cores <= task.cores]
    return (_whole(task, max(usable, key=lambda c: configs[c].cores), 1),)


@planner("streams", source="a copy of the model a core, as OpenVINO's streams (ov::num_streams) at their finest")
def streams(task: Task) -> tuple[Proposal, ...]:
    """One stage with a replica on each core (on each smallest configuration)."""
    configs = task.problem.configs
    small = min(range(len(configs)), key=lambda c: configs[c].cores)
    copies = task.cores // configs[small].cores
    return (_whole(task, small, min(copies, task.limits.max_replicas or copies)),)


@planner("equal-ops", source="as many layers a stage, by hand; DeepSpeed's pipelines with partition_method uniform")
def equal_ops(task: Task) -> tuple[Proposal, ...]:
    """Runs of equally many ops in the graph's order, one more in the first ones, a group each."""
    each, more = divmod(task.problem.ops, task.stages)
    sizes = [each + (s < more) for s in range(task.stages)]
    return task.runs([0, *np.cumsum(sizes).tolist()])


@planner("equal-flop", source="as much arithmetic a stage, by hand: the usual first guess where nothing was profiled")
def equal_flop(task: Task) -> tuple[Proposal, ...]:
    """Runs of about equal FLOP in the graph's order, a group each.

    Raises: UsageError for a graph that has none; `equal-time` is for those.
    """
    if task.flop is None or not task.flop.any():
        raise UsageError("equal-flop needs the FLOP of ops, and this graph has times instead",
                         advice="equal-time shares out times.")  # fmt: skip
    return task.runs(equal_shares(task.flop, task.stages))


@planner("equal-time", source="as equal-flop, by the seconds of each op on one core")
def equal_time(task: Task) -> tuple[Proposal, ...]:
    """Runs of about equal seconds on the smallest configuration, in the graph's order, a group each."""
    configs = task.problem.configs
    small = min(range(len(configs)), key=lambda c: configs[c].cores)
    return task.runs(equal_shares(task.seconds(small), task.stages))


@planner("greedy", source="first fit in the order of the graph: fill a stage up to its share, then begin the next")
def greedy(task: Task) -> tuple[Proposal, ...]:
    """Runs of the graph's order, each ended by the op with which it reaches 1/k of all seconds, a group each."""
    return task.runs(filled(task.seconds(task.group), task.stages))


@planner("torchgpipe", source="Kim et al., torchgpipe, arXiv 2004.09910, balance_by_time: Bárány and Grinberg, Block "
         "partitions of sequences, Israel J. Math. 206, 2015")  # fmt: skip
def torchgpipe(task: Task) -> tuple[Proposal, ...]:
    """Runs of the graph's order whose seconds differ by no more than the longest op, a group each."""
    return task.runs(block_partition(task.seconds(task.group), task.stages))


def _whole(task: Task, config: int, replicas: int) -> Proposal:
    return Proposal(tuple(range(task.problem.ops)), config, replicas)


def equal_shares(work: Array, stages: int) -> list[int]:
    """Borders of `stages` runs, none empty: the s-th is where the work before it is nearest to s/k of all.

    `work`: (ops,), at least as many ops as stages.
    """
    done = np.concatenate([[0.0], np.cumsum(work)])
    borders = [0]
    for s in range(1, stages):
        low, high = borders[-1] + 1, len(work) - (stages - s)
        apart = np.abs(done[low : high + 1] - done[-1] * s / stages)
        borders.append(low + int(apart.argmin()))
    return [*borders, len(work)]


def filled(work: Array, stages: int) -> list[int]:
    """Borders of `stages` runs, none empty: a run ends where it reaches 1/k of the work, or where the ops that are
    left are needed for one each. `work`: (ops,), at least as many ops as stages."""
    share, borders, here = float(work.sum()) / stages, [0], 0.0
    for v in range(len(work)):
        here += float(work[v])
        left = stages - len(borders)  # runs that are still to begin
        if left and (here >= share * (1 - 1e-12) or len(work) - (v + 1) == left):
            borders.append(v + 1)
            here = 0.0
    return [*borders, len(work)]


def block_partition(work: Array, stages: int) -> list[int]:
    """Borders of `stages` runs, some of which can be empty, whose sums differ by at most the largest element.

    Bárany and Grinberg's proof as an algorithm: while a largest run exceeds a smallest by more, the nearest smallest
    one takes an element of its neighbour on the largest one's side. In integers, so that it ends, as they prove.
    """
    top = float(work.max(initial=0.0)) or 1.0
    units = [round(float(x) / top * _SCALE) for x in work]
    done = [0, *np.cumsum(np.array(units, dtype=object)).tolist()] if units else [0]
    borders = [len(units) // stages * s for s in range(stages)] + [len(units)]
    longest = max(units, default=0)
    while True:
        sums = [done[b] - done[a] for a, b in itertools.pairwise(borders)]
        largest = max(range(stages), key=sums.__getitem__)
        while True:
            least = min(sums)
            if sums[largest] <= least + longest:
                return borders
            taker = min((s for s in range(stages) if sums[s] == least), key=lambda s: abs(s - largest))
            side = 1 if largest > taker else -1
            at = taker + 1 if side > 0 else taker  # the border that moves by one element
            borders[at] += side
            moved = units[borders[at] - 1] if side > 0 else units[borders[at]]
            sums[taker] += moved
            sums[taker + side] -= moved
            if taker + side == largest:
                break
