"""Processes that end when the one that started them is gone."""

from __future__ import annotations

import ctypes
import os
import select
from typing import NoReturn

_PR_SET_PDEATHSIG = 1


def end_with(parent: int, number: int) -> None:
    """Asks the kernel for the signal `number` (0: none) when `parent` ends; ends this process if it has.

    The signal comes when the thread ends that started this process, and that may be before its process does.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)


def follow(parent: int, control: int) -> NoReturn:
    """Waits until `parent` is gone, and ends this process: the kernel closes its end of `control`. For a thread.

    A child that the parent forked may hold that end open, so the parent itself is watched too, where the kernel can.
    """
    poll = select.poll()
    poll.register(control, select.POLLIN)
    try:
        poll.register(os.pidfd_open(parent), select.POLLIN)
    except OSError:
        if os.getppid() != parent:
            os._exit(0)
    poll.poll()
    os._exit(0)
