"""Rankfiles of Open MPI: written as its manual has them, read back, and run where there is an mpirun."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mapper.errors import BadInput, UsageError
from mapper.exporters.export import export
from mapper.exporters.mappings.rankfile import is_rankfile, ranks_of, read_rankfile
from mapper.exporters.pinning.openmpi import hwloc_numbers
from mapper.machine.discover import discover
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.machine.restrict import restrict
from tests.exporters.pinning.test_pinning import PUS, recorded, require_variables, spread_over, two_pus
from tests.exporters.plans import nodes_of, pinned
from tests.machine.test_captured import CAPTURED, Unpack, unpacked

__all__ = ["unpacked"]

OPS = ("a", "b")
LINE = re.compile(r"rank \d+=[A-Za-z0-9.-]+ slot=\d+(,\d+)*")


def file_of(text: str, folder: Path) -> Path:
    path = folder / "rankfile"
    path.write_text(text)
    return path


def cores_of(text: str, machine: Machine, folder: Path) -> list[tuple[int, ...]]:
    (stage,) = read_rankfile(file_of(text, folder), machine, OPS)
    assert stage.ops == OPS
    return [team.cores for team in stage.teams]


# numbers


def test_cores_are_counted_by_their_least_pu() -> None:
    """Nodes that the system numbers in another order than their PUs come, in a package each."""
    machine = nodes_of([[[8, 9]], [[2, 3], [0, 1]]], hosts=[0, 0])
    assert hwloc_numbers(machine) == {0: 4, 1: 5, 2: 2, 3: 3, 4: 0, 5: 1}


def test_cores_are_counted_on_each_host() -> None:
    machine = nodes_of([[[0, 1]], [[4, 5]], [[0, 1]]], hosts=[0, 1, 1])
    assert hwloc_numbers(machine) == {0: 0, 1: 1, 2: 2, 3: 3, 4: 0, 5: 1}


def test_a_part_has_the_numbers_of_the_whole() -> None:
    machine = restrict(nodes_of([[[0, 1], [2, 3]]]), cores="1,3")
    assert hwloc_numbers(machine) == {0: 1, 1: 3}
    with pytest.raises(UsageError, match="several hosts"):
        hwloc_numbers(restrict(nodes_of([[[0, 1]], [[0, 1]]], hosts=[0, 1]), cores="1,3"))


UNKNOWN = {
    "16amd64-8n2c-cpusets": "hwloc counts the cores of its cpuset, which is a part of the machine here",
    "16em64t-4s2ca2c-cpusetreorder": "its cpuset lacks PUs, by which hwloc orders their cores nevertheless",
}
"""Captured machines whose numbers a plan's machine does not tell, and why."""
LARGE = ("128arm", "48amd64", "memorysidecaches")
"""Those that take seconds to unpack and read."""


@pytest.mark.skipif(not CAPTURED.is_dir(), reason="no captured machines beside the repository")
@pytest.mark.parametrize(
    "drawing",
    [
        pytest.param(path, id=path.name.split(".")[0], marks=[pytest.mark.soak] if path.name.startswith(LARGE) else [])
        for path in sorted(CAPTURED.glob("*.lstopo.txt"))
    ],
)
def test_numbers_are_those_that_lstopo_prints(drawing: Path, unpacked: Unpack) -> None:
    machine = discover(unpacked(drawing.name.replace(".lstopo.txt", ".tar.bz2")))
    cores = re.split(r"Core L#", drawing.read_text())[1:]
    drawn = {int(core.split()[0]): {int(pu) for pu in re.findall(r"PU L#\d+ \(P#(\d+)", core)} for core in cores}
    own = {number: set(machine.cores[core].pus) for core, number in hwloc_numbers(machine).items()}
    assert (own == drawn) == (drawing.name.split(".")[0] not in UNKNOWN)


# files


def test_a_rankfile(tmp_path: Path) -> None:
    plan = pinned([2, 1], [2, 4], nodes_of([[[0, 1], [2, 3]], [[8, 9], [4, 5]]]))
    folder = export(plan, "openmpi-rankfile", tmp_path / "out")
    lines = [line for line in (folder / "rankfile").read_text().splitlines() if not line.startswith("#")]
    assert lines == [f"rank {n}=localhost slot={cores}" for n, cores in enumerate(("0,1", "2,3", "6,7,4,5"))]
    assert all(LINE.fullmatch(line) for line in lines)
    assert (folder / "hostfile").read_text() == "localhost slots=3\n"


def test_several_hosts(tmp_path: Path) -> None:
    machine = nodes_of([[[0, 1]], [[0, 1]]], hosts=[0, 1])
    addresses = [{"name": "a", "address": "10.0.0.7"}, {"name": "b", "address": "x; touch canary"}]
    machine = Machine.model_validate(machine.model_dump(mode="json", by_alias=True) | {"hosts": addresses})
    folder = export(pinned([2, 1], [1, 2], machine), "openmpi-rankfile", tmp_path / "out")
    lines = (folder / "rankfile").read_text().splitlines()
    assert lines[-3:] == ["rank 0=10.0.0.7 slot=0", "rank 1=10.0.0.7 slot=1", "rank 2=host1 slot=0,1"]
    assert (folder / "hostfile").read_text() == "10.0.0.7 slots=2\nhost1 slots=1\n", (
        "what is no address is to be filled in"
    )


