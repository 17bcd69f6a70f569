"""Mappings as CSV: what is written is read as the same plan, and what is wrong is told with its line."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mapper.cost.configurations import configurations
from mapper.cost.roofline import roofline
from mapper.errors import BadInput
from mapper.exporters.export import export
from mapper.exporters.files.csv_file import csv_text, guarded, unguarded
from mapper.exporters.mappings.csv_mapping import read_csv
from mapper.exporters.mappings.mapping import Work, imported_plan
from mapper.exporters.mappings.rankfile import read_rankfile
from mapper.graph.model import Graph
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.plans.check import check, violations
from mapper.plans.evaluate import Placed, evaluate
from mapper.plans.model import Plan, Proof, Request, Solver
from mapper.plans.reference import reference_of
from mapper.simulator.simulate import simulate
from mapper.solver.plan import plan
from mapper.solver.problem import Limits
from tests.exporters.plans import HOSTILE, nodes_of
from tests.planning.graphs import graphs, machines
from tests.planning.test_machines import block_chain


def work_on(graph: Graph, machine: Machine) -> Work:
    return Work(graph, machine, roofline(graph, machine), reference_of(graph), Request())


def read_back(work: Work, text: str) -> Plan:
    """The plan of a table."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "mapping.csv"
        file.write_bytes(text.encode())
        return imported_plan(read_csv(file, work.graph, work.machine), work, str(file))


@st.composite
def mappings(draw: st.DrawFn) -> tuple[Work, list[Placed]]:
    """A random graph on a random machine, cut anywhere, each stage with random replicas on random free cores."""
    graph, machine = draw(graphs()), draw(machines())
    free = {g: draw(st.permutations(cores)) for g, cores in enumerate(machine.groups)}
    names, known, placed = [op.name for op in graph.ops], configurations(machine), []
    while names:
        config = draw(st.sampled_from(known))
        roomy = [g for g in free if len(free[g]) >= config.cores_per_group]
        if len(roomy) < config.groups:
            config = known[0]
            roomy = [g for g in free if free[g]]
        room = len(roomy) // config.groups
        if not roomy:  # the last stage takes what is left
            placed[-1] = dataclasses.replace(placed[-1], ops=(*placed[-1].ops, *names))
            break
        replicas = []
        for _ in range(draw(st.integers(1, min(room, 3)))):
            groups = draw(st.permutations(roomy))[: config.groups]
            replicas.append(tuple(core for g in groups for core in free[g][: config.cores_per_group]))
            for g in groups:
                free[g] = free[g][config.cores_per_group :]
                roomy.remove(g)
        count = draw(st.integers(1, len(names)))
        placed.append(Placed(tuple(names[:count]), config, tuple(replicas), draw(st.booleans())))
        names = names[count:]
    return work_on(graph, machine), placed


@settings(max_examples=60, deadline=None)
@given(mappings())
def test_a_plan_written_and_read_is_the_same_plan(case: tuple[Work, list[Placed]]) -> None:
    work, placed = case
    made = evaluate(work.graph, work.machine, work.table, placed)
    text = csv_text(read_back(work, csv_text(_plan(work, placed))))
    found = read_back(work, text)
    assert (found.stages, found.edges, found.predicted) == (made.stages, made.edges, made.predicted)
    assert violations(found, work.graph, work.table) == []
    assert (found.solver.status, found.solver.bound, found.solver.gap) == ("feasible", 0.0, 1.0)


def _plan(work: Work, placed: list[Placed]) -> Plan:
    """The evaluated mapping as any plan."""
    solver = Solver(
        status="feasible", objective=1, best_objective=1, bound=0, gap=1, near_optimal=0, proved=Proof(space="")
    )
    made = evaluate(work.graph, work.machine, work.table, placed)
    return made.as_plan(work.model, work.machine, work.request, solver)


@settings(max_examples=15, deadline=None)
@given(graphs(), machines())
def test_the_planners_own_plans_come_back(graph: Graph, machine: Machine) -> None:
    made = plan(graph, machine)
    found = read_back(work_on(graph, machine), csv_text(made))
    assert (found.stages, found.edges, found.predicted) == (made.stages, made.edges, made.predicted)
    assert found.solver.objective == made.solver.objective
    assert check(found, graph, roofline(graph, machine)).violations == ()
    assert simulate(found, items=8).throughput_per_s == simulate(made, items=8).throughput_per_s


