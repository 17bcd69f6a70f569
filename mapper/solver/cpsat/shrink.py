"""Exact reductions at a period: what no partition with a shorter period does, and so need not be looked at.

With x the period to beat, and λ(A | B) the least load of any set of ops with all of A and none of B (`cuts`):

* together  if λ(u | v) ≥ x or λ(v | u) ≥ x for ops u, v, then every partition that beats x has both in one stage:
            apart, the stage of one of them holds it without the other, and its load is at least x;
* refuted   if λ(v |) ≥ x for one op, no partition beats x;
* earliest  the stages up to the one with v form an ideal; their loads add up to at least the least load of any ideal
            with v, and none reaches x. So with a stages up to it, a·x > that load; `latest` likewise from the end.

All of it holds for merged ops too, so that it is repeated until nothing changes: sets that beat x without cutting a
merged op only become fewer.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from mapper.solver.cpsat.cuts import Cuts
from mapper.solver.cpsat.linear import Linear, Shrunk, composed, merged, unchanged


def dominated(linear: Linear) -> Shrunk:
    """`linear` with the ops merged that some best chain keeps together, whatever the period. At most so many stages.

    * pushed  u hands all it has to one op v, and its prices are at least its work and the prices of all it reads.
              Apart, u moves to v's stage: the stage that it leaves saves work and prices, and pays at most for what u
              read there and now leaves; v's stage saves prices, and pays at most the work and for what u reads.
    * pulled  v reads of one op u only, and what u hands to v alone is priced at least at v's work and prices. Apart, v
              moves to u's stage: that saves what went to v alone, and pays v's work and prices; the stage that v leaves
              saves the same and its work, and pays at most v's prices, for those of its readers that are there.

    In both the op moves next to where it already had to be after (before), so the order is kept. An exact number of
    stages may need them apart: then nothing is merged.
    """
    whole = unchanged(linear)
    while not linear.exact:
        pairs = _dominated_pairs(whole.linear)
        if not pairs:
            break
        whole = composed(whole, merged(whole.linear, pairs))
    return whole


def _dominated_pairs(linear: Linear) -> list[tuple[int, int]]:
    """Pairs of the two rules, no op in two of them: each is proved for the instance as it is."""
    paid = [0] * linear.ops
    alone: dict[tuple[int, int], int] = {}
    readers: list[set[int]] = [set() for _ in range(linear.ops)]
    read: list[int] = [0] * linear.ops
    producers: list[set[int]] = [set() for _ in range(linear.ops)]
    for arc in linear.arcs:
        paid[arc.producer] += arc.price
        readers[arc.producer].update(arc.readers)
        if len(arc.readers) == 1:
            pair = (arc.producer, arc.readers[0])
            alone[pair] = alone.get(pair, 0) + arc.price
        for reader in arc.readers:
            read[reader] += arc.price
            producers[reader].add(arc.producer)
    found, used = [], [False] * linear.ops
    for u, v in linear.edges:
        pushed = len(readers[u]) == 1 and paid[u] >= linear.work[u] + read[u]
        pulled = len(producers[v]) == 1 and alone.get((u, v), 0) >= linear.work[v] + paid[v]
        if (pushed or pulled) and not used[u] and not used[v]:
            used[u] = used[v] = True
            found.append((u, v))
    return found


@dataclass(frozen=True)
class Windows:
    """For each op the first and the last stage that it can be in, from 0, in a partition that beats the period."""

    earliest: tuple[int, ...]
    latest: tuple[int, ...]

    @property
    def empty(self) -> bool:
        """Whether some op has no stage left: then no partition beats the period."""
        return any(a > b for a, b in zip(self.earliest, self.latest, strict=True))

    @property
    def places(self) -> int:
        """How many choices are left: stages beyond the first, over all ops."""
        return sum(b - a for a, b in zip(self.earliest, self.latest, strict=True))


def shrunk(linear: Linear, period: int) -> Shrunk | None:
    """`linear` with the ops merged that every partition with all loads below `period` keeps together; None where
    there is no such partition.
    """
    whole = unchanged(linear)
    while True:
        pairs = _together(whole.linear, period)
        if pairs is None:
            return None
        if not pairs:
            break
        whole = composed(whole, merged(whole.linear, pairs))
    return whole


class _Separations:
    """Sets of ops whose load is below the period: which ops are in which, as masks of bits over the sets."""

    def __init__(self, ops: int) -> None:
        self.holds = [0] * ops
        self.count = 0
        self.valid = 0

    def add(self, members: int) -> None:
        """One more set."""
        bit = 1 << self.count
        self.count += 1
        self.valid |= bit
        while members:
            low = members & -members
            self.holds[low.bit_length() - 1] |= bit
            members ^= low

    def join(self, a: int, b: int) -> None:
        """Forgets the sets that hold one of two ops only."""
        self.valid &= ~(self.holds[a] ^ self.holds[b])

    def has(self, inside: int, without: int) -> bool:
        """Whether a set is known with the one op and not the other."""
        return bool(self.holds[inside] & ~self.holds[without] & self.valid)


def _together(linear: Linear, period: int) -> list[tuple[int, int]] | None:
    """Pairs of neighbours that must share a stage to beat `period`; None where an op alone refutes it.

    Neighbours are producer and reader: if two ops share a stage, so does every path between them.
    """
    cuts, known = Cuts(linear), _Separations(linear.ops)
    price: dict[tuple[int, int], int] = {}
    for arc in linear.arcs:
        for reader in arc.readers:
            price[arc.producer, reader] = price.get((arc.producer, reader), 0) + arc.price
    found = []
    for u, v in sorted(price, key=lambda pair: (-price[pair], pair)):
        for inside, without in ((u, v), (v, u)):
            if known.has(inside, without):
                continue
            cut = cuts.least(inside, without)
            if cut.load >= period:
                if cuts.least(inside).load >= period:
                    return None
                cuts.join(u, v)
                known.join(u, v)
                found.append((u, v))
                break
            known.add(cut.members)
    return found


def windows(linear: Linear, period: int) -> Windows:
    """Where each op can be, if all loads are below `period`."""
    most = period - 1
    early = _least_counts(linear, 1, most)
    late = _least_counts(linear, -1, most)
    last = linear.stages
    return Windows(tuple(count - 1 for count in early), tuple(last - count for count in late))


def _least_counts(linear: Linear, closed: int, most: int) -> list[int]:
    """For each op how many stages of load `most` the cheapest ideal with it takes (`closed` as of `Cuts`).

    The count never falls from an op to those that need it, and an ideal that is found is one for all its ops: where
    both leave one value only, no cut is needed. Ops in the middle of the order come first, as they tell most.
    """
    cuts, ops = Cuts(linear, closed), linear.ops
    needs: list[list[int]] = [[] for _ in range(ops)]
    for u, v in linear.edges:
        needs[u if closed > 0 else v].append(v if closed > 0 else u)
    low, high = [1] * ops, [linear.stages + 1] * ops
    for v in _middle_first(ops):
        if low[v] == high[v]:
            continue
        cut = cuts.least(v)
        count = min(max(1, -(-cut.load // most)), linear.stages + 1)
        members = cut.members
        while members:
            bit = members & -members
            w = bit.bit_length() - 1
            high[w] = min(high[w], count)
            members ^= bit
        stack = [v] if low[v] < count else []
        while stack:
            w = stack.pop()
            if low[w] < count:
                low[w] = count
                stack += needs[w]
    return low


def _middle_first(count: int) -> list[int]:
    """0..count-1 with the middle of each part before its halves."""
    out, parts = [], deque([(0, count)])
    while parts:
        a, b = parts.popleft()
        if a < b:
            middle = (a + b) // 2
            out.append(middle)
            parts += [(a, middle), (middle + 1, b)]
    return out
