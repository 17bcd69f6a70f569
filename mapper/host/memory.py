"""Memory policy: on which NUMA nodes the kernel puts pages, of a thread or of a range of addresses, and where they are.

System calls are made by number, since libc wraps none of them. A call that is refused (a kernel without NUMA, a
container whose filter knows them not) is no error here: each function says why in words, and the caller decides.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

_NUMBERS = {
    "x86_64": {"mbind": 237, "set_mempolicy": 238, "get_mempolicy": 239, "move_pages": 279},
    "generic": {"mbind": 235, "get_mempolicy": 236, "set_mempolicy": 237, "move_pages": 239},
}
"""Numbers of the system calls, from the kernel's tables (x86 has its own, Arm and RISC-V share the generic one)."""
_TABLE = {"x86_64": "x86_64", "aarch64": "generic", "riscv64": "generic"}

_MAX_NODES = 1024
"""Bits of a set of nodes: the most that kernels are built for (CONFIG_NODES_SHIFT is at most 10)."""
_WORDS = _MAX_NODES // (8 * ctypes.sizeof(ctypes.c_ulong))
_F_ADDR = 2
"""Of get_mempolicy: ask for the policy of an address."""
_MF_MOVE = 2
"""Of mbind: move pages that are there already, where no other process maps them."""
_MADV_HUGEPAGE, _MADV_COLLAPSE = 14, 25
HUGE_BYTES = 2**21
"""Of a huge page where pages have 4 KiB. Elsewhere none are asked for: those of Arm with 64 KiB pages have 512 MiB."""
_CHUNK = 4096
"""Pages asked for in one call of move_pages."""

Call = Callable[..., int]
"""Makes a system call by its name: 0, or the number of the error. Tests put another in the place of `system_call`."""


class Mode(IntEnum):
    """What a policy asks of the kernel: its default, pages on the node if it has room, on these nodes only (or the
    program ends), or page by page over all of them."""

    DEFAULT = 0
    PREFERRED = 1
    BIND = 2
    INTERLEAVE = 3


@dataclass(frozen=True)
class Policy:
    """The policy of a range. `mode` is the kernel's number, which may be one that `Mode` does not name."""

    mode: int
    nodes: tuple[int, ...]


def system_call(name: str, *arguments: Any) -> int:
    """Calls the kernel: 0 when it went well, else the number of the error; ENOSYS where its number is not known."""
    numbers = _NUMBERS[_TABLE[platform.machine()]] if platform.machine() in _TABLE else {}
    if name not in numbers:
        return errno.ENOSYS
    libc = ctypes.CDLL(None, use_errno=True)
    return ctypes.get_errno() if libc.syscall(ctypes.c_long(numbers[name]), *arguments) != 0 else 0


def policy_error(call: Call = system_call) -> str | None:
    """Why a memory policy cannot be set here, None where it can.

    The default policy is what is set, in a thread of its own, so nothing changes.
    """
    found: list[int] = []
    thread = threading.Thread(
        target=lambda: found.append(call("set_mempolicy", ctypes.c_int(Mode.DEFAULT), None, ctypes.c_ulong(0)))
    )
    thread.start()
    thread.join()
    return _reason(found[0])


def bind(
    address: int, size: int, nodes: Collection[int], mode: Mode = Mode.BIND, *, move: bool = False,
    call: Call = system_call,
) -> str | None:  # fmt: skip
    """Sets the policy of the pages of `size` bytes from `address`, the start of a page, to `mode` over `nodes`.

    Of shared memory the policy belongs to the memory, not to the process: it holds for whoever touches a page first.
    Pages that are there already stay where they are; with `move` those go too that no other process maps. Returns why
    it was refused, None when it was done; what came of it is to be seen with `policy_of` and `nodes_of`.

    Raises: ValueError for an address inside a page, or nodes that are none.
    """
    if address % mmap.PAGESIZE:
        raise ValueError(f"address {address:#x} is not the start of a page")
    if not nodes or not all(0 <= node < _MAX_NODES for node in nodes):
        raise ValueError(f"{sorted(nodes)} are no nodes")
    if not size:
        return None
    flags = ctypes.c_uint(_MF_MOVE if move else 0)
    return _reason(
        call("mbind", ctypes.c_void_p(address), ctypes.c_ulong(size), ctypes.c_int(mode), *_bits(nodes), flags)
    )