def test_a_plan_for_two_hosts_comes_back(tmp_path: Path) -> None:
    graph, machine = block_chain(6), load_machine("numa:2 group:2 core:2*2", "10Gbit,20us")
    made = plan(graph, machine, limits=Limits(stages=3))
    assert {replica.host for stage in made.stages for replica in stage.replicas} == {0, 1}
    work = work_on(graph, machine)
    assert read_back(work, csv_text(made)).stages == made.stages
    file = export(made, "openmpi-rankfile", tmp_path / "out") / "rankfile"
    found = imported_plan(read_rankfile(file, machine, [], made), work, "rankfile")
    assert (found.stages, found.predicted) == (made.stages, made.predicted)


@given(st.text())
def test_any_name_is_a_cell_that_is_no_formula(name: str) -> None:
    cell = guarded(name)
    assert unguarded(cell) == name
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


# what is wrong

OPS = ({"name": "a"}, {"name": "b"}, {"name": "c"})
GRAPH = Graph.model_validate({
    "name": "abc",
    "ops": [op | {"kind": "elementwise", "flop": 1e6, "elements": 1000} for op in OPS],
    "tensors": [{"name": "t", "producer": "a", "readers": ["b"], "bytes": 8},
                {"name": "u", "producer": "b", "readers": ["c"], "bytes": 8}],
})  # fmt: skip
MACHINE = load_machine("numa:2 group:2 core:2").model_copy(
    update={"name": "test", "nodes": nodes_of([[[10, 11], [12, 13]], [[14, 15], [16, 17]]]).nodes}
)
HEAD = "row,stage,op,replica,host,threads,cores,pus,weights"
GOOD = (HEAD, "op,0,a,,,,,,", "op,0,b,,,,,,", "op,1,c,,,,,,", "worker,0,,0,0,2,0 1,,own", "worker,0,,1,0,2,2 3,,own",
        "worker,1,,0,0,4,4-7,,")  # fmt: skip


def good(**changed: str) -> str:
    """The good table with other lines, by their number."""
    lines = {f"line{n}": line for n, line in enumerate(GOOD, 1)} | changed
    return "\n".join(lines.values()) + "\n"


def test_a_table_by_hand() -> None:
    found = read_back(work_on(GRAPH, MACHINE), good())
    assert [stage.ops for stage in found.stages] == [("a", "b"), ("c",)]
    assert [[r.cores for r in stage.replicas] for stage in found.stages] == [[(0, 1), (2, 3)], [(4, 5, 6, 7)]]
    assert found.stages[1].replicas[0].configuration.name == "2x2"
    assert found.stages[1].replicas[0].weights.nodes == (1,)
    assert found.request.model_extra == {"planner": "mapping.csv"}


def test_pus_count_where_cores_are_empty() -> None:
    found = read_back(work_on(GRAPH, MACHINE), good(line5="worker,0,,0,0,2,,11 10,own"))
    assert found.stages[0].replicas[0].cores == (1, 0)
    with pytest.raises(BadInput, match="line 5: PU 3 is on no core of host 0"):
        read_back(work_on(GRAPH, MACHINE), good(line5="worker,0,,0,0,2,,3,own"))


def test_what_other_programs_add_to_a_file() -> None:
    """A byte-order mark, lines with nothing in them, columns in another order and of another's own."""
    head = "\ufeffOp,Row,Stage,replica,cores,colour\r\n\r\n,,,,,\r\n"
    text = head + 'a,op,0,,,red\r\nb,op,0,,,\r\nc,op,0\r\n,worker,0,0,"0-1",\r\n'
    found = read_back(work_on(GRAPH, MACHINE), text)
    assert [stage.ops for stage in found.stages] == [("a", "b", "c")]


