"""What is measured on which machine."""

from __future__ import annotations

import itertools

import pytest

from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.machine.restrict import restrict
from mapper.measure.wanted import (
    Busy,
    Chase,
    Exchange,
    ForkJoin,
    Measurement,
    Read,
    Wanted,
    cache_bytes,
    team_sizes,
    wanted,
)

GB = 1e9
KIB, MIB = 2**10, 2**20
SHAPE = "pack:2 numa:2 group:2(l3=32MiB) core:4(l1=32KiB l2=1MiB)"


def of(machine: Machine, free: float = 100 * GB, compiled: bool = True) -> dict[str, Measurement]:
    return {m.place: m for m in wanted(machine, free, compiled).measurements}


def reasons(found: Wanted) -> dict[str, str]:
    return {item.place: item.reason for item in found.left_out}


def test_sg2042_has_all_of_it() -> None:
    machine = load_machine("sg2042")
    found = of(machine)
    assert not wanted(machine, 100 * GB, True).left_out
    assert [place for place in found if place.startswith("/overheads/fork_join_s/")] == [
        f"/overheads/fork_join_s/{2**k}" for k in range(1, 7)
    ]
    assert [place for place in found if place.startswith("/links/")] == [
        f"/links/{distance}/line_s" for distance in ("group", "node", "package")
    ]
    assert [place for place in found if place.startswith("/memory/")] == [
        *(f"/memory/{scope}_bandwidth_bytes_per_s" for scope in ("core", "group", "node", "package")),
        "/memory/latency_s",
    ]
    sizes = {place: found[place].task.bytes for place in found if place.startswith(("/caches", "/memory"))}  # type: ignore[union-attr]
    for index, size in enumerate((32 * KIB, 512 * KIB, 32 * MIB)):
        assert sizes[f"/caches/{index}/core_bandwidth_bytes_per_s"] == sizes[f"/caches/{index}/latency_s"] == size
    assert {size for place, size in sizes.items() if place.startswith("/memory")} == {256 * MIB}


def test_sg2042_teams_are_its_parts() -> None:
    machine = load_machine("sg2042")
    found = of(machine)

    def teams(scope: str) -> tuple[tuple[int, ...], ...]:
        task = found[f"/memory/{scope}_bandwidth_bytes_per_s"].task
        assert isinstance(task, Read)
        return task.teams

    scopes = ("core", "group", "node", "package")
    assert [{len(team) for team in teams(scope)} for scope in scopes] == [{1}, {4}, {16}, {64}]
    assert [len(teams(scope)) for scope in scopes] == [64, 16, 4, 1]
    assert teams("group")[0] == tuple(machine.cores[c].pus[0] for c in machine.groups[0])
    fork_join = found["/overheads/fork_join_s/4"].task
    assert fork_join == ForkJoin(teams("group")[0])


def test_pairs_are_of_their_distance_and_change_from_round_to_round() -> None:
    machine = load_machine("sg2042")
    core_of = {pu: core.logical for core in machine.cores for pu in core.pus}
    for distance in ("group", "node", "package"):
        task = of(machine)[f"/links/{distance}/line_s"].task
        assert isinstance(task, Exchange)
        rounds = [task.drawn(number) for number in range(9)]
        assert rounds == [task.drawn(number) for number in range(9)]
        assert len({pair for drawn in rounds for pair in drawn}) > 20
        assert all(machine.distance(core_of[a], core_of[b]) == distance for a, b in itertools.chain(*rounds))


def test_what_is_one_and_the_same_is_measured_once() -> None:
    found = of(load_machine("group:1 core:2(l1=32KiB)"))
    memory = [m.places for m in found.values() if m.place.startswith("/memory/") and isinstance(m.task, Read)]
    parts = tuple(f"/memory/{scope}_bandwidth_bytes_per_s" for scope in ("group", "node", "package"))
    assert memory == [("/memory/core_bandwidth_bytes_per_s",), parts]
    alone = of(load_machine("group:2 core:1(l1=32KiB)"))  # a group of one core adds nothing to the core
    assert not any("group_bandwidth" in place for m in alone.values() for place in m.places)


def test_a_machine_of_one_core_has_no_links_and_no_teams() -> None:
    machine = restrict(load_machine("sg2042"), cores="5")
    found = wanted(machine, 100 * GB, True)
    assert not [m for m in found.measurements if isinstance(m.task, Exchange | ForkJoin | Busy)]
    assert reasons(found) == {"/compute/busy_slowdown": "the machine has one core"}
    memory = next(m for m in found.measurements if isinstance(m.task, Read) and m.place.startswith("/memory"))
    assert memory.places == tuple(f"/memory/{scope}_bandwidth_bytes_per_s" for scope in ("core", "node", "package"))


