"""Machines with other figures."""

from __future__ import annotations

import pytest

from mapper.errors import UsageError
from mapper.machine.files import load_machine
from mapper.machine.model import figures
from mapper.machine.vary import vary


def test_only_what_is_named_changes() -> None:
    machine = load_machine("sg2042")
    varied = vary(machine, {"/caches/L2/bytes": 2.0**21, "/links/node/line_s": 1e-6, "/compute/imbalance": 0.5})
    assert varied.group_cache is not None and varied.group_cache.bytes.value == 2**21
    before, after = dict(figures(machine)), dict(figures(varied))
    changed = {pointer for pointer in before if before[pointer] != after[pointer]}
    assert changed == {"/caches/1/bytes", "/links/node/line_s", "/compute/imbalance"}
    assert after["/compute/imbalance"].low is None, "a range does not hold for another value"


def test_a_limit_can_be_taken_away() -> None:
    machine = vary(load_machine("sg2042"), {"/memory/node_bandwidth_bytes_per_s": None})
    assert machine.memory.node_bandwidth_bytes_per_s is None


@pytest.mark.parametrize("pointer", [
    "/caches/L7/bytes", "/memory/speed", "/memory", "/links/moon/line_s", "/nodes/9/memory_bytes", "/name",
])  # fmt: skip
def test_what_is_no_figure_is_refused(pointer: str) -> None:
    with pytest.raises(UsageError, match=r"there is no"):
        vary(load_machine("sg2042"), {pointer: 1.0})
