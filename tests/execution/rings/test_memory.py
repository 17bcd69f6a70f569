"""The shared memory of a run: mapped where huge pages may begin, seen by all who map it, and given back."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mapper.errors import SystemRefused
from mapper.execution.rings import memory
from mapper.execution.rings.memory import PAGE_BYTES, Memory, begin
from mapper.host.memory import HUGE_BYTES, make_huge

SIZE = 3 * HUGE_BYTES + 5 * PAGE_BYTES


@contextmanager
def made(size: int) -> Iterator[Memory]:
    shared = Memory.create(size)
    try:
        yield shared
    finally:
        os.close(shared.fd)


def mapped() -> int:
    """How many mappings of such memory this process has."""
    return Path("/proc/self/maps").read_text().count("memfd:mapper ")


def test_it_begins_where_a_huge_page_may_and_is_shared() -> None:
    with made(SIZE) as one:
        other = Memory(one.fd, one.size)
        assert one.address(0) % HUGE_BYTES == other.address(0) % HUGE_BYTES == 0
        assert one.address(0) != other.address(0) and len(one.map) == one.size >= SIZE
        view = torch.frombuffer(one.map, dtype=torch.int64, count=2, offset=one.size - 16)
        view[1] = 7
        assert other.words[one.size // 8 - 1] == 7 and other.words[0] == 0
        one.stop()
        assert other.stopped


def test_it_is_given_back_with_the_last_view() -> None:
    before = mapped()
    with made(SIZE) as shared:
        view = torch.frombuffer(shared.map, dtype=torch.uint8)
        assert mapped() > before
        del shared
    gc.collect()
    view[5] = 1  # the view keeps it
    assert mapped() > before
    del view
    gc.collect()
    assert mapped() == before


def test_what_cannot_be_mapped_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fds = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(memory, "_MAP_FIXED", 0x100000)  # MAP_FIXED_NOREPLACE: there is something
    with pytest.raises(SystemRefused, match="bytes of shared memory cannot be mapped: File exists"):
        Memory.create(SIZE)
    assert len(os.listdir("/proc/self/fd")) == fds


def test_huge_pages_keep_what_is_there_whether_granted_or_not() -> None:
    with made(SIZE) as shared:
        everything = torch.frombuffer(shared.map, dtype=torch.int64)
        everything.copy_(torch.arange(everything.numel()))
        reason = make_huge(shared.address(PAGE_BYTES), SIZE - PAGE_BYTES)
        assert torch.equal(everything, torch.arange(everything.numel()))
        if reason is not None:
            pytest.skip(f"no huge pages here: {reason}")
        assert huge_bytes(shared.address(0)) == 0, "the first one is not whole: a page is not part of the range"
        assert huge_bytes(shared.address(HUGE_BYTES)) == 2 * HUGE_BYTES


def huge_bytes(address: int) -> int:
    """What is in huge pages of the mapping that holds `address`."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name = line.split()[0]
        if "-" in name and not name.endswith(":"):
            start, _, end = name.partition("-")
            inside = int(start, 16) <= address < int(end, 16)
        elif inside and name == "ShmemPmdMapped:":
            return 1024 * int(line.split()[1])
    return 0


def test_a_range_without_a_whole_huge_page_asks_for_nothing() -> None:
    assert make_huge(HUGE_BYTES + 1, 2 * HUGE_BYTES - 2) is None  # no such address: a call would have failed
    assert make_huge(HUGE_BYTES, HUGE_BYTES - 1) is None


@given(st.integers(0, 10**9), st.integers(0, 10**8))
def test_large_ranges_begin_at_huge_pages(offset: int, size: int) -> None:
    found = begin(offset, size)
    step = HUGE_BYTES if size >= HUGE_BYTES else PAGE_BYTES
    assert found % step == 0 and offset <= found < offset + step
