"""What the guest's scripts read of plans is what mapper reads, and they find workers and memory that are elsewhere."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from mapper.plans.file import load_plan
from mapper.plans.model import Plan
from tests.cli.commands import TINY, mapper
from tests.emulation.parts import GUEST

MODULES = ("kernel", "report", "workers", "planned", "placement", "watched")


@pytest.fixture(scope="module")
def guest() -> Iterator[dict[str, ModuleType]]:
    """The scripts as modules, as they find each other in the guest."""
    sys.path.insert(0, str(GUEST))
    yield {name: importlib.import_module(name) for name in MODULES}
    sys.path.remove(str(GUEST))
    for name in MODULES:
        del sys.modules[name]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plan of two stages, two replicas each, on the SG2042."""
    folder = tmp_path_factory.mktemp("bundle")
    made = mapper("plan", "--model", TINY, "--topo", "sg2042", "--planner", "equal-ops", "--stages", 2, "--replicas", 2,
                  "--configurations", "1x4", "-o", folder / "plan.json")  # fmt: skip
    assert made.code == 0, made.err
    return folder


def cpus(plan: Plan, replica: tuple[int, int]) -> list[int]:
    """The CPUs of a replica where the boot hart is 0."""
    cores = plan.stages[replica[0]].replicas[replica[1]].cores
    return [pu for core in cores for pu in plan.machine.cores[core].pus]


def test_workers_are_read_as_mapper_reads_them(guest: dict[str, ModuleType], bundle: Path) -> None:
    plan, found = load_plan(bundle / "plan.json"), guest["planned"].planned(bundle)
    wanted = {(stage.id, r): replica for stage in plan.stages for r, replica in enumerate(stage.replicas)}
    assert found.keys() == wanted.keys()
    for at, replica in wanted.items():
        cores = [plan.machine.cores[core] for core in replica.cores]
        assert found[at].groups == dict.fromkeys({core.group for core in cores}, 4)
        assert found[at].nodes == {core.node for core in cores}
        assert found[at].weights == set(replica.weights.nodes)
        assert found[at].threads == replica.configuration.threads
        written = {ring.node for edge in plan.edges for ring in edge.rings if (edge.source, ring.from_replica) == at}
        assert written and written <= found[at].rings
        if at[0] == 0:  # the feeder has one ring for all replicas of the first stage
            assert {r.weights.nodes[0] for r in plan.stages[0].replicas} <= found[at].rings


def test_a_worker_elsewhere_is_found(
    guest: dict[str, ModuleType], bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, found = load_plan(bundle / "plan.json"), guest["planned"].planned(bundle)
    groups = [frozenset(range(first, first + 4)) for first in range(0, 64, 4)]
    monkeypatch.setattr(guest["kernel"], "clusters", lambda: set(groups))
    pus = {at: cpus(plan, at) for at in found}
    seen = {at: guest["workers"].Seen(1, dict.fromkeys(range(5), frozenset(own))) for at, own in pus.items()}
    told = guest["report"].Told()
    guest["placement"].check_cpus(told, found, pus, seen)
    failed = guest["report"].Failed
    first, second = list(pus)[:2]
    shifted = [(cpu + 1) % 64 for cpu in pus[first]]
    for wrong, words in (({first: shifted}, "are not"), ({second: pus[first]}, "shares CPUs"), ({first: [0]}, "CPUs")):
        with pytest.raises(failed, match=words):
            guest["placement"].check_cpus(told, found, pus | wrong, seen)
    seen[second].cpus[99] = frozenset(range(64))
    with pytest.raises(failed, match="its threads may use"):
        guest["placement"].check_cpus(told, found, pus, seen)


def test_memory_elsewhere_is_found(guest: dict[str, ModuleType], bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = guest["planned"].planned(bundle)
    numbered = {number: 3 - number for number in range(4)}
    here = {at: [numbered[n] for n in sorted(worker.weights)] for at, worker in found.items()}
    rings = {at: [numbered[n] for n in sorted(worker.rings)] for at, worker in found.items()}
    pages = {at: {"mapper-weights": dict.fromkeys(here[at], 9), "mapper": dict.fromkeys(rings[at], 9)} for at in found}
    seen = {at: guest["workers"].Seen(1, {}, pages[at]) for at in found}
    told, failed = guest["report"].Told(), guest["report"].Failed
    assert "on the planned nodes" in guest["placement"].check_memory(told, found, numbered, seen)
    at = next(iter(seen))
    wrong = next(node for node in range(4) if node not in here[at])
    seen[at].pages["mapper-weights"][wrong] = 1
    with pytest.raises(failed, match="mapper-weights is on"):
        guest["placement"].check_memory(told, found, numbered, seen)
    del seen[at].pages["mapper-weights"]
    with pytest.raises(failed, match="touched nothing"):
        guest["placement"].check_memory(told, found, numbered, seen)


def test_pages_and_processes_are_read(
    guest: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = guest["workers"]
    monkeypatch.setattr(workers, "PROC", tmp_path)
    for pid, name, parent in ((10, "python3", 1), (11, "python3", 10), (12, "mapper 3.1", 11), (13, "mapper 0.0", 99)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / f"{pid}/stat").write_text(f"{pid} ({name}) S {parent} 1 1 0\n")
        (tmp_path / f"{pid}/comm").write_text(f"{name}\n")
    assert workers.workers(10) == {(3, 1): 12}
    (tmp_path / "12/numa_maps").write_text(
        "3f80000000 prefer:2 file=/memfd:mapper-weights\\040(deleted) mapped=7 N1=3 N2=4 kernelpagesize_kB=4\n"
        "3f90000000 default file=/memfd:mapper\\040(deleted) dirty=2 N0=2 kernelpagesize_kB=4\n"
        "3fa0000000 default file=/memfd:mapper\\040(deleted) dirty=1 N0=1 kernelpagesize_kB=4\n"
        "3fb0000000 default heap anon=9 N3=9\n"
    )
    assert workers.pages(12) == {"mapper-weights": {1: 3, 2: 4}, "mapper": {0: 3}}
    assert len(workers.of_mapper()) == 2


def test_a_run_that_ends_before_all_is_seen_is_done_again_longer(
    guest: dict[str, ModuleType], bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, watched = guest["planned"].planned(bundle), guest["watched"]
    pages = {"mapper-weights": {0: 1}, "mapper": {0: 1}}
    warmups: list[int] = []
    enough = {"items": 0}

    def run(plan: object, arguments: list[object]) -> object:
        given = list(map(str, arguments))
        warmups.append(int(given[given.index("--warmup") + 1]))
        Path(given[given.index("-o") + 1]).write_text('{"outputs_identical": true}')
        threads = 9 if warmups[-1] >= enough["items"] else 3
        seen = {at: guest["workers"].Seen(1, dict.fromkeys(range(threads), frozenset({0})), pages) for at in found}
        return watched.Watched(0, '{"outputs_identical": true}', "", seen, 0.1)

    monkeypatch.setenv("MAPPER_OUT", str(tmp_path))
    monkeypatch.setattr(watched, "run", run)
    for enough["items"], expected in ((4, [4]), (5, [4, 32]), (1000, [4, 32])):
        warmups.clear()
        ended, _ = watched.measured(guest["report"].Told(), found, bundle, 4)
        assert warmups == expected and watched.all_compute(found, ended.seen) == (warmups[-1] >= enough["items"])