def test_names_that_are_hostile() -> None:
    ops = [
        {"name": name, "kind": "elementwise", "flop": 1e6, "elements": 1000}
        for name in (*HOSTILE, "", "\0", "'", "a,b")
    ]
    graph = Graph.model_validate({"name": "g", "ops": ops, "tensors": []})
    work = work_on(graph, MACHINE)
    made = plan(graph, MACHINE)
    assert read_back(work, csv_text(made)).stages == made.stages


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"line3": "op,0,x,,,,,,"}, "line 3: abc has no op 'x'"),
        ({"line3": "op,0,a,,,,,,"}, "line 3: the op 'a' is in stage 0 already, in line 2"),
        ({"line4": "op,1,b,,,,,,"}, "line 4: the op 'b' is in stage 0 already, in line 3"),
        ({"line3": ""}, "mapping.csv: the op 'b' is in no stage"),
        ({"line2": "op,1,a,,,,,,"}, "line 3: the op 'b' of stage 0 reads what 'a' of stage 1 makes (line 2)"),
        ({"line4": "op,2,c,,,,,,"}, "mapping.csv: stage 1 has no op"),
        ({"line7": ""}, "mapping.csv: stage 1 has no worker with replica 0"),
        ({"line6": "worker,0,,2,0,2,2 3,,own"}, "mapping.csv: stage 0 has no worker with replica 1"),
        ({"line6": "worker,0,,0,0,2,2 3,,own"}, "line 6: replica 0 of stage 0 is in line 5 already"),
        ({"line5": "worker,0,,0,0,2,0 8,,own"}, "line 5: core 8 is not on test, which has 0 to 7"),
        ({"line6": "worker,0,,1,0,2,1 2,,own"}, "line 6: core 1 is taken already, in line 5"),
        ({"line5": "worker,0,,0,0,2,0 0,,own"}, "line 5: core 0 is taken already, in this line"),
        ({"line6": "worker,0,,1,0,1,2,,own"}, "line 6: replicas of a stage are alike, but this one has 1x1"),
        ({"line7": "worker,1,,0,0,3,4-6,,"}, "line 7: cores 4-6 are 2+1 of 2 group(s), which is no configuration"),
        ({"line7": "worker,1,,0,0,2,4 6,,"}, "line 7: cores 4,6 are 1+1 of 2 group(s), which is no configuration"),
        ({"line7": "worker,1,,0,0,2,4-7,,"}, "line 7: 2 threads, but 4 cores"),
        ({"line7": "worker,1,,0,0,,,,"}, "line 7: a worker needs cores"),
        ({"line7": "worker,1,,0,0,,4-x,,"}, "line 7: cores: '4-x' is not a CPU list"),
        ({"line6": "worker,0,,1,0,2,2 3,,all"}, "line 6: weights is 'all' here, but 'own' in line 5"),
        ({"line6": "worker,0,,1,0,2,2 3,,far"}, "line 6: weights is 'far'"),
        ({"line6": "core,0,,1,0,2,2 3,,own"}, "line 6: row is 'core', op or worker was expected"),
        ({"line6": "worker,-1,,1,0,2,2 3,,own"}, "line 6: stage is '-1', a number from 0 was expected"),
        ({"line6": "worker,0,,1,0,2,2 3,,own,more"}, "line 6: 10 cells, but there are 9 columns"),
        ({"line3": 'op,0,"b,,,,,,'}, "not CSV"),
        ({"line1": "row,stage,op,cores"}, "line 1: there is no column 'replica'"),
        ({"line1": HEAD.replace("cores,pus", "a,b")}, "line 1: there is neither a column 'cores' nor 'pus'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(changes: dict[str, str], what: str) -> None:
    with pytest.raises(BadInput) as error:
        read_back(work_on(GRAPH, MACHINE), good(**changes))
    assert what in error.value.what


def test_lines_are_counted_where_names_have_line_breaks() -> None:
    graph = GRAPH.model_copy(update={"ops": (GRAPH.ops[0].model_copy(update={"name": "a\nb\r\nc"}),), "tensors": ()})
    text = "\n".join([HEAD, 'op,0,"a\nb\r\nc",,,,,,', "worker,0,,0,0,,99,,"])
    with pytest.raises(BadInput, match="line 5: core 99"):
        read_back(work_on(graph, MACHINE), text)


def test_ops_that_must_share_a_stage() -> None:
    ops = tuple(op.model_copy(update={"together": "same"} if op.name in "ac" else {}) for op in GRAPH.ops)
    with pytest.raises(BadInput, match=r"line 4: the ops 'a' \(line 2\) and 'c' must share a stage"):
        read_back(work_on(GRAPH.model_copy(update={"ops": ops}), MACHINE), good())


def test_a_worker_is_on_one_host() -> None:
    machine = load_machine("sg2042").model_copy(update={"nodes": nodes_of([[[0, 1]], [[0, 1]]], hosts=[0, 1]).nodes})
    text = "\n".join([HEAD, *(f"op,0,{op},,,,,," for op in "abc"), "worker,0,,0,0,,0-3,,"])
    with pytest.raises(BadInput, match="line 5: its cores are on several hosts"):
        read_back(work_on(GRAPH, machine), text)


def test_not_text() -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "mapping.csv"
        file.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(BadInput, match="not UTF-8 text"):
            read_csv(file, GRAPH, MACHINE)
        file.write_bytes(b"")
        with pytest.raises(BadInput, match="no column 'row'"):
            read_csv(file, GRAPH, MACHINE)
