"""Random small problems for property tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from mapper.cost.configurations import Config
from mapper.cost.residency import Caches
from mapper.solver.problem import NodeMemory, Problem, TensorArc, WeightArc

SHAPES = ((1, 2), (2, 1), (2, 2), (1, 4), (3, 1))
"""(groups, cores a group)."""


@st.composite
def problems(draw: st.DrawFn, most_ops: int = 4) -> Problem:
    """Up to `most_ops` ops, up to four cores, caches that hold some stages and not others."""
    n = draw(st.integers(1, most_ops))
    groups, size = draw(st.sampled_from(SHAPES))
    parts = [Config(1, k) for k in (1, 2) if k < size and size % k == 0]
    configs = tuple(parts + [Config(g, size) for g in range(1, groups + 1)])
    amount = st.integers(0, 20).map(float)
    base = np.array([draw(st.integers(0, 40)) for _ in range(n)], dtype=float)
    slow = np.array([draw(st.sampled_from([1.0, 1.3, 2.0])) for _ in range(n)])
    seconds = np.empty((n, len(configs), 3))
    for c, config in enumerate(configs):
        speed = config.cores ** draw(st.sampled_from([0.5, 0.9, 1.0]))
        for residency in range(3):
            seconds[:, c, residency] = base / speed * slow**residency
    tensors, weights = [], []
    for v in range(n):
        readers = draw(st.lists(st.integers(v + 1, n - 1), unique=True, max_size=2)) if v + 1 < n else []
        if readers:
            tensors.append(TensorArc(v, tuple(sorted(readers)), draw(amount)))
        if draw(st.booleans()):
            shared = draw(st.lists(st.integers(0, n - 1), unique=True, min_size=1, max_size=2))
            weights.append(WeightArc(tuple(sorted(shared)), draw(amount)))
    package = draw(st.sampled_from([0.0, 30.0, 1000.0]))
    return Problem(
        configs=configs, cache_shares=(1,) * len(configs), seconds=seconds,
        dram_bytes=np.array([[draw(st.sampled_from([0.0, 3.0]))] * len(configs) for _ in range(n)]),
        footprint=np.array([draw(amount) for _ in range(n)]), tensors=tuple(tensors), weights=tuple(weights),
        groups=groups, cores_per_group=size, cores=groups * size,
        caches=Caches(draw(st.sampled_from([0.0, 25.0, 60.0, 200.0])), package, ("group", "package", "dram")),
        dram_bytes_per_s=draw(st.sampled_from([1.0, 1e9])), handoff_s=draw(st.sampled_from([0.0, 0.5])),
        link_bytes_per_s=tuple(draw(st.sampled_from([2.0, 10.0])) for _ in configs),
        memory=NodeMemory(
            tuple(WeightArc(w.users, 2 * w.bytes) for w in weights), np.array([draw(amount) for _ in range(n)]),
            np.array([draw(st.sampled_from([0.0, 5.0])) for _ in range(n)]), draw(st.sampled_from([0.0, 10.0])),
            (size,) * groups if draw(st.booleans()) else (groups * size,),
        ),
    )  # fmt: skip
