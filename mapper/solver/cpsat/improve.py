"""Better chains: the ideals of many cheap cuts together, and stages around the longest one solved anew.

Neither proves anything; every chain that is given back was costed by the definition.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mapper.solver.covers.ideals import Handed, order
from mapper.solver.cpsat.linear import Chain, Linear, loads
from mapper.solver.cpsat.model import Effort, Ended, Question, solve
from mapper.solver.cpsat.shrink import Windows
from mapper.solver.problem import Array

MOST_IDEALS = 800
"""Ideals that one dynamic program takes: it costs their number squared."""


def prefixes(linear: Linear, chain: Sequence[int]) -> list[int]:
    """The ideals of a chain, as masks: the ops up to each stage."""
    out, mask = [], 0
    for stage in sorted(set(chain)):
        for v, s in enumerate(chain):
            if s == stage:
                mask |= 1 << v
        out.append(mask)
    return out


def best_of_ideals(linear: Linear, masks: Iterable[int]) -> Chain | None:
    """The best chain of stages between two of the ideals `masks`; None where there is none.

    f[s, j] = min over ideals i inside j of max(f[s-1, i], load(j without i))
    """
    full = (1 << linear.ops) - 1
    ordered = sorted({0, full, *masks}, key=lambda mask: (mask.bit_count(), mask))
    member = members_of(ordered, linear.ops)
    load = stage_loads(linear, member, member)
    layers = [load[0]]
    choice = [np.zeros(len(ordered), dtype=np.int64)]
    for _ in range(1, linear.stages):
        through = np.maximum(layers[-1][:, None], load)
        choice.append(through.argmin(axis=0))
        layers.append(through[choice[-1], np.arange(len(ordered))])
    ends = [float(layer[-1]) for layer in layers]
    depth = len(ends) - 1 if linear.exact else int(np.argmin(ends))
    if not np.isfinite(ends[depth]):
        return None
    stage_of, j = np.zeros(linear.ops, dtype=np.int64), len(ordered) - 1
    for s in range(depth, -1, -1):
        i = int(choice[s][j]) if s else 0
        stage_of[member[j] & ~member[i]] = s
        j = i
    return tuple(int(s) for s in stage_of)


def members_of(masks: Sequence[int], ops: int) -> NDArray[np.bool_]:
    """(masks, ops): which op is in which."""
    width = (ops + 7) // 8
    raw = np.frombuffer(b"".join(mask.to_bytes(width, "little") for mask in masks), dtype=np.uint8)
    bits = np.unpackbits(raw.reshape(len(masks), width), axis=1, bitorder="little")
    return bits[:, :ops].astype(bool)


def stage_loads(linear: Linear, lower: NDArray[np.bool_], upper: NDArray[np.bool_], empty: float = np.inf) -> Array:
    """(lower, upper): the load of the ops in an upper ideal and not in a lower; infinite where that is no stage,
    `empty` where it has no ops. Exact up to 2⁵³ units.
    """
    low, up = lower.astype(float), upper.astype(float)
    work = np.array(linear.work, dtype=float)
    out: Array = (up @ work)[None, :] - (low @ work)[:, None]
    left, right, leaving = [], [], np.zeros(len(up))
    for arc in linear.arcs:
        if arc.price == 0:
            continue
        produced, earlier, now = low[:, arc.producer], low[:, arc.readers].sum(axis=1), up[:, arc.readers].sum(axis=1)
        crosses = up[:, arc.producer] * (now < len(arc.readers))
        leaving += arc.price * crosses
        left.append(-arc.price * produced)  # produced earlier: it does not leave this stage
        right.append(crosses)
        for k in range(len(arc.readers)):  # k readers are earlier and there are more now: it enters, once
            left.append(arc.price * produced * (earlier == k))
            right.append((now > k).astype(float))
    if left:
        out += np.array(left).T @ np.array(right) + leaving[None, :]
    out[low @ (1 - up).T > 0.5] = np.inf
    out[np.isfinite(out) & (low.sum(axis=1)[:, None] == up.sum(axis=1)[None, :])] = empty
    return out


def candidates(linear: Linear, chain: Sequence[int], ended: Ended) -> Iterator[int]:
    """Ideals that a better chain may use: those of `chain`, and the cheapest borders between two neighbours."""
    borders = [0, *prefixes(linear, chain)]
    yield from borders
    for low, high in zip(borders, borders[2:], strict=False):
        if ended():
            return
        yield from _between(linear, low, high)


def walked(linear: Linear, chain: Sequence[int], seed: int) -> Iterator[int]:
    """The ideals along an order in which the ops can run, stage by stage of `chain`: so they hold all its borders."""
    handed = [Handed(arc.producer, arc.readers, arc.price) for arc in linear.arcs]
    mask = 0
    for v in order(linear.ops, handed, seed, chain):
        mask |= 1 << v
        yield mask


def walks(linear: Linear, chain: Chain, seed: int) -> Chain | None:
    """The best chain of the ideals of as many orders around `chain` as one dynamic program takes."""
    masks = set(prefixes(linear, chain))
    for number in range(1 + MOST_IDEALS // linear.ops):
        masks.update(walked(linear, chain, seed * 1000 + number))
    return best_of_ideals(linear, masks)


SHARES, SCALE = (0.2, 0.35, 0.45, 0.5, 0.55, 0.65, 0.8), 64
"""Weights of the first of two neighbouring stages, for the borders between them; and what they are multiples of."""


def _between(linear: Linear, low: int, high: int) -> Iterator[int]:
    """Ideals i with low ⊂ i ⊂ high for which share · load(i without low) + (1 - share) · load(high without i) is least.

    For a given share that sum is a cut: both stages pay their work, and what they hand over or read.
    """
    from ortools.graph.python import max_flow

    ops = [v for v in range(linear.ops) if (high & ~low) >> v & 1]
    at = {v: i for i, v in enumerate(ops)}
    source, sink = len(ops), len(ops) + 1
    for share in SHARES:
        first = round(SCALE * share)
        arcs = _border_arcs(linear, at, low, high, (first, SCALE - first))
        flow = max_flow.SimpleMaxFlow()
        tail, head, capacity = (np.array(column, dtype=np.int64) for column in zip(*arcs, strict=True))
        flow.add_arcs_with_capacity(tail.astype(np.int32), head.astype(np.int32), capacity)
        if flow.solve(source, sink) != flow.OPTIMAL:
            continue
        chosen = [ops[int(i)] for i in flow.get_source_side_min_cut() if int(i) < len(ops)]
        yield low | sum(1 << v for v in chosen)


def _border_arcs(
    linear: Linear, at: dict[int, int], low: int, high: int, weights: tuple[int, int]
) -> list[tuple[int, int, int]]:
    """The network of `_between`: ops on the source's side are in the first stage. The source comes after the ops."""
    (a, b), source, sink = weights, len(at), len(at) + 1
    infinite, point = linear.infinite, sink + 1
    out = []
    for v, i in at.items():
        work = linear.work[v] // SCALE
        out += [(i, sink, a * work), (source, i, b * work)]
    out += [(at[v], at[u], infinite) for u, v in linear.edges if u in at and v in at]
    for arc in linear.arcs:
        price, middle = arc.price // SCALE, [at[r] for r in arc.readers if r in at]
        if arc.producer in at:
            u, late = at[arc.producer], len(middle) < len(arc.readers)
            if late:  # leaves the stage of its producer, whichever that is
                out += [(u, sink, a * price), (source, u, b * price)]
            if middle:
                out.append((u, point, (b if late else a + b) * price))
                out += [(point, r, infinite) for r in middle]
                point += 1
        elif middle and low >> arc.producer & 1:
            out += [(r, point, infinite) for r in middle] + [(point, sink, a * price)]
            out += [(point + 1, r, infinite) for r in middle] + [(source, point + 1, b * price)]
            point += 2
    return out


def around_the_longest(linear: Linear, chain: Chain, grain: int, width: int, effort: Effort) -> Chain | None:
    """A chain with a shorter longest stage, changed only in some `width` stages next to each other; None if not found.

    Several stages may be longest: one of them is to become shorter, without another becoming as long.
    """
    now = loads(linear, chain)
    most = -(-max(now) // grain) - 1
    width = min(width, linear.stages)
    for s in [s for s, load in enumerate(now) if load > most * grain]:
        for first in range(max(0, s - width + 1), min(s, linear.stages - width) + 1):
            if effort.ended():
                return None
            counted = range(first, first + width)
            inside = [x in counted for x in chain]
            windows = Windows(
                tuple(first if free else x for free, x in zip(inside, chain, strict=True)),
                tuple(counted[-1] if free else x for free, x in zip(inside, chain, strict=True)),
            )
            part = [linear.work[v] for v, free in enumerate(inside) if free]
            least = -(-max(sum(part) // width, max(part)) // grain)
            answer = solve(Question(linear, windows, grain, least, most, counted), effort, hint=chain)
            if answer.chain is not None:
                return answer.chain
    return None
