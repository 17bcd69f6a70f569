"""Work in forked children, each bound to its PUs before it starts a thread pool. For processes that have torch
imported and no pool: a child is then as a fresh worker, without the seconds of an import. libgomp's threads belong to
the process that first uses them and inherit its binding.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import torch

from mapper.execution.workers.following import end_with
from mapper.host.affinity import pin

_GONE = 2**62
_NAP_S = 50e-6


class Barrier:
    """Where `count` children wait for each other. One that has failed is waited for no longer.

    Each tells in a word of its own how often it came; nothing else is handed over, so no order of memory is needed.
    """

    def __init__(self, count: int) -> None:
        self.words = memoryview(mmap.mmap(-1, max(1, count) * 64)).cast("q")
        self.count = count

    def wait(self, number: int) -> None:
        """Child `number` has come; returns when all have, as often as it."""
        self.words[8 * number] += 1
        mine = self.words[8 * number]
        while any(self.words[8 * i] < mine for i in range(self.count)):
            time.sleep(_NAP_S)

    def leave(self, number: int) -> None:
        """Child `number` comes no more."""
        self.words[8 * number] = _GONE


def answers(work: list[tuple[list[int], Callable[[], Any]]]) -> list[Any]:
    """What each function gives (as JSON) in a child bound to its PUs; all run at once.

    Raises: RuntimeError with the words of a child that failed.
    """
    children = [_child(pus, measured) for pus, measured in work]
    texts = []
    for pid, end in children:
        with os.fdopen(end) as pipe:
            texts.append(pipe.read())
        os.waitpid(pid, 0)
    found = [json.loads(text or '{"error": "a child died"}') for text in texts]
    for answer in found:
        if "error" in answer:
            raise RuntimeError(answer["error"])
    return [answer["value"] for answer in found]


def _child(pus: list[int], measured: Callable[[], Any]) -> tuple[int, int]:
    """Forks a child that computes `measured` on `pus`: its process, and the pipe on which it answers."""
    read, write = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, read
    answer: dict[str, Any] = {}
    try:
        end_with(parent, signal.SIGKILL)
        pin(set(pus))
        with torch.inference_mode():
            answer = {"value": measured()}
    except BaseException as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    _say(write, json.dumps(answer).encode())
    os._exit(0)


def _say(fd: int, text: bytes) -> None:
    """All of `text`, of which a pipe may take a part at a time."""
    while text:
        text = text[os.write(fd, text) :]
