"""Changes of a machine: each is what it says, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from mapper.errors import UsageError
from mapper.jsonio import plain
from mapper.machine.figures import Figure
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.machine.parts import Rate
from mapper.solver.explanation import levers as module
from mapper.solver.explanation.levers import MIB, cheaper, levers, unit_levers
from tests.planning.graphs import machines

SG2042 = load_machine("sg2042")
LIBRARY = ("sg2042", "sg2042-2s", "epyc-9684x", "core-i9-12900k", "ryzen-7-7840u", "graviton3")
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def changed(machine: Machine, name: str) -> Machine:
    return next(lever for lever in levers(machine, 1e12) if lever.name == name).change(machine)


def sizes(machine: Machine) -> list[list[int]]:
    """Cores of each group of each node."""
    return [[len(group) for group in node.groups] for node in machine.nodes]


def differing(a: Machine, b: Machine) -> set[str]:
    return {name for name in type(a).model_fields if getattr(a, name) != getattr(b, name)}


def check_regular(before: Machine, after: Machine) -> None:
    """A machine that can be planned for: valid, its PUs distinct in each host, groups of one size if they were."""
    assert Machine.model_validate(plain(after)) == after
    if len({n for node in sizes(before) for n in node}) == 1:
        assert len({n for node in sizes(after) for n in node}) == 1


@pytest.mark.parametrize("name", LIBRARY)
def test_every_change_of_the_library_is_valid_or_says_why_not(name: str) -> None:
    machine = load_machine(name)
    before, reasons = plain(machine), []
    for lever in levers(machine, 1e12):
        try:
            after = lever.change(machine)
        except UsageError as error:
            reasons.append(f"{lever.name}: {error}")
            continue
        check_regular(machine, after)
        assert differing(machine, after), lever.name
    assert plain(machine) == before, "the machine itself is as it was"
    assert all("cores" in reason or "cache" in reason or "dram" in reason for reason in reasons), reasons


@QUICK
@given(machines())
def test_cores_and_groups_of_any_shape(machine: Machine) -> None:
    several = len(machine.groups) > 1
    for lever in levers(machine, 0.0)[:5]:
        try:
            after = lever.change(machine)
        except UsageError:
            continue
        check_regular(machine, after)
        groups, size = len(machine.groups), machine.cores_per_group
        more = {"cores+1": groups, "cores-1": -groups, "groups+1": size, "groups-1": -size,
                "node_groups+1": len(machine.nodes) * size}  # fmt: skip
        if lever.name in more:
            assert len(after.cores) == len(machine.cores) + more[lever.name], lever.name
    assert several or not any(lever.name == "groups-1" and _works(lever, machine) for lever in levers(machine, 0.0))


def _works(lever: module.Lever, machine: Machine) -> bool:
    try:
        lever.change(machine)
    except UsageError:
        return False
    return True


def test_one_more_core_and_one_more_group() -> None:
    more = changed(SG2042, "cores+1")
    assert sizes(more) == [[5] * 4] * 4 and more.cores_per_group == 5
    assert differing(SG2042, more) == {"nodes", "layout"}
    assert sizes(changed(SG2042, "cores-1")) == [[3] * 4] * 4
    assert sizes(changed(SG2042, "groups+1")) == [[4] * 4] * 3 + [[4] * 5]
    assert sizes(changed(SG2042, "node_groups+1")) == [[4] * 5] * 4
    assert sizes(changed(SG2042, "groups-1")) == [[4] * 4] * 3 + [[4] * 3]
    pus = [pu for core in more.cores for pu in core.pus]
    assert len(set(pus)) == 80 and set(range(64)) < set(pus), "cores keep their PUs, new ones have new PUs"


def test_new_cores_are_of_the_kind_of_their_neighbours() -> None:
    machine = load_machine("pack:1 numa:2 group:2 core:2")
    kinds = [{"name": "P", "cores": "0-3", "speed": 1}, {"name": "E", "cores": "4-7", "speed": 0.5}]
    machine = Machine.model_validate(plain(machine) | {"core_kinds": kinds})
    more = changed(machine, "cores+1")
    assert [kind.cores for kind in more.core_kinds] == [tuple(range(6)), tuple(range(6, 12))]
    assert [kind.cores for kind in changed(machine, "groups+1").core_kinds] == [tuple(range(4)), tuple(range(4, 10))]
    assert [kind.cores for kind in changed(machine, "cores-1").core_kinds] == [(0, 1), (2, 3)]


def test_hardware_threads_stay_as_many() -> None:
    machine = load_machine("numa:1 group:2 core:2 pu:2")
    more = changed(machine, "cores+1")
    assert {len(core.pus) for core in more.cores} == {2} and more.counts["pus"] == 12


def test_single_cores_and_unequal_groups_have_no_core_to_add() -> None:
    with pytest.raises(UsageError, match="one more core is one more group"):
        changed(load_machine("uniform:4"), "cores+1")
    with pytest.raises(UsageError, match="groups differ in size"):
        changed(module.fewer_groups(_unequal()), "cores+1")
    with pytest.raises(UsageError, match="one group only"):
        changed(load_machine("core:4"), "groups-1")


def _unequal() -> Machine:
    document = plain(load_machine("numa:1 group:3 core:2"))
    nodes = [{"groups": ["0-1", "2-4", "5-6"]}]
    return Machine.model_validate(document | {"nodes": nodes})


def test_caches_and_bandwidths_grow_by_what_is_said() -> None:
    group, package = SG2042.group_cache, SG2042.package_cache
    assert group is not None and package is not None
    near, far = changed(SG2042, "group_cache+1MiB"), changed(SG2042, "package_cache+1MiB")
    assert near.group_cache and near.group_cache.bytes.value == group.bytes.value + MIB
    assert near.package_cache == package and differing(SG2042, near) == {"caches"}
    assert far.package_cache and far.package_cache.bytes.value == package.bytes.value + MIB
    for name in ("package", "node", "core"):
        field = f"{name}_bandwidth_bytes_per_s"
        after = changed(SG2042, f"{name}_dram+1GB/s")
        assert getattr(after.memory, field).value == getattr(SG2042.memory, field).value + 1e9
        assert differing(SG2042, after) == {"memory"}
    assert changed(SG2042, "links*2").link_bytes_per_s("node") == 2 * SG2042.link_bytes_per_s("node")


def test_a_cache_that_holds_the_model_is_offered_only_where_it_does_not() -> None:
    assert not any(lever.name == "package_cache=model" for lever in levers(SG2042, 4e7))
    grown = changed(SG2042, "package_cache=model").package_cache
    assert grown and 1e12 <= grown.bytes.value * grown.fill.value < 1.001e12


def test_arithmetic_and_software() -> None:
    assert changed(SG2042, "peak+10%").compute.peak_flop_per_s.value == pytest.approx(1.76e10)
    elements = changed(SG2042, "elements/2").compute.seconds_per_element
    assert all(elements[k].value == v.value / 2 for k, v in SG2042.compute.seconds_per_element.items())
    for name, field in (("handoff", "handoff_s"), ("dispatch", "dispatch_s"), ("fork_join", "fork_join_factor")):
        after = changed(SG2042, f"{name}/2")
        assert getattr(after.overheads, field).value == getattr(SG2042.overheads, field).value / 2
        assert differing(SG2042, after) == {"overheads"}


def test_measured_figures_change_with_what_they_replace() -> None:
    rates = {name: Rate(start_s=Figure(value=4e-6), unit_s=Figure(value=1e-10)) for name in ("matmul", "elementwise")}
    compute = SG2042.compute.model_copy(update={"rates": rates})
    overheads = SG2042.overheads.model_copy(update={"fork_join_s": {4: Figure(value=8e-6)}})
    measured = SG2042.model_copy(update={"compute": compute, "overheads": overheads})
    products = changed(measured, "peak+10%").compute.rates
    assert products["matmul"].unit_s.value == pytest.approx(1e-10 / 1.1)
    assert products["elementwise"] == rates["elementwise"]
    assert changed(measured, "elements/2").compute.rates["elementwise"].unit_s.value == 5e-11
    assert changed(measured, "dispatch/2").compute.rates["matmul"].start_s.value == 2e-6
    assert changed(measured, "fork_join/2").overheads.fork_join_s[4].value == 4e-6


def test_what_costs_nothing_cannot_cost_less() -> None:
    with pytest.raises(UsageError, match="costs nothing"):
        cheaper(load_machine("uniform:4"), "handoff", 2.0)


def test_units_of_imported_graphs() -> None:
    more, fewer = (lever.change(load_machine("uniform:4")) for lever in unit_levers())
    assert (len(more.groups), len(fewer.groups)) == (5, 3)
