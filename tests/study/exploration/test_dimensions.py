"""What `--vary` understands."""

from __future__ import annotations

import pytest

from mapper.errors import UnknownName, UsageError
from mapper.machine.files import load_machine
from mapper.solver.placement.strategies import STRATEGIES
from mapper.study.exploration.dimensions import Dimensions, dimensions


def test_names_alone_take_what_the_machine_suggests() -> None:
    found = dimensions(["strategy,stages,threads,replicas,batch"], "sg2042.json")
    powers = (1, 2, 4, 8, 16, 32, 64)
    assert found == Dimensions(
        topos=("sg2042.json",), batches=(1, 4, 16), strategies=tuple(STRATEGIES), stages=powers, threads=powers,
        replicas=powers,
    )  # fmt: skip


def test_teams_are_those_that_a_machine_knows() -> None:
    assert dimensions(["threads"], "group:3 core:6").threads == (1, 2, 6, 12, 18)
    assert "mesh-neighbour" not in dimensions(["strategy"], "group:3 core:6").strategies


def test_values_are_taken_as_given() -> None:
    found = dimensions(["stages=4,1,any,4", "threads=2", "strategy=scatter"], "sg2042", 8)
    assert (found.stages, found.threads, found.replicas) == ((4, 1, None), (2,), (None,))
    assert (found.strategies, found.batches) == (("scatter",), (8,))


def test_machines_and_figures_are_crossed() -> None:
    found = dimensions(["topo=sg2042,sg2044", "topo.l2_bytes=1MiB,2 MiB", "topo./overheads/dispatch_s=5us"])
    machines = found.machines()
    assert [machine.spec for machine in machines] == [
        f"{name}+l2_bytes={size}+/overheads/dispatch_s=5us"
        for name in ("sg2042", "sg2044")
        for size in ("1MiB", "2MiB")
    ]
    assert all(load_machine(each.spec) == each.machine for each in machines)
    assert [each.machine.caches[1].bytes.value for each in machines] == [2**20, 2**21] * 2


@pytest.mark.parametrize(
    ("vary", "told"),
    [
        (["stagse"], "there is nothing called 'stagse' to vary"),
        (["topo."], "there is nothing called 'topo.' to vary"),
        (["stages", "stages=2"], "--vary stages is given twice"),
        (["stages=2,,3"], "--vary stages=2,,3: values with commas between them were expected"),
        (["stages=two"], "--vary stages=two: numbers from 1 were expected, or any"),
        (["batch=any"], "--vary batch=any: numbers from 1 were expected"),
        (["batch=0"], "--vary batch=0: numbers from 1"),
        (["strategy=nearest"], "there is no placement 'nearest'"),
        (["topo"], "--vary topo needs the machines"),
        (["topo.l2_bytes"], "--vary topo.l2_bytes needs its values"),
        (["topo.l7_bytes=1"], "sg2042 has no figure 'l7_bytes'"),
        (["topo.l2_bytes=much"], "'much' is not a size"),
        (["topo=sg2044"], "--topo sg2042 and --vary topo=... both name machines"),
    ],
)
def test_what_cannot_be_is_said(vary: list[str], told: str) -> None:
    with pytest.raises(UsageError) as error:
        dimensions(vary, "sg2042")
    assert told in str(error.value)


def test_two_sizes_of_items_are_refused() -> None:
    with pytest.raises(UsageError, match="--batch 8 and --vary batch both say"):
        dimensions(["batch=1,4"], "sg2042", 8)


def test_an_unknown_machine_is_named() -> None:
    with pytest.raises(UnknownName, match="sg2043"):
        dimensions(["topo=sg2042,sg2043"])
