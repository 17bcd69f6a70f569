"""Which ops are measured on which machine, and what becomes of their rounds."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapper.machine.files import load_machine
from mapper.measure.cases import Case
from mapper.measure.wanted import team_sizes
from mapper.study.host.findings import images_busy
from mapper.study.host.ops import Op, OpTimer, Round, memory_rows, op_rows, ops_of, reads_of

GIB = 2.0**30


class Answering:
    """A process that answers with the same seconds a FLOP, and one busy core."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def value(self, what: str, within_s: float, **details: Any) -> dict[str, float]:
        """The answer."""
        self.asked.append(details)
        return {"seconds": 3.0 * details["sizes"][0], "busy_cores": 1.0}


def test_every_team_and_number_of_images_is_measured() -> None:
    ops = ops_of(load_machine("pack:1 numa:2 group:2 core:4"))
    assert {len(op.pus) for op in ops} == {1, 2, 4, 8, 16}
    assert {op.items for op in ops if op.case.kind == "conv"} == {1, 2, 8, 64}, "some of them show a spread over images"
    assert len({op.place for op in ops}) == len(ops)


def test_two_cores_get_a_number_of_images_that_shows_a_spread_over_images() -> None:
    ops = ops_of(load_machine("pack:1 numa:1 group:1 core:2"))
    assert {op.items for op in ops if op.case.kind == "conv"} == {1, 2, 3, 8, 64}
    assert all(op.items == 1 for op in ops_of(load_machine("pack:1 numa:1 group:1 core:1"), (1,)))


@given(st.integers(1, 100), st.integers(1, 64))
def test_a_spread_over_images_keeps_as_many_busy_as_its_turns_leave(images: int, threads: int) -> None:
    chunk = math.ceil(images / threads)  # parallel_for hands out whole chunks
    taken = [min(chunk, images - start) for start in range(0, images, chunk)]
    assert images_busy(images, threads) == pytest.approx(sum(taken) / max(taken))


def test_what_would_take_too_long_is_left_out_and_says_so() -> None:
    spinning, passive = Answering(), Answering()
    timer = OpTimer(spinning, passive, lambda: 0.0)  # type: ignore[arg-type]
    small, large = (Op(Case("conv", (n, 64, 56, 64, 3, 1)), n, (0,)) for n in (1, 64))
    rounds = [timer.op(op, number) for number in (0, 1) for op in (small, large)]
    assert len(spinning.asked) == 2 and len(passive.asked) == 1, "busy cores are looked at once"
    rows, skipped = op_rows([small, large], rounds)
    assert [row.seconds.median for row in rows] == [3.0] and rows[0].flop == 2 * 64 * 56 * 56 * 64 * 9
    assert [one.reason for one in skipped] == ["a call would take about 192 s"]


def test_rounds_that_others_disturbed_count_only_where_there_are_no_others() -> None:
    op = Op(Case("matmul", (8, 8, 8)), 1, (0,))
    quiet = Round(place=op.place, round=0, value=1.0, others_busy=0.0)
    loud = [Round(place=op.place, round=n, value=5.0, others_busy=0.9) for n in (1, 2)]
    rows, _ = op_rows([op], [quiet, *loud])
    assert rows[0].seconds.high == 1.0 and rows[0].rounds == 1
    rows, _ = op_rows([op], loud)
    assert rows[0].seconds.median == 5.0 and rows[0].noisy


def test_one_controller_is_told_from_all_where_there_are_several() -> None:
    machine = load_machine("pack:1 numa:4 group:2 core:2")
    reads, skipped = reads_of(machine, 8 * GIB)
    assert not skipped
    assert [(len(r.pus), r.cores_of, r.memory_of) for r in reads] == [
        (16, (0, 1, 2, 3), (0,)), (16, (0, 1, 2, 3), (0, 1, 2, 3)), (4, (0,), (0,)),
    ]  # fmt: skip
    rounds = [Round(place=reads[0].place, round=0, skipped="refused")]
    rows, refused = memory_rows(reads, [*rounds, Round(place=reads[1].place, round=0, value=1e9)])
    assert [row.memory_of for row in rows] == [(0, 1, 2, 3)] and [one.reason for one in refused] == ["refused"]


def test_one_node_and_little_memory_are_said() -> None:
    machine = load_machine("pack:1 numa:1 group:2 core:2")
    reads, skipped = reads_of(machine, 8 * GIB)
    assert len(reads) == 1 and "one node" in skipped[0].reason
    reads, skipped = reads_of(machine, 1e6)
    assert not reads and "too little memory" in skipped[0].reason


def test_team_sizes_end_with_all_cores() -> None:
    assert team_sizes(6) == [2, 4, 6] and team_sizes(1) == []
