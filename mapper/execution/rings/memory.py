"""The shared memory of a run, and the POSIX semaphores in it.

One anonymous file holds everything that the processes of a run share. It has no name, so nothing is left behind
whatever dies. Semaphores order the memory around them on every processor: what was written before a post is seen
after the wait, which plain stores of Python do not promise on Arm and RISC-V.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import time

from mapper.errors import SystemRefused
from mapper.host.anonymous import anonymous_file
from mapper.host.memory import HUGE_BYTES, make_huge

LINE_BYTES = 64
PAGE_BYTES = mmap.PAGESIZE

_blocking = ctypes.CDLL(None, use_errno=True)
_instant = ctypes.PyDLL(None, use_errno=True)  # keeps the GIL: for calls that never block
_instant.mmap.restype = ctypes.c_size_t
_instant.mmap.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_MAP_FIXED, _MAP_NORESERVE = 0x10, 0x4000  # the same on x86, Arm and RISC-V


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Memory:
    """`size` bytes that several processes map, from an address on where a huge page may begin. The first line (64
    bytes) is the run's state."""

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size
        self.map = _mapped(fd, size)
        self.words = self.map.cast("q")
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self.map))

    @classmethod
    def create(cls, size: int) -> Memory:
        """New memory of at least `size` bytes, all zero.

        Raises: SystemRefused when the system gives neither anonymous memory nor a temporary file of that size.
        """
        size += -size % PAGE_BYTES
        fd = anonymous_file("mapper", size)
        try:
            return cls(fd, size)
        except OSError as error:
            os.close(fd)
            raise SystemRefused(f"{size} bytes of shared memory cannot be mapped: {error.strerror}") from error

    def semaphore(self, offset: int) -> Semaphore:
        """The semaphore at byte `offset`, a multiple of 64."""
        return Semaphore(self.address(offset), self.map)

    def address(self, offset: int) -> int:
        """Where byte `offset` is in this process."""
        return self._base + offset

    def make_huge(self, offset: int, size: int) -> None:
        """Puts `size` bytes from `offset` into huge pages if the kernel lets us; they have been written before."""
        make_huge(self.address(offset), size)

    @property
    def stopped(self) -> bool:
        """Whether the run is over; looked at after every wait."""
        return self.words[0] != 0

    def stop(self) -> None:
        """Says that the run is over. Whoever waits has to be woken by a post."""
        self.words[0] = 1


class Semaphore:
    """A POSIX semaphore that processes share. It keeps the memory that it is in: a thread may wait while all others
    let go of it."""

    __slots__ = ("_address", "_held")

    def __init__(self, address: int, held: memoryview) -> None:
        self._address = ctypes.c_void_p(address)
        self._held = held

    def initialise(self, value: int) -> None:
        """Sets it up with `value`; once, before anybody uses it."""
        _check(_instant.sem_init(self._address, 1, value))

    def post(self) -> None:
        """Adds one, and wakes who waits."""
        _check(_instant.sem_post(self._address))

    def try_wait(self) -> bool:
        """Takes one if there is one; never blocks."""
        return bool(_instant.sem_trywait(self._address) == 0)

    def wait(self, spin_ns: int = 0) -> None:
        """Takes one; blocks until there is one, after asking again and again for `spin_ns` nanoseconds."""
        if self._spun(spin_ns):
            return
        while _blocking.sem_wait(self._address):
            if (number := ctypes.get_errno()) != errno.EINTR:
                raise OSError(number, os.strerror(number))

    def wait_for(self, seconds: float, spin_ns: int = 0) -> bool:
        """Takes one if there is one within about `seconds`, else False; a signal may end the wait early."""
        if self._spun(spin_ns):
            return True
        if _timed_wait(self._address, seconds) == 0:
            return True
        if (number := ctypes.get_errno()) not in (errno.ETIMEDOUT, errno.EINTR):
            raise OSError(number, os.strerror(number))
        return False

    def _spun(self, spin_ns: int) -> bool:
        """Takes one if there is one within `spin_ns`, without blocking. A `sem_trywait` that takes one is the same
        barrier as a wait that blocked, so nothing else is needed on Arm and RISC-V."""
        if not _instant.sem_trywait(self._address):
            return True
        if spin_ns:
            until = time.monotonic_ns() + spin_ns
            while time.monotonic_ns() < until:
                if not _instant.sem_trywait(self._address):
                    return True
        return False


def _timed_wait(address: ctypes.c_void_p, seconds: float) -> int:
    """`sem_wait` with a limit, on the monotonic clock where libc has that (glibc 2.30)."""
    monotonic = hasattr(_blocking, "sem_clockwait")
    clock = time.CLOCK_MONOTONIC if monotonic else time.CLOCK_REALTIME
    whole, rest = divmod(time.clock_gettime_ns(clock) + int(seconds * 1e9), 10**9)
    until = ctypes.byref(_TimeSpec(whole, rest))
    if monotonic:
        return int(_blocking.sem_clockwait(address, clock, until))
    return int(_blocking.sem_timedwait(address, until))


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _mapped(fd: int, size: int) -> memoryview:
    """`size` bytes of the file `fd`, mapped where a huge page may begin: over a part of address space that is ours, and
    is given back, with the file in it, when the last view of it is gone."""
    room = mmap.mmap(-1, size + HUGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(room))
    start = -address % HUGE_BYTES
    flags = mmap.MAP_SHARED | _MAP_FIXED
    if _instant.mmap(address + start, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, fd, 0) != address + start:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return memoryview(room)[start : start + size]


def begin(offset: int, size: int) -> int:
    """Where `size` bytes that begin at `offset` or later belong: at the start of a page, or, if they are as large as a
    huge page, of one."""
    return offset + -offset % (HUGE_BYTES if size >= HUGE_BYTES else PAGE_BYTES)
