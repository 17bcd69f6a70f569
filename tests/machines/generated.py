"""Random machines for property tests: uneven groups, any numbering, several packages and nodes, SMT, kinds of cache."""

from __future__ import annotations

from hypothesis import assume
from hypothesis import strategies as st

from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.machine.parts import Cache, Node

SG2042 = load_machine("sg2042")
L1, L2, L3 = SG2042.caches


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """A machine of 1 to 3 packages with 1 to 3 nodes each; its nodes have 1 to 3 groups of 1 to 4 cores with 1 or 2
    PUs, numbered in any order with gaps. Its L2 is a group's, its L3 a package's, or there is neither."""
    nodes = draw(st.lists(_node_shape(), min_size=1, max_size=4))
    packages = sorted(draw(st.lists(st.integers(0, 2), min_size=len(nodes), max_size=len(nodes))))
    packages = [sorted(set(packages)).index(package) for package in packages]
    for package in set(packages):
        groups = [size for p, shape in zip(packages, nodes, strict=True) if p == package for size in shape]
        assume(len(groups) > 1 or groups == [1])  # what the whole package shares makes no group
    threads = draw(st.integers(1, 2))
    count = sum(sum(shape) for shape in nodes) * threads
    gap, start = draw(st.integers(1, 3)), draw(st.integers(0, 2))
    numbers = iter([gap * n + start for n in draw(st.permutations(range(count)))])
    made = [
        Node.model_validate({"package": package, "os_index": gap * n, "memory_bytes": 2**30 * (n + 1), "groups": tuple(
            tuple(tuple(sorted(next(numbers) for _ in range(threads))) for _ in range(size)) for size in shape)})
        for n, (package, shape) in enumerate(zip(packages, nodes, strict=True))
    ]  # fmt: skip
    near, far = draw(st.integers(10, 12)), draw(st.integers(12, 40))
    distances = tuple(tuple(float(near if a is b else far) for a in made) for b in made)
    links = dict.fromkeys(("group", "node", "package", "host"), SG2042.links["package"])
    changed = {"nodes": tuple(_ordered(node) for node in made), "distances": distances, "links": links, "layout": None}
    machine = SG2042.model_copy(update={**changed, "caches": draw(_caches()), "name": "random"})
    return Machine.model_validate(machine.model_dump(by_alias=True))


def _node_shape() -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(1, 4), min_size=1, max_size=3)


def _ordered(node: Node) -> Node:
    """Cores and groups by their least PU, as discovery orders them."""
    return node.model_copy(update={"groups": tuple(sorted(tuple(sorted(group)) for group in node.groups))})


def _caches() -> st.SearchStrategy[tuple[Cache, ...]]:
    return st.sampled_from([(), (L1, L2), (L1, L2, L3)])
