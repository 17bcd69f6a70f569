"""Restriction by options: which cores stay, and what is said about wrong ones."""

from __future__ import annotations

import pytest

from mapper.errors import UsageError
from mapper.machine.files import load_machine
from mapper.machine.restrict import restrict

SG2042 = load_machine("sg2042")
TWO = load_machine("pack:2 numa:2 group:2 core:4")


def left(**options: str) -> list[int]:
    """The logical numbers that stay of TWO."""
    part = restrict(TWO, **options)
    return list(part.part_of.cores if part.part_of else range(len(TWO.cores)))


def test_cores_and_groups_are_logical_numbers() -> None:
    part = restrict(SG2042, cores="0-15,60")
    assert [core.pus[0] for core in part.cores] == [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23, 60]
    assert [node.os_index for node in part.nodes] == [0, 3]
    assert part.distances == ((10, 30), (30, 10))
    assert restrict(SG2042, groups="4").nodes == SG2042.nodes[:1]
    assert [core.pus[0] for core in restrict(SG2042, groups="15,").cores] == [60, 61, 62, 63]


def test_the_layout_keeps_the_groups_and_controllers_that_stay() -> None:
    part = restrict(SG2042, groups="0,12-15")
    assert part.layout is not None
    assert part.layout.groups == ((1, 1), (3, 3), (3, 4), (4, 3), (4, 4))
    assert [(controller.name, controller.node) for controller in part.layout.controllers] == [("DDR0", 0), ("DDR3", 1)]


@pytest.mark.parametrize(
    ("reserve", "taken"),
    [
        ("1/group", [0, 4, 8, 12, 16, 20, 24, 28]),
        ("2/node", [0, 1, 8, 9, 16, 17, 24, 25]),
        ("1/package", [0, 16]),
        ("1/host", [0]),
        ("3", [0, 1, 2]),
        ("0", []),
    ],
)
def test_a_reserve_takes_the_first_cores_of_each_part(reserve: str, taken: list[int]) -> None:
    assert left(reserve=reserve) == [core for core in range(32) if core not in taken]


def test_groups_then_cores_then_the_reserve() -> None:
    assert left(groups="2-3", cores="6-13", reserve="1/group") == [9, 10, 11, 13]


def test_nothing_to_restrict_is_the_machine_itself() -> None:
    assert restrict(SG2042) is SG2042
    assert restrict(SG2042, cores="0-63", groups="16") is SG2042


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cores": "60-70"}, "there is no core 64-70, the last one is 63"),
        ({"cores": "x"}, "--cores: 'x' is not a CPU list"),
        ({"groups": "17"}, "--groups 17: the machine has 16 groups"),
        ({"groups": "0"}, "--groups 0: the machine has 16 groups"),
        ({"groups": "3-16"}, "there is no group 16, the last one is 15"),
        ({"reserve": "1/cache"}, "a number of cores, such as 2, 1/group"),
        ({"reserve": "4/group"}, "leaves no core"),
        ({"cores": "0-3", "groups": "4-5"}, "leaves no core"),
        ({"cores": ""}, "leaves no core"),
    ],
)
def test_wrong_restrictions_say_what_there_is(options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        restrict(SG2042, **options)


def test_kinds_follow_their_cores() -> None:
    kinds = [{"name": "P", "cores": "0-7", "speed": 1}, {"name": "E", "cores": "8-31", "speed": 0.5}]
    machine = type(TWO).model_validate(TWO.model_dump(by_alias=True) | {"core_kinds": kinds})
    part = restrict(machine, cores="6-9")
    assert [(kind.name, kind.cores) for kind in part.core_kinds] == [("P", (0, 1)), ("E", (2, 3))]
    assert (machine.slowest, part.slowest, restrict(machine, cores="0-7").slowest) == (0.5, 0.5, 1.0)