@pytest.mark.parametrize("hosts", [[0, 0], [0, 1], [1, 0]])
def test_what_was_written_is_read(hosts: list[int], tmp_path: Path) -> None:
    plan = pinned([2, 1], [2, 4], nodes_of([[[0, 1], [2, 3]], [[8, 9], [4, 5]]], hosts=hosts))
    file = export(plan, "openmpi-rankfile", tmp_path / "out") / "rankfile"
    assert is_rankfile(file)
    stages = read_rankfile(file, plan.machine, [], plan)
    assert [[team.cores for team in stage.teams] for stage in stages] == [
        [replica.cores for replica in stage.replicas] for stage in plan.stages
    ]
    assert [stage.ops for stage in stages] == [stage.ops for stage in plan.stages]


MACHINE = nodes_of([[[0, 1, 2, 3]], [[4, 5, 6, 7]]], hosts=[0, 0])
PACKAGES = Machine.model_validate(
    (document := MACHINE.model_dump(mode="json", by_alias=True))
    | {"nodes": [node | {"package": n} for n, node in enumerate(document["nodes"])]}
)


@pytest.mark.parametrize(
    ("slots", "cores"),
    [
        ("0,1", (0, 1)), ("0-3", (0, 1, 2, 3)), ("1,3-4", (1, 3, 4)), ("1:0-2", (4, 5, 6)), ("0:0,3", (0, 3)),
        ("1:*", (4, 5, 6, 7)), ("0:1;1:1", (1, 5)), (" 2 ", (2,)),
    ],
)  # fmt: skip
def test_ways_to_write_slots(slots: str, cores: tuple[int, ...], tmp_path: Path) -> None:
    assert cores_of(f"rank 0=here slot={slots}\n", PACKAGES, tmp_path) == [cores]


def test_comments_spaces_and_order(tmp_path: Path) -> None:
    text = "# a comment\n\nrank 1 = +n0  slots = 2 // another\n/* one of\nseveral lines */ rank 0=+n0 slot=0\n"
    assert cores_of(text, PACKAGES, tmp_path) == [(0,), (2,)]
    assert [rank.line for rank in ranks_of(tmp_path / "rankfile")] == [5, 3]


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("rank 0=a slot=0\nrank 0=a slot=1\n", "line 2", "rank 0 is in line 1 already"),
        ("rank 0=a slot=0\nrank 2=a slot=1\n", "rankfile", "rank 1 is missing: there is rank 2"),
        ("rank 0=a slot=0\nrank 1=a slots 1\n", "line 2", "is no line of a rankfile"),
        ("rank 0=a slot=p0:1-3\n", "line 1", "physical numbers"),
        ("rank 0=a slot=\n", "line 1", "names no core"),
        ("rank 0=a slot=0-x\n", "line 1", "'0-x' is not a CPU list"),
        ("rank 0=a slot=3-1\n", "line 1", "'3-1' is not a CPU list"),
        ("rank 0=a slot=7-8\n", "line 1", "core 8 is not on host 0 of test, which has 8"),
        ("rank 0=a slot=2:0\n", "line 1", "there is no package '2'"),
        ("rank 0=a slot=1:4\n", "line 1", "package 1 has 4 cores"),
        ("rank 0=a slot=0\nrank 1=b slot=1\n", "line 2", "b is host 1, but test has 1"),
        ("rank 0=+n1 slot=0\n", "line 1", "+n1 is host 1"),
        ("# nothing\n", "rankfile", "it has no ranks"),
        ("\xff", "rankfile", "is no line of a rankfile"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, place: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as error:
        read_rankfile(file_of(text, tmp_path), PACKAGES, OPS)
    assert place in error.value.what and what in error.value.what


def test_ranks_are_as_many_as_workers(tmp_path: Path) -> None:
    plan = pinned([2], [1], nodes_of([[[0, 1, 2, 3]]]))
    with pytest.raises(BadInput, match="3 ranks, but the plan has 2 workers"):
        read_rankfile(file_of("".join(f"rank {n}=a slot={n}\n" for n in range(3)), tmp_path), plan.machine, [], plan)


# the tool itself


def open_mpi() -> bool:
    if shutil.which("mpirun") is None:
        return False
    return "Open MPI" in subprocess.run(["mpirun", "--version"], capture_output=True, text=True, check=False).stdout


@two_pus
@pytest.mark.skipif(not open_mpi(), reason="Open MPI is not installed")
def test_open_mpi_binds_workers(tmp_path: Path) -> None:
    machine = load_machine("host")
    numbers = {pu: core.logical for core in machine.cores for pu in core.pus}
    here = restrict(machine, cores=",".join(str(numbers[pu]) for pu in PUS))
    plan = pinned([1, 1], [1, 1], here)
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    found = recorded(plan, export(plan, "openmpi-rankfile", tmp_path / "out"), **root)
    require_variables(plan, found)
    for rank, core in enumerate(here.cores):
        assert found[rank]["bound"] in (str(core.pus[0]), ",".join(map(str, core.pus)))


def test_without_open_mpi_it_says_so(tmp_path: Path) -> None:
    folder = export(spread_over([1], [1], [0]), "openmpi-rankfile", tmp_path / "out")
    (tmp_path / "bin").mkdir()
    for name in ("sh", "sed", "dirname"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    done = subprocess.run([str(shutil.which("sh")), folder / "launch.sh", "true"], capture_output=True, text=True,
                          env={"PATH": str(tmp_path / "bin")}, timeout=60, check=False)  # fmt: skip
    assert done.returncode == 127 and done.stderr == "launch.sh: there is no mpirun of Open MPI\n"
    assert os.path.basename(folder) == "out"
