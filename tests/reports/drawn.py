"""Machines to draw: random ones with and without a layout, a hybrid, and one whose names are hostile."""

from __future__ import annotations

from hypothesis import strategies as st

from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from tests.machines.generated import machines

HOSTILE = "<script>alert(1)</script> & $x^2$ \\frac{a}{b} $ ]]> \x00\x1b[31m\ud800"


@st.composite
def drawable(draw: st.DrawFn) -> Machine:
    """A random machine; in half of the cases its groups and controllers lie anywhere."""
    machine = draw(machines())
    if draw(st.booleans()):
        return machine
    place = st.tuples(st.integers(0, 4), st.integers(0, 4))
    count = machine.counts["groups"]
    groups = draw(st.lists(place, min_size=count, max_size=count, unique=True))
    node = st.integers(0, len(machine.nodes) - 1)
    controller = st.builds(lambda name, node, at: {"name": name, "node": node, "at": at}, st.text(), node, place)
    layout = {"groups": groups, "controllers": draw(st.lists(controller, max_size=4))}
    return Machine.model_validate({**machine.model_dump(by_alias=True), "layout": layout})


def hybrid() -> Machine:
    """Four P-cores with two PUs each, and two clusters of two E-cores."""
    document = load_machine("core:8").model_dump(by_alias=True)
    singles = [[[2 * i, 2 * i + 1]] for i in range(4)]
    kinds = [{"name": "P-core", "cores": "0-3", "speed": 1}, {"name": "E-core", "cores": "4-7", "speed": 0.6}]
    return Machine.model_validate({
        **document, "title": "Hybrid", "nodes": [{"groups": [*singles, [[8], [9]], [[10], [11]]]}], "core_kinds": kinds,
    })  # fmt: skip
