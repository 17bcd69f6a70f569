"""Small clusters, and every placed plan on them."""

from __future__ import annotations

from hypothesis import strategies as st

from mapper.jsonio import plain
from mapper.machine.model import Machine
from tests.solver.distances import apart


def clustered(
    hosts: int, groups: int = 1, size: int = 2, *, rate: float = 1e9, cache: float = 0.0, dram: float = 4e11
) -> Machine:
    """So many hosts of one node each, with a network of `rate` bytes per second between them."""
    machine = apart(hosts, groups, size, cache=cache, dram=dram)
    document = plain(machine)
    for number, node in enumerate(document["nodes"]):
        node.update(host=number, package=number)
    document["links"]["cluster"] = {"line_s": 2e-6, "bandwidth_bytes_per_s": rate, "message_s": 5e-6}
    return Machine.model_validate(document)


@st.composite
def clusters(draw: st.DrawFn) -> Machine:
    """Two or three small hosts with a fast or slow network, with or without caches and limits on DRAM."""
    hosts, groups, size = draw(st.sampled_from([(2, 1, 2), (2, 2, 1), (3, 1, 1), (2, 1, 1)]))
    return clustered(hosts, groups, size, rate=draw(st.sampled_from([1e6, 3e7, 1e9])),
                     cache=draw(st.sampled_from([0.0, 2e3, 1e6])), dram=draw(st.sampled_from([2e9, 4e11])))  # fmt: skip
