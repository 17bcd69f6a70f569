"""Plans over several hosts, simulated: the network is shared by all that crosses a host's border."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings

import mapper
from mapper.cost.configurations import Config, configurations
from mapper.cost.roofline import roofline
from mapper.machine.model import Machine
from mapper.plans.evaluate import Evaluation, Placed, evaluate
from mapper.plans.hosts import traffic
from mapper.simulator.simulate import simulate
from mapper.simulator.stations import host_resources, system_of
from tests.planning.test_clusters import layers
from tests.plans.test_hosts import a_plan, placed
from tests.solver.clusters import clustered

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def copies(machine: Machine, count: int, inputs: int) -> Evaluation:
    """Copies of one layer on the first `count` cores."""
    graph = layers(1, inputs=inputs)
    cores = tuple((core,) for core in range(count))
    return evaluate(graph, machine, roofline(graph, machine, configurations(machine)),
                    [Placed(("layer0",), Config(1, 1), cores)])  # fmt: skip


@QUICK
@given(placed())
def test_no_simulation_is_faster_than_what_the_network_carries(made: object) -> None:
    _, machine, found = made  # type: ignore[misc]
    plan = found.in_plan(a_plan(), machine=machine)
    result = simulate(plan, items=120)
    assert result.period_s >= plan.predicted.period_s * (1 - 0.02)  # of so many items, the ends count
    assert all(use.into <= 1 + 1e-6 and use.out <= 1 + 1e-6 for use in result.utilisation.links)


def test_where_the_network_limits_a_plan_its_rate_is_that_of_the_network() -> None:
    machine = clustered(2, 1, 2, rate=1e7)
    found = copies(machine, 4, 10**6)
    assert found.predicted.limited_by == "link out of host 0"
    assert found.predicted.period_s == pytest.approx(0.5 * 10**6 / 1e7), "half of the items go to the other host"
    result = simulate(found.in_plan(a_plan(), machine=machine))
    assert result.period_s == pytest.approx(found.predicted.period_s, rel=0.02)
    use = {link.host: link for link in result.utilisation.links}
    assert use[0].out == pytest.approx(1, rel=0.02) and use[1].into == pytest.approx(1, rel=0.02)
    assert use[1].out < 0.01


def test_a_fast_network_costs_copies_nothing() -> None:
    machine = clustered(2, 1, 2, rate=1e12)
    found = copies(machine, 4, 10**6)
    result = simulate(found.in_plan(a_plan(), machine=machine))
    assert result.period_s == pytest.approx(found.predicted.period_s, rel=1e-6)


def test_what_stations_draw_is_what_the_plan_says_that_crosses() -> None:
    machine = clustered(3, 1, 2, rate=1e8)
    plan = mapper.plan(layers(5, inputs=10**6), machine)
    system, resources = system_of(plan), host_resources(machine)
    moved = traffic(plan.stages, plan.edges, machine)
    drawn: dict[int, float] = {}
    for stage in system.stations:
        for station in stage:
            for resource, rate in station.draws:
                drawn[resource] = drawn.get(resource, 0.0) + rate * station.work_s / station.step
    for host, own in resources.items():
        assert drawn.get(own.into, 0.0) == pytest.approx(moved[host].in_bytes)
        assert drawn.get(own.out, 0.0) == pytest.approx(moved[host].out_bytes)


def test_a_machine_of_one_host_has_no_network() -> None:
    plan = a_plan()
    assert host_resources(plan.machine) == {} and simulate(plan, items=10).utilisation.links == ()
    assert replace(system_of(plan)).capacity.keys() <= {-1, 0}
