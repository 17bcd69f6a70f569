"""What splitting a model is worth on a machine: the best mapping with several stages over the best with one.

Both are the planner's searches, with its cost model, without a limit on time: distances at their least and the DRAM of
all nodes as one, which is what its bound is of and what the alternatives beside a plan are of. Placement, which comes
after, is left out on both sides.
"""

from __future__ import annotations

from mapper.cost.configurations import configurations
from mapper.cost.residency import GROUP, PACKAGE, caches_of
from mapper.cost.roofline import roofline
from mapper.cost.table import CostTable
from mapper.errors import Infeasible
from mapper.graph.model import Graph, touched_by
from mapper.jsonio import Record
from mapper.machine.model import Machine
from mapper.plans.evaluate import Placed, evaluate
from mapper.solver.alternatives import COARSE
from mapper.solver.problem import Limits, Solution, problem_of
from mapper.solver.search.least_period import least_period, throughput
from mapper.solver.search.space import Space

LATENCY_LIMIT = 2.0
"""The latency that is allowed under the limit, over that of native with all threads."""


class Best(Record):
    """The best mapping of a sort: items a second, seconds of an item, stages, the most replicas of a stage, and items a
    second that none of the sort exceeds."""

    per_s: float
    latency_s: float
    stages: int
    replicas: int
    bound_per_s: float


class Splitting(Record):
    """`whole` has one stage (native, or copies), `split` at least two. `ratio` is the rate of the second over that of
    the first, `most` what it can be at most; None where one of them keeps no limit."""

    whole: Best | None
    split: Best | None
    ratio: float | None
    most: float | None


class Compared(Record):
    """A model on a machine: seconds of an item natively, with all threads; what splitting is worth without a limit, and
    within `LATENCY_LIMIT` times that latency. `exact`: every plan of two stages counted, not only those with the
    first and the last op apart."""

    native_s: float
    free: Splitting
    limited: Splitting
    exact: bool


class Held(Record):
    """Bytes of weights that caches hold by the cost model: one group's cache, those of all `groups` together, and the
    package's. Private caches inside a group count for nothing."""

    group_name: str
    groups: int
    package_name: str
    group_bytes: float
    groups_bytes: float
    package_bytes: float

    @property
    def bytes(self) -> float:
        """The most weights that a plan can have in caches: divided among the groups, or all in the package's."""
        return max(self.groups_bytes, self.package_bytes)


def held(machine: Machine) -> Held:
    """What the caches of `machine` hold."""
    caches, groups = caches_of(machine), len(machine.whole_groups)
    return Held(
        group_name=caches.names[GROUP], groups=groups, package_name=caches.names[PACKAGE],
        group_bytes=caches.group_bytes, groups_bytes=caches.group_bytes * groups, package_bytes=caches.package_bytes,
    )  # fmt: skip


def compared(graph: Graph, machine: Machine) -> Compared:
    """What splitting `graph` is worth on `machine`."""
    table = roofline(graph, machine, configurations(machine))
    native_s = _native_s(graph, machine, table)
    plain, apart, within = Limits(), _apart(graph), LATENCY_LIMIT * native_s
    spaces = [Space(problem_of(graph, machine, table, limits)) for limits in (plain, apart)]
    exact = _one_way_through(graph)

    def splitting(latency_s: float | None) -> Splitting:
        limits = [Limits(max_latency_s=latency_s, stages=1), Limits(max_latency_s=latency_s, apart=apart.apart)]
        whole, split = (_best(space, limit) for space, limit in zip(spaces, limits, strict=True))
        if not exact:
            split = _better(split, _best(spaces[0], Limits(max_latency_s=latency_s)))
        if whole is None or split is None:
            return Splitting(whole=whole, split=split, ratio=None, most=None)
        return Splitting(whole=whole, split=split, ratio=split.per_s / whole.per_s,
                         most=split.bound_per_s / whole.per_s)  # fmt: skip

    return Compared(native_s=native_s, free=splitting(None), limited=splitting(within), exact=exact)


def weights_of(graph: Graph) -> float:
    """Distinct weight bytes that an item touches."""
    return float(touched_by(graph.ops))


def _native_s(graph: Graph, machine: Machine, table: CostTable) -> float:
    """Seconds of an item in one stage with every core of whole groups."""
    cores = tuple(core for group in machine.whole_groups for core in machine.groups[group])
    mapping = [Placed(tuple(op.name for op in graph.ops), table.configs[-1], (cores,))]
    return evaluate(graph, machine, table, mapping).predicted.latency_s


def _apart(graph: Graph) -> Limits:
    """Two stages at least: the first and the last op share none."""
    return Limits(apart=((graph.ops[0].name, graph.ops[-1].name),))


def _one_way_through(graph: Graph) -> bool:
    """Whether all ops lie between the first and the last: then one stage that holds both holds all, since the stages
    have no cycle."""
    made = {tensor.producer for tensor in graph.tensors if tensor.readers}
    read = {reader for tensor in graph.tensors for reader in tensor.readers}
    names = [op.name for op in graph.ops]
    return len(names) > 1 and set(names) - read == {names[0]} and set(names) - made == {names[-1]}


def _best(space: Space, limits: Limits) -> Best | None:
    """The fastest mapping within `limits`, None where there is none."""
    if limits.apart and len(set(limits.apart[0])) == 1:  # a single op
        return None
    try:
        if limits.stages == 1:
            solution = least_period(space.undivided(), limits, 0.0, COARSE)
        else:
            solution = throughput(space, limits, tolerance=COARSE)
    except Infeasible:
        return None
    return _described(solution)


def _described(solution: Solution) -> Best:
    return Best(
        per_s=1 / solution.period_s, latency_s=solution.latency_s, stages=len(solution.stages),
        replicas=max(stage.replicas for stage in solution.stages), bound_per_s=1 / solution.bound_s,
    )  # fmt: skip


def _better(split: Best | None, free: Best | None) -> Best | None:
    """The faster of the two, where the free one has stages; with a bound for both."""
    if free is None:
        return split
    bound = max(free.bound_per_s, split.bound_per_s if split else 0.0)
    chosen = free if free.stages > 1 and (split is None or free.per_s > split.per_s) else split
    return chosen and chosen.model_copy(update={"bound_per_s": bound})
