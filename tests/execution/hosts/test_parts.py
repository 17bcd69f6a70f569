"""Plans over hosts, cut into parts: what the parts compute together, and who computes what."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mapper.backends import eager
from mapper.errors import BadInput, MachineMismatch
from mapper.execution.hosts.parts import FRONT, Cut, cut, part_plan, replicas_on
from mapper.execution.place import resolve_pus
from mapper.machine.restrict import with_cores
from mapper.plans.model import Plan
from mapper.program.model import Program
from mapper.sources.stages import output_homes, stage_programs
from tests.execution import models
from tests.execution.hosts.clusters import cluster_of, plan_over
from tests.tracing import Traced, cuts, machine_of

MODELS = [models.mlp(), models.skip(), models.strides()]


@st.composite
def plans(draw: st.DrawFn) -> tuple[Traced, Plan]:
    """A model, and a plan of it over one to four hosts."""
    model = draw(st.sampled_from(MODELS))
    ops = len(model.graph.ops)
    count = draw(st.integers(1, min(4, ops)))
    borders = sorted(draw(st.sets(st.integers(1, ops - 1), min_size=count - 1, max_size=count - 1)))
    sizes = [b - a for a, b in zip([0, *borders], [*borders, ops], strict=True)]
    host = st.integers(0, draw(st.integers(0, 3)))
    hosts = [draw(st.lists(host, min_size=1, max_size=4)) for _ in sizes]
    return model, plan_over(model, cuts(model.graph, sizes), hosts)


def item_of(model: Traced, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.rand(x.type.shape, generator=generator) > 0.5
        if x.type.dtype == "bool"
        else torch.randn(x.type.shape, generator=generator)
        for x in model.program.inputs
    ]


def through_stages(
    plan: Plan, program: Program, weights: dict[str, torch.Tensor], item: Sequence[torch.Tensor]
) -> list:
    """What the stages of a part's own plan compute, one after the other."""
    known = dict(zip((x.name for x in program.inputs), item, strict=True))
    programs = stage_programs(plan, program)
    made = []
    for stage in programs:
        outputs = eager.prepare(stage, weights, 1)(*(known[x.name] for x in stage.inputs))
        known.update(zip(stage.output_names, outputs, strict=True))
        made.append(outputs)
    return [made[s][i] for s, i in output_homes(program, programs)]


def through_parts(whole: Cut, weights: dict[str, torch.Tensor], item: Sequence[torch.Tensor], call: int) -> list:
    """The outputs of the model, by the parts and what goes between them."""
    made: dict[int, Sequence[torch.Tensor]] = {FRONT: item}
    for part in whole.parts:
        entering = {}
        for lane in whole.lanes:
            if lane.target == part.number:
                entering.update(zip(lane.names, (made[lane.source][i] for i in lane.positions), strict=True))
        plan = part_plan(whole, part, whole.host(part.number, call))
        given = [entering[x.name] for x in part.program.inputs]
        made[part.number] = through_stages(plan, part.program, weights, given)
    lanes = {lane.number: [made[lane.source][i] for i in lane.positions] for lane in whole.lanes}
    return [lanes[lane][i] for lane, i in whole.results]


@given(plans(), st.integers(0, 12))
def test_parts_compute_what_the_unsplit_model_computes_bit_by_bit(made: tuple[Traced, Plan], call: int) -> None:
    model, plan = made
    item = item_of(model, call)
    with torch.inference_mode():
        wanted = eager.prepare(model.program, model.weights, 1)(*item)
        found = through_parts(cut(plan, model.program), model.weights, item, call)
    assert len(found) == len(wanted)
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(found, wanted, strict=True))


@given(plans())
def test_every_call_is_at_the_replicas_that_the_plan_says(made: tuple[Traced, Plan]) -> None:
    model, plan = made
    whole = cut(plan, model.program)
    for part in whole.parts:
        for host in whole.hosts_at(part.number):
            own = part_plan(whole, part, host)
            for k, call in enumerate(whole.calls(part.number, host, 40)):
                for local, s in enumerate(part.stages):
                    replicas = plan.stages[s].replicas
                    said, taken = call % len(replicas), replicas_on(plan.stages[s], host)
                    assert taken[k % len(taken)] == said and replicas[said].host == host
                    core = own.stages[local].replicas[k % len(taken)].cores[0]
                    assert own.machine.cores[core].pus == plan.machine.cores[replicas[said].cores[0]].pus


@given(plans())
def test_parts_are_as_long_as_they_can_be_and_each_call_is_somewhere_once(made: tuple[Traced, Plan]) -> None:
    model, plan = made
    whole = cut(plan, model.program)
    assert [s for part in whole.parts for s in part.stages] == list(range(len(plan.stages)))

    def homes(s: int) -> list[int]:
        replicas = plan.stages[s].replicas
        return [replicas[n % len(replicas)].host for n in range(24)]

    for before, after in zip(plan.stages, plan.stages[1:], strict=False):
        together = any({before.id, after.id} <= set(part.stages) for part in whole.parts)
        assert together == (homes(before.id) == homes(after.id))
    for part in whole.parts:
        on = [list(whole.calls(part.number, host, 24)) for host in whole.hosts]
        assert sorted(call for calls in on for call in calls) == list(range(24))


