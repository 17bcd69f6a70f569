"""Blocks: an op with the small ones around it that are hardly worth a border of a stage, for graphs of many ideals.

A block is a *head*, its *followers*, which need nothing but the block and what the head needs (a normalization, an
activation, a residual sum, the rotation of a query), and its *leaders*, which need nothing at all and serve the block
only (a mask, a bias that is gathered from weights). Plans that keep blocks whole are plans. That no other plan is much
better is proved with a second problem, the *floor*, in which stages cost no more than they can cost in any plan:

Take any ideal to the blocks whose heads are in it; chains of ideals go to chains of ideals of blocks (what a follower
needs, its head needed before). A stage has then the heads that it had, and

* the followers of a head, but for some that came later: none that a head in the stage or before it needed, so that the
  ideal of blocks at which the stage ends says which ones can be missing (`Floor.late`);
* the leaders of a head, or at least one tensor from an earlier stage instead of them (in the latency they are there in
  any case, in the other stage with the team that is best for them; so are followers that came late, and so it is in
  the sum of all core-seconds);
* of what it hands over at least one tensor a block, the smallest, to those stages whose heads need something of it.

Weights and footprints of leaders and followers are left out, so that caches hold no less. All the rest stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mapper.cost.residency import GROUP
from mapper.solver.covers.ideals import Ideals, all_ideals
from mapper.solver.covers.intervals import Intervals
from mapper.solver.problem import Array, Problem, TensorArc, WeightArc, merged
from mapper.solver.reductions.reduce import Reduction, merge

SHARES = tuple(0.0002 * 1.6**step for step in range(14))
"""Shares of all work, in core-seconds, that the small ops of a block may have: the least that leaves few enough ideals
is taken."""


@dataclass(frozen=True)
class Blocks:
    """`members[b]`: the ops of block b, ascending, of which `head[b]` is the head; blocks are in an order in which they
    can run. `home[v]`: the block of op v. `leads`: the leaders of heads; `freed`: those of followers, which the floor
    leaves out."""

    members: tuple[tuple[int, ...], ...]
    head: tuple[int, ...]
    home: tuple[int, ...]
    leads: frozenset[int]
    freed: frozenset[int]

    @property
    def followers(self) -> list[int]:
        """Ops that are neither heads nor lead any op."""
        return [v for v, b in enumerate(self.home) if v != self.head[b] and v not in self.leads | self.freed]


@dataclass(frozen=True)
class Blocked:
    """A problem in blocks: `reduction`, whose plans are plans, and all its ideals."""

    found: Blocks
    reduction: Reduction
    ideals: Ideals

    def gathered(self, fine: Reduction, most: int) -> tuple[Reduction, Ideals] | None:
        """The same with all leaders in one block, which can be a stage of its own; None where that is nothing new."""
        leads = tuple(sorted(self.found.leads))
        rest = [tuple(v for v in ops if v not in self.found.leads) for ops in self.found.members]
        if len(leads) < 2:
            return None
        members = (leads, *rest)
        coarse = merge(fine.problem, members)
        every = all_ideals(coarse, most)
        return None if every is None else (Reduction(coarse, tuple(fine.restore(ops) for ops in members)), every)


@dataclass(frozen=True)
class Floor:
    """The problem in which no stage costs more than in any plan, once what came late is taken off (`lowered`), to at
    least `least`: the problem without followers.

    `member[i, b]`: block b is in ideal i; `late[i, f]`: follower f may be missing where a stage ends at ideal i;
    `inside[i, f]`: its block is in ideal i. `seconds[f, c]` and `dram_bytes[f, c]` of followers, at the residency where
    they are most. `least_s[f]` and `least_work_s[f]`: seconds and core-seconds where they are least; `away_s[b, c]` and
    `away_work_s[b, c]`: what the leaders of block b add to the latency and to all core-seconds above what they add to
    the stage's load.
    """

    problem: Problem
    least: Problem
    member: Array
    late: Array
    inside: Array
    seconds: Array
    dram_bytes: Array
    least_s: Array
    least_work_s: Array
    away_s: Array
    away_work_s: Array


def blocked(fine: Reduction, most: int) -> Blocked | None:
    """`fine` in as small blocks as leave at most `most` ideals; None where none do."""
    problem = fine.problem
    for share in SHARES:
        found = blocks(problem, share)
        coarse = merge(problem, found.members)
        every = all_ideals(coarse, most)
        if every is not None:
            return Blocked(found, Reduction(coarse, tuple(fine.restore(ops) for ops in found.members)), every)
    return None


def blocks(problem: Problem, share: float) -> Blocks:
    """Blocks whose leaders and followers are small: each of the two together at most `share` of all core-seconds."""
    seconds = (problem.seconds[:, :, GROUP] * _cores(problem)).min(axis=1)
    small = seconds <= share * seconds.sum()
    for ops in problem.apart:
        small[list(ops)] = False
    most = share * float(seconds.sum())
    needs, read = _arcs(problem)
    above = _ancestors(problem.ops, needs)
    head, leads = _leaders(np.where(small, seconds, np.inf), most, needs, read)
    leading: dict[int, set[int]] = {}
    for u in leads:
        leading.setdefault(head[u], set()).add(u)
    freed: set[int] = set()
    taken = [0.0] * problem.ops
    for v in range(problem.ops):
        own = leading.get(v, set())
        needed = needs[v] - own
        if head[v] != v or not small[v] or not needed:
            continue
        added = float(seconds[[v, *sorted(own)]].sum())
        for h in sorted({head[u] for u in needed}, reverse=True):
            if taken[h] + added <= most and all(head[u] == h or above[h] >> u & 1 for u in needed):
                for u in (v, *own):
                    head[u] = h
                freed |= own
                taken[h] += added
                break
    return _numbered(head, leads - freed, freed)


def _arcs(problem: Problem) -> tuple[list[set[int]], list[set[int]]]:
    """For each op those that it reads from, and those that read from it."""
    needs: list[set[int]] = [set() for _ in range(problem.ops)]
    read: list[set[int]] = [set() for _ in range(problem.ops)]
    for tensor in problem.tensors:
        for reader in tensor.readers:
            needs[reader].add(tensor.producer)
            read[tensor.producer].add(reader)
    return needs, read


def _ancestors(ops: int, needs: Sequence[set[int]]) -> list[int]:
    """For each op the mask of all that it depends on."""
    out = [0] * ops
    for v in range(ops):
        for u in needs[v]:
            out[v] |= out[u] | 1 << u
    return out


def _leaders(
    seconds: Array, most: float, needs: Sequence[set[int]], read: Sequence[set[int]]
) -> tuple[list[int], set[int]]:
    """The head of each op as far as leaders go, and the leaders: ops that need no others than leaders and serve one op
    only, or leaders of it, which all together take at most `most` seconds; an op of infinite seconds leads none."""
    no: set[int] = set()
    while True:
        head, leads = _leading(seconds, most, read, no)
        tied = {v for v in leads if not needs[v] <= leads}
        if not tied:
            return head, leads
        no |= tied


def _leading(seconds: Array, most: float, read: Sequence[set[int]], no: set[int]) -> tuple[list[int], set[int]]:
    """As `_leaders`, whatever they need; without those in `no`."""
    head, leads, taken = list(range(len(read))), set(), [0.0] * len(read)
    for v in reversed(range(len(read))):
        served = {head[w] for w in read[v]}
        if len(served) != 1 or v in no:
            continue
        (h,) = served
        if all(w == h or w in leads for w in read[v]) and taken[h] + seconds[v] <= most:
            head[v] = h
            taken[h] += float(seconds[v])
            leads.add(v)
    return head, leads


def _numbered(head: Sequence[int], leads: set[int], freed: set[int]) -> Blocks:
    """Blocks by their heads; what a head needs has heads before it, since ops are in an order in which they can run."""
    heads = sorted(set(head))
    number = {h: b for b, h in enumerate(heads)}
    members: list[list[int]] = [[] for _ in heads]
    for v, h in enumerate(head):
        members[number[h]].append(v)
    home = tuple(number[h] for h in head)
    return Blocks(tuple(map(tuple, members)), tuple(heads), home, frozenset(leads), frozenset(freed))


def floor_of(problem: Problem, found: Blocks, every: Ideals) -> Floor:
    """The floor under all plans of `problem`, whose blocks were `found` with all their ideals."""
    heads = list(found.head)
    count = len(heads)
    leading: list[list[int]] = [[] for _ in heads]
    for v in sorted(found.leads):
        leading[found.home[v]].append(v)
    here, away_s, away_work_s = _leading_s(problem, leading)
    least = replace(
        problem,
        seconds=problem.seconds[heads] + here,
        dram_bytes=problem.dram_bytes[heads],
        footprint=problem.footprint[heads],
        tensors=_tensors(problem, found),
        weights=_weights(problem, found),
        apart=(),
    )
    own: list[list[int]] = [[] for _ in range(count)]
    for v in found.followers:
        own[found.home[v]].append(v)
    seconds, dram_bytes = merged(problem.seconds, own), merged(problem.dram_bytes, own)
    whole = replace(least, seconds=least.seconds + seconds, dram_bytes=least.dram_bytes + dram_bytes)
    rows = found.followers
    return Floor(
        problem=whole,
        least=least,
        member=every.member.astype(float),
        late=_late(problem, found, every),
        inside=every.member[:, [found.home[v] for v in rows]].astype(float),
        seconds=problem.seconds[rows].max(axis=2),
        dram_bytes=problem.dram_bytes[rows],
        least_s=problem.seconds[rows].min(axis=(1, 2)),
        least_work_s=(problem.seconds[rows] * _cores(problem)[:, None]).min(axis=(1, 2)),
        away_s=away_s,
        away_work_s=away_work_s,
    )


def _cores(problem: Problem) -> Array:
    """(configs,): cores of each."""
    return np.array([float(config.cores) for config in problem.configs])


def _leading_s(problem: Problem, leading: Sequence[Sequence[int]]) -> tuple[Array, Array, Array]:
    """What the leaders of each block cost the stage of the head, or one tensor in their place (blocks, configs,
    residencies); and what they add to the latency and to all core-seconds above that, there or where it is least
    (blocks, configs)."""
    here = merged(problem.seconds, leading)
    cores, rates = _cores(problem), np.array(problem.link_bytes_per_s)
    away_s, away_work_s = (np.zeros(here.shape[:2]) for _ in range(2))
    made: dict[int, list[Array]] = {}
    for t in problem.tensors:
        made.setdefault(t.producer, []).append(problem.handoff_s + t.seconds + t.bytes / rates)
    for b, ops in enumerate(leading):
        prices = [price for v in ops for price in made.get(v, [])]
        if prices:
            price, stay = np.min(prices, axis=0)[:, None], here[b]
            here[b] = np.minimum(stay, price)
            there = problem.seconds[list(ops)]
            least_s, least_work_s = there.min(axis=(1, 2)).sum(), (there * cores[:, None]).min(axis=(1, 2)).sum()
            away_s[b] = (np.minimum(stay, price + price.min() + least_s) - here[b]).min(axis=1)
            in_all = np.minimum(stay * cores[:, None], price * cores[:, None] + least_work_s)
            away_work_s[b] = (in_all - here[b] * cores[:, None]).min(axis=1)
    return here, away_s, away_work_s


def _tensors(problem: Problem, found: Blocks) -> tuple[TensorArc, ...]:
    """One tensor a block: the least that it can hand over, to those whose heads need something of it."""
    size: dict[int, float] = {}
    seconds: dict[int, float] = {}
    readers: dict[int, set[int]] = {}
    for tensor in problem.tensors:
        b = found.home[tensor.producer]
        if tensor.producer in found.leads | found.freed:
            continue
        size[b] = min(size.get(b, math.inf), tensor.bytes)
        seconds[b] = min(seconds.get(b, math.inf), tensor.seconds)
        heads = {found.home[r] for r in tensor.readers if r == found.head[found.home[r]]}
        readers.setdefault(b, set()).update(heads - {b})
    return tuple(TensorArc(b, tuple(sorted(readers[b])), size[b], seconds[b]) for b in sorted(readers) if readers[b])


def _weights(problem: Problem, found: Blocks) -> tuple[WeightArc, ...]:
    """The weights of heads."""
    heads = {h: b for b, h in enumerate(found.head)}
    users = [(tuple(heads[v] for v in weight.users if v in heads), weight.bytes) for weight in problem.weights]
    return tuple(WeightArc(ops, size) for ops, size in users if ops)


def _late(problem: Problem, found: Blocks, every: Ideals) -> Array:
    """(ideals, followers): 1 where a follower whose block is in the ideal may yet be missing: no head in it needs it,
    nor a follower that some head needs."""
    needs, _ = _arcs(problem)
    rows = {v: i for i, v in enumerate(found.followers)}
    needed = np.zeros((len(every.member), len(rows)), dtype=bool)
    for v in reversed(range(problem.ops)):
        b = found.home[v]
        there = every.member[:, b] if v == found.head[b] else needed[:, rows[v]] if v in rows else None
        for u in needs[v] if there is not None else ():
            if u in rows:
                needed[:, rows[u]] |= there
    inside = every.member[:, [found.home[v] for v in rows]]
    return (inside & ~needed).astype(float)


def lowered(floor: Floor, whole: Intervals, least: Intervals) -> Intervals:
    """The costs of stages in the floor, from those of its two problems."""
    load, dram, latency, work = (np.empty_like(whole.load_s) for _ in range(4))
    for c in sorted(set(whole.config.tolist())):
        late_s, late_bytes = (_missing(floor, amount[:, c], whole) for amount in (floor.seconds, floor.dram_bytes))
        gone_s = _missing(floor, np.maximum(floor.seconds[:, c] - floor.least_s, 0.0), whole)
        for o in np.flatnonzero(whole.config == c):
            size = int(whole.cores[o])
            gone_work_s = _missing(floor, np.maximum(floor.seconds[:, c] * size - floor.least_work_s, 0.0), whole)
            load[o] = np.maximum(whole.load_s[o] - late_s, least.load_s[o])
            dram[o] = np.maximum(whole.dram_bytes[o] - late_bytes, least.dram_bytes[o])
            latency[o] = np.maximum(whole.load_s[o] - gone_s, load[o]) + _between(floor, floor.away_s[:, c], whole)
            away = _between(floor, floor.away_work_s[:, c], whole)
            work[o] = np.maximum(whole.load_s[o] * size - gone_work_s, load[o] * size) + away
    return replace(whole, load_s=load, dram_bytes=dram, apart_s=latency, work_s=work)


def _between(floor: Floor, amount: Array, costs: Intervals) -> Array:
    """The sum of `amount` over the blocks of the stage of each pair."""
    prefix = floor.member @ amount
    return np.maximum(prefix[costs.target] - prefix[costs.source], 0.0)


def _missing(floor: Floor, amount: Array, costs: Intervals) -> Array:
    """Of the stage of each pair, the sum of `amount` over the followers of its heads that may be missing."""
    if not amount.any():
        return np.zeros(len(costs.source))
    late = floor.late * amount
    out: Array = late.sum(axis=1)[costs.target] - (floor.inside @ late.T)[costs.source, costs.target]
    return np.maximum(out * (1 + 1e-9), 0.0)