def policy_of(address: int, call: Call = system_call) -> Policy | str:
    """The policy of the page at `address`, or why the kernel does not tell."""
    mode, (mask, bits) = ctypes.c_int(), _bits(())
    failed = call("get_mempolicy", ctypes.byref(mode), mask, bits, ctypes.c_void_p(address), ctypes.c_ulong(_F_ADDR))
    if (reason := _reason(failed)) is not None:
        return reason
    width = 8 * ctypes.sizeof(ctypes.c_ulong)
    return Policy(mode.value, tuple(n for n in range(_MAX_NODES) if mask[n // width] >> n % width & 1))


def nodes_of(address: int, size: int, call: Call = system_call) -> dict[int, int] | str:
    """How many pages of the `size` bytes from `address` are on which node, or why the kernel does not tell.

    Only pages that this process has touched are counted: of shared memory, others' pages are not in its tables.
    """
    first = address - address % mmap.PAGESIZE
    starts = range(first, address + size, mmap.PAGESIZE)
    found: Counter[int] = Counter()
    for i in range(0, len(starts), _CHUNK):
        chunk = starts[i : i + _CHUNK]
        pages = (ctypes.c_void_p * len(chunk))(*chunk)
        status = (ctypes.c_int * len(chunk))()
        self = ctypes.c_int(0)
        failed = call("move_pages", self, ctypes.c_ulong(len(chunk)), pages, None, status, ctypes.c_int(0))
        if (reason := _reason(failed)) is not None:
            return reason
        found.update(node for node in status if node >= 0)  # below zero: why the page is on none
    return dict(sorted(found.items()))


def _bits(nodes: Collection[int]) -> tuple[ctypes.Array[ctypes.c_ulong], ctypes.c_ulong]:
    """`nodes` as the kernel takes them: a set of bits, and one more than it has (the kernel counts so)."""
    mask, width = (ctypes.c_ulong * _WORDS)(), 8 * ctypes.sizeof(ctypes.c_ulong)
    for node in nodes:
        mask[node // width] |= 1 << node % width
    return mask, ctypes.c_ulong(_MAX_NODES + 1)


def _reason(failed: int) -> str | None:
    """What the number of an error means for memory policy; None for 0."""
    if failed == errno.ENOSYS:
        known = platform.machine() in _TABLE
        return "the kernel has no NUMA" if known else f"not known how on {platform.machine()}"
    return os.strerror(failed) if failed else None


def make_huge(address: int, size: int) -> str | None:
    """Puts what is whole in the `size` bytes from `address` into huge pages, whose pages have all been touched.

    Returns why that was refused, None when it was done or there is no whole one: an old kernel (before 6.1), one
    without huge pages, or the system says that shared memory never gets any (`shmem_enabled` is `deny`). Kernels that
    know MADV_COLLAPSE grant it whatever else the settings say; MADV_HUGEPAGE is for those that only know that.
    """
    start = address + -address % HUGE_BYTES
    whole = (address + size - start) // HUGE_BYTES * HUGE_BYTES
    if whole <= 0 or mmap.PAGESIZE != 4096:
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    for advice in (_MADV_HUGEPAGE, _MADV_COLLAPSE):
        if libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(whole), ctypes.c_int(advice)) != 0:
            return os.strerror(ctypes.get_errno())
    return None


def node_of(pu: int, root: Path = Path("/")) -> int | None:
    """The NUMA node, as the OS numbers it, that `pu` belongs to; None where the kernel shows none."""
    return min(_numbered(root / f"sys/devices/system/cpu/cpu{pu}"), default=None)


def nodes_here(root: Path = Path("/")) -> tuple[int, ...]:
    """The NUMA nodes of this machine as the OS numbers them, ascending; none where the kernel shows none."""
    return tuple(sorted(_numbered(root / "sys/devices/system/node")))


def _numbered(folder: Path) -> Iterator[int]:
    """The numbers of the nodes that `folder` has an entry for."""
    for entry in folder.glob("node[0-9]*"):
        if entry.name[4:].isdecimal():
            yield int(entry.name[4:])
