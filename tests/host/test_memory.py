"""Memory policy on the node that is there, and what is said when the kernel refuses."""

from __future__ import annotations

import ctypes
import errno
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mapper.host.memory import (
    Mode,
    Policy,
    bind,
    node_of,
    nodes_here,
    nodes_of,
    policy_error,
    policy_of,
)

PAGES = 16
SIZE = PAGES * mmap.PAGESIZE


@pytest.fixture
def shared() -> Iterator[tuple[mmap.mmap, int]]:
    """Shared memory that nobody has touched, and its address."""
    memory = mmap.mmap(-1, SIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    yield memory, address


def refusing(number: int) -> Any:
    return lambda name, *arguments: number


@pytest.fixture
def node() -> int:
    """A node that memory can be bound to."""
    if (reason := policy_error()) is not None:
        pytest.skip(f"no memory policy here: {reason}")
    return nodes_here()[0]


@pytest.mark.parametrize("mode", [Mode.BIND, Mode.PREFERRED, Mode.INTERLEAVE])
def test_a_policy_is_read_back_and_pages_follow_it(shared: tuple[mmap.mmap, int], node: int, mode: Mode) -> None:
    memory, address = shared
    half = SIZE // 2
    assert policy_of(address) == Policy(Mode.DEFAULT, ())
    assert bind(address, half, [node], mode) is None
    assert policy_of(address) == policy_of(address + half - 1) == Policy(mode, (node,))
    assert policy_of(address + half) == Policy(Mode.DEFAULT, ()), "only what was asked for"
    assert nodes_of(address, SIZE) == {}, "nothing was touched yet"
    for page in range(3):
        memory[page * mmap.PAGESIZE] = 1
    assert nodes_of(address, half) == {node: 3}
    assert bind(address, half, [node], mode, move=True) is None
    assert nodes_of(address + 1, half) == {node: 3}, "pages in part count"


def test_a_node_that_is_not_there_is_refused_in_words(shared: tuple[mmap.mmap, int], node: int) -> None:
    absent = max(nodes_here()) + 1
    assert bind(shared[1], SIZE, [absent]) == "Invalid argument"
    assert policy_of(shared[1]) == Policy(Mode.DEFAULT, ())


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EPERM, "Operation not permitted"), (errno.ENOSYS, "the kernel has no NUMA")]
)
def test_what_is_refused_is_said_not_raised(shared: tuple[mmap.mmap, int], number: int, words: str) -> None:
    call = refusing(number)
    assert bind(shared[1], SIZE, [0], call=call) == words
    assert policy_of(shared[1], call) == nodes_of(shared[1], SIZE, call) == policy_error(call) == words


def test_an_unknown_processor_is_named(monkeypatch: pytest.MonkeyPatch, shared: tuple[mmap.mmap, int]) -> None:
    monkeypatch.setattr("platform.machine", lambda: "vax")
    assert bind(shared[1], SIZE, [0]) == policy_error() == "not known how on vax"


def test_a_set_of_nodes_is_handed_over_bit_by_bit(shared: tuple[mmap.mmap, int]) -> None:
    seen: list[int] = []

    def call(name: str, address: Any, size: Any, mode: Any, mask: Any, bits: Any, flags: Any) -> int:
        width = 8 * ctypes.sizeof(ctypes.c_ulong)
        seen.extend(n for n in range(bits.value - 1) if mask[n // width] >> n % width & 1)
        assert (name, mode.value, flags.value) == ("mbind", Mode.INTERLEAVE, 0)
        return 0

    assert bind(shared[1], SIZE, {0, 3, 64, 1023}, Mode.INTERLEAVE, call=call) is None
    assert seen == [0, 3, 64, 1023]


def test_what_cannot_be_meant_raises(shared: tuple[mmap.mmap, int]) -> None:
    for address, nodes in ((shared[1] + 1, [0]), (shared[1], []), (shared[1], [-1]), (shared[1], [1024])):
        with pytest.raises(ValueError, match=r"page|nodes"):
            bind(address, SIZE, nodes)
    assert bind(shared[1], 0, [0], call=refusing(errno.EPERM)) is None, "nothing to do"


def test_nodes_of_pus_are_read_where_the_kernel_shows_them(tmp_path: Path) -> None:
    for folder in ("cpu/cpu0/node0", "cpu/cpu9/node11", "cpu/cpu9/topology", "cpu/cpu3", "node/node0", "node/node11"):
        (tmp_path / "sys/devices/system" / folder).mkdir(parents=True)
    (tmp_path / "sys/devices/system/node/online").write_text("0,11\n")
    assert [node_of(pu, tmp_path) for pu in (0, 9, 3, 4)] == [0, 11, None, None]
    assert nodes_here(tmp_path) == (0, 11)
    assert nodes_here(tmp_path / "nothing") == ()
