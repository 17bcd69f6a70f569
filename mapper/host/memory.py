"""Memory policy of the calling thread: on which NUMA nodes the kernel puts the pages that it touches first."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import threading

_SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237, "riscv64": 237}
"""Numbers of the system call, from the kernel's tables (x86 has its own, Arm and RISC-V share the generic one)."""

_DEFAULT_POLICY = 0


def policy_error() -> str | None:
    """Why a memory policy cannot be set here, None where it can.

    The default policy is what is set, in a thread of its own, so nothing changes.
    """
    number = _SET_MEMPOLICY.get(platform.machine())
    if number is None:
        return f"not known how on {platform.machine()}"
    found: list[int] = []

    def attempt() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syscall(ctypes.c_long(number), ctypes.c_long(_DEFAULT_POLICY), None, ctypes.c_ulong(0)) != 0:
            found.append(ctypes.get_errno())

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    if not found:
        return None
    return "the kernel has no NUMA" if found[0] == errno.ENOSYS else os.strerror(found[0])