def test_hyperthreads_take_one_pu_a_core() -> None:
    machine = load_machine("group:2 core:2 pu:2")
    first = tuple(core.pus[0] for core in machine.cores)
    found = of(machine)
    assert found["/compute/busy_slowdown"].task == Busy(first)
    task = found["/links/group/line_s"].task
    assert isinstance(task, Exchange)
    assert {pu for pair in task.pairs for pu in pair} <= set(first)


def test_working_sets_in_memory_are_four_times_the_caches_in_reach() -> None:
    found = of(load_machine(SHAPE))
    tasks = {place: m.task for place, m in found.items() if place.startswith("/memory")}
    assert {place: task.bytes for place, task in tasks.items() if isinstance(task, Read | Chase)} == {
        "/memory/core_bandwidth_bytes_per_s": 128 * MIB,
        "/memory/group_bandwidth_bytes_per_s": 128 * MIB,
        "/memory/node_bandwidth_bytes_per_s": 256 * MIB,
        "/memory/package_bandwidth_bytes_per_s": 512 * MIB,
        "/memory/latency_s": 128 * MIB,
    }


def test_little_memory_bounds_them_and_too_little_refuses() -> None:
    machine = load_machine(SHAPE)
    found = of(machine, 300 * MIB)
    package = found["/memory/package_bandwidth_bytes_per_s"]
    assert isinstance(package.task, Read)
    assert package.task.bytes == 256 * MIB  # a power of two: resuming finds the same with a little less memory
    assert "(not 512 MiB: too little memory)" in package.how
    assert "too little" not in found["/memory/node_bandwidth_bytes_per_s"].how
    scarce = reasons(wanted(machine, 100 * MIB, True))
    assert "only 105 MB of memory may be used" in scarce["/memory/package_bandwidth_bytes_per_s"]
    assert "/memory/core_bandwidth_bytes_per_s" not in scarce


def test_without_caches_the_working_set_says_so() -> None:
    found = of(load_machine("group:2 core:1"))
    assert not [place for place in found if place.startswith("/caches")]
    assert "256 MiB (no cache is known)" in found["/memory/latency_s"].how


@pytest.mark.parametrize(
    ("size", "inner", "expected"),
    [(1024, 64, 512), (512, 256, 408), (300, 256, 0), (64, None, 32)],
    ids=["half", "within its fill", "hardly larger", "innermost"],
)
def test_working_sets_in_caches(size: int, inner: int | None, expected: int) -> None:
    machine = load_machine(f"group:1 core:1(l1={inner or size}KiB l2={size}KiB)")
    cache = machine.caches[1 if inner else 0]
    assert cache_bytes(cache, machine.caches[0] if inner else None) == expected * KIB


def test_without_the_probe_latencies_and_links_say_what_is_missing() -> None:
    found = wanted(load_machine(SHAPE), 100 * GB, False)
    kinds = {type(m.task).__name__ for m in found.measurements}
    assert kinds == {"Read", "ForkJoin", "Dispatch", "Busy"}
    missing = reasons(found)
    assert {place for place in missing if place.endswith("latency_s")} == {
        *(f"/caches/{i}/latency_s" for i in range(3)), "/memory/latency_s",
    }  # fmt: skip
    assert "/caches/0/core_bandwidth_bytes_per_s" in missing  # calling memchr takes longer than reading so little
    assert all("C compiler" in reason for reason in missing.values())


def test_the_slowest_kind_of_core_is_measured() -> None:
    machine = load_machine("group:2 core:2(l1=32KiB)")
    document = machine.model_dump(mode="json", by_alias=True, exclude_none=True)
    kinds = (("big", "0-1", 1), ("little", "2-3", 0.5))
    document["core_kinds"] = [{"name": name, "cores": cores, "speed": speed} for name, cores, speed in kinds]
    found = of(Machine.model_validate(document))
    assert found["/caches/0/latency_s"].task == Chase(16 * KIB, (2, 3))
    assert found["/compute/busy_slowdown"].task == Busy((0, 1, 2, 3))


def test_team_sizes() -> None:
    assert [team_sizes(n) for n in (1, 2, 3, 4, 6, 64)] == [
        [], [2], [2, 3], [2, 4], [2, 4, 6], [2, 4, 8, 16, 32, 64],
    ]  # fmt: skip