@given(plans())
def test_the_plan_of_a_part_is_for_its_host_alone(made: tuple[Traced, Plan]) -> None:
    model, plan = made
    whole = cut(plan, model.program)
    for part in whole.parts:
        for host in whole.hosts_at(part.number):
            own = part_plan(whole, part, host)
            assert own.machine.counts["hosts"] == 1 and own.fingerprint == own.machine.fingerprint
            assert all(replica.host == 0 for stage in own.stages for replica in stage.replicas)
            assert max(own.cores) < len(own.machine.cores)
            assert {edge.source for edge in own.edges} <= {"feeder", *range(len(own.stages))}
            assert own.predicted.window >= 2


def test_links_are_where_calls_change_hosts_and_know_their_bytes() -> None:
    model = models.skip()
    stages = cuts(model.graph, [2, 2, 2])  # the first conv's result is read by the last stage
    one = 2 * 8 * 16 * 16 * 4
    split = cut(plan_over(model, stages, [[0], [1], [0]]), model.program)
    assert [part.stages for part in split.parts] == [(0,), (1,), (2,)]
    assert sorted((lane.source, lane.target, a, b) for lane, a, b in split.links()) == [(0, 1, 0, 1), (1, 2, 1, 0)]
    assert split.link_bytes_per_call == 2 * one, "what the last stage reads of the first stays on host 0"
    copies = cut(plan_over(model, stages, [[0, 1], [0, 1], [0, 1, 0, 1]]), model.program)
    assert [part.stages for part in copies.parts] == [(0, 1, 2)]
    item, output = 2 * 3 * 16 * 16 * 4, one
    assert copies.link_bytes_per_call == (item + output) / 2, "every other item goes to host 1 and comes back"
    alone = cut(plan_over(model, stages, [[0], [0], [0]]), model.program)
    assert not list(alone.links()) and alone.hosts == (0,) and len(alone.parts) == 1


@pytest.mark.parametrize("reserved", ["0,1", "4,7", "1,3,5,7"])
def test_a_plan_for_a_part_of_each_host_is_placed_there_where_hosts_are_alike(reserved: str) -> None:
    model, here = models.mlp(), machine_of([[10, 12], [14, 16]])
    alike = [node.model_copy(update={"host": h, "package": h}) for h in range(2) for node in here.nodes]
    links = cluster_of([1, 1]).links
    cluster = here.model_copy(update={"nodes": tuple(alike), "links": links})
    left = [core for core in range(8) if str(core) not in reserved.split(",")]
    machine = with_cores(cluster, left)
    plan = plan_over(model, cuts(model.graph, [4, 4]), [[0, 0], [1, 1]])
    numbers = {host: [i for i, core in enumerate(left) if core // 4 == host] for host in (0, 1)}
    stages = []
    for stage, host in zip(plan.stages, (0, 1), strict=True):
        pairs = zip(stage.replicas, numbers[host], strict=False)
        stages.append(
            stage.model_copy(update={"replicas": tuple(r.model_copy(update={"cores": (n,)}) for r, n in pairs)})
        )
    plan = plan.model_copy(update={"machine": machine, "fingerprint": machine.fingerprint, "stages": tuple(stages)})
    whole = cut(plan, model.program)
    for part, host in zip(whole.parts, (0, 1), strict=True):
        found = resolve_pus(part_plan(whole, part, host, here), here)
        kept = [core for core in left if core // 4 == host][:2]
        assert [pus for replica in found[0] for pus in replica] == [here.cores[core - 4 * host].pus[0] for core in kept]
    other = machine_of([[0, 1], [2, 3], [4, 5]])
    with pytest.raises(MachineMismatch, match="this machine is"):
        resolve_pus(part_plan(whole, whole.parts[0], 0, other), other)


def test_a_front_without_replicas_takes_part() -> None:
    model = models.mlp()
    whole = cut(plan_over(model, cuts(model.graph, [8]), [[1, 2]]), model.program)
    assert whole.hosts == (0, 1, 2) and whole.parts_on(0) == ()
    assert {(a, b) for _, a, b in whole.links()} == {(0, 1), (0, 2), (1, 0), (2, 0)}


def test_stages_that_are_no_partition_are_refused() -> None:
    model = models.mlp()
    first, second = cuts(model.graph, [4, 4])
    with pytest.raises(BadInput, match="which no stage before it produces"):
        cut(plan_over(model, [second, first], [[0], [1]]), model.program)
    with pytest.raises(BadInput, match="the model at hand"):
        cut(plan_over(model, [first, second], [[0], [1]]), models.skip().program)
