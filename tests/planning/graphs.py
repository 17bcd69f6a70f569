"""Random graphs and machines for property tests."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from mapper.graph.model import Boundary, Graph, Op, Tensor, WeightUse
from mapper.machine.model import Machine

KINDS = ("matmul", "conv", "attention", "elementwise", "normalization", "none")


@st.composite
def graphs(draw: st.DrawFn, most_ops: int = 12) -> Graph:
    """A random DAG with weights, some of them shared."""
    n = draw(st.integers(1, most_ops))
    ops, tensors = [], []
    for v in range(n):
        names = draw(st.lists(st.sampled_from([f"w{i}" for i in range(n)]), unique=True, max_size=2))
        weights = tuple(
            WeightUse(name=w, bytes=1000 * (1 + int(w[1:])), touched_bytes=1000 * (1 + int(w[1:]))) for w in names
        )
        ops.append(Op(
            name=f"op{v}", kind=draw(st.sampled_from(KINDS)), flop=draw(st.integers(1, 10**8)),
            elements=draw(st.integers(1, 10**6)), read_bytes=draw(st.integers(0, 10**6)),
            write_bytes=draw(st.integers(0, 10**6)), weights=weights, nodes=draw(st.integers(1, 3)),
        ))  # fmt: skip
        readers = draw(st.lists(st.integers(v + 1, n - 1), unique=True, max_size=3)) if v + 1 < n else []
        if readers:
            names_of = tuple(f"op{r}" for r in sorted(readers))
            tensors.append(Tensor(name=f"t{v}", producer=f"op{v}", readers=names_of, bytes=draw(st.integers(1, 10**6))))
    inputs = (Boundary(name="x", ops=("op0",), bytes=100),)
    outputs = (Boundary(name="y", ops=(f"op{n - 1}",), bytes=100),)
    return Graph(name="random", ops=tuple(ops), tensors=tuple(tensors), inputs=inputs, outputs=outputs)


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """A regular machine of up to 32 cores in up to four nodes, with small caches."""
    shape = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 4]))
    near, far = draw(st.sampled_from([1e4, 1e6])), draw(st.sampled_from([1e4, 1e8]))
    sizes = (near, far)[: draw(st.integers(0, 2))]
    return regular_machine(shape, sizes, draw(st.sampled_from([1e9, 4e10])), draw(st.sampled_from([1e9, 1e10])))


def regular_machine(
    shape: tuple[int, int, int], cache_bytes: Sequence[float], package_rate: float, node_rate: float
) -> Machine:
    """A machine of so many nodes, groups of each and cores of each, with caches of a group and of the package, and DRAM
    that serves so many bytes a second, of the package and of a node."""
    nodes, groups, size = shape
    number = iter(range(nodes * groups * size))
    described = [
        {"groups": [",".join(str(next(number)) for _ in range(size)) for _ in range(groups)]} for _ in range(nodes)
    ]
    names = ("L2", 2, "group"), ("L3", 3, "package")
    caches = [
        {"name": name, "level": level, "shared_by": shared, "bytes": size_bytes}
        for (name, level, shared), size_bytes in zip(names, cache_bytes, strict=False)
    ]
    return Machine.model_validate({
        "name": "random", "nodes": described, "caches": caches,
        "distances": [[10 if a == b else 20 + abs(a - b) for b in range(nodes)] for a in range(nodes)],
        "memory": {"package_bandwidth_bytes_per_s": package_rate,
                   "node_bandwidth_bytes_per_s": node_rate, "core_bandwidth_bytes_per_s": 5e9},
        "compute": {"peak_flop_per_s": 1.6e10, "efficiency": dict.fromkeys(("matmul", "conv", "attention"), 0.25),
                    "seconds_per_element": {"elementwise": 1e-9, "normalization": 4e-9}, "busy_slowdown": 1.25,
                    "imbalance": 0.12},
        "overheads": {"dispatch_s": 1e-5, "fork_join_base_s": 2e-6, "fork_join_factor": 2.5, "fork_join_jitter_s": 5e-6,
                      "grain_elements": 32768, "handoff_s": 3e-6, "process_bytes": 1e8},
        "links": {"group": {"line_s": 5e-8, "bandwidth_bytes_per_s": 1.4e10},
                  "node": {"line_s": 1.5e-7, "bandwidth_bytes_per_s": 7e9},
                  "package": {"line_s": 1.8e-7, "bandwidth_bytes_per_s": 5e9}},
    })  # fmt: skip
