"""The process that starts workers: it imports torch once, and forks a worker for each order.

Importing torch takes seconds of CPU time and some 150 MB of memory; forked workers share both. No thread pool is
started here, so each worker has its own, bound as it is (docs/execution.md has the figures).

Orders come through a socket, one packet each, and are answered in turn. A worker that has ended stays a zombie until
the parent asks how it ended: its number belongs to nobody else meanwhile, so that a signal can only reach the worker.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import IO, Any, NoReturn

from mapper.child import how_ended
from mapper.errors import ExecutionFailed, SystemRefused
from mapper.execution.workers.following import end_with
from mapper.execution.workers.post import Post

MOST_BYTES = 64 * 1024
"""Of an order: the numbers of all PUs of a large machine are 20 KiB."""
ANSWER_S = 600.0
"""How long an answer may take; on a slow board, importing torch takes minutes."""
_STEP_S = 0.002


class Nursery:
    """The nursery process, as its parent sees it. Raises: SystemRefused when it cannot be started."""

    def __init__(self, environment: dict[str, str], log: IO[bytes]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(ANSWER_S)
        self._log = log
        words = [sys.executable, "-P", "-m", "mapper.execution.workers.nursery", str(theirs.fileno()), str(os.getpid())]
        try:
            self.process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, pass_fds=(theirs.fileno(),)
            )
        except OSError as error:
            self._socket.close()
            raise SystemRefused(f"no worker process could be started: {error.strerror}") from error
        finally:
            theirs.close()

    @property
    def alive(self) -> bool:
        """Whether it is there."""
        return self.process.poll() is None

    def start(self, post: Post) -> int:
        """Starts a worker at `post`, whose descriptors are this process's: its process.

        Raises: SystemRefused when the system gives no process; ExecutionFailed when the nursery is gone.
        """
        order = {"post": post.model_dump()}
        answer = self._asked(order, post.descriptors)
        if "pid" not in answer:
            raise SystemRefused(f"no worker process could be started: {answer['error']}")
        return int(answer["pid"])

    def ended(self, pid: int, within_s: float) -> int | None:
        """The exit code of worker `pid`, negative for a signal, waited for so long; None where it is there still, or
        nobody knows any more. A code is given once."""
        try:
            code = self._asked({"ended": pid, "within_s": within_s})["code"]
        except ExecutionFailed:
            return None  # it is gone
        return None if code is None else int(code)

    def _asked(self, order: dict[str, Any], descriptors: Sequence[int] = ()) -> dict[str, Any]:
        try:
            socket.send_fds(self._socket, [json.dumps(order).encode()], descriptors)
            data = self._socket.recv(MOST_BYTES)
        except TimeoutError:
            raise ExecutionFailed(f"the process that starts workers has not answered for {ANSWER_S:g} s") from None
        except OSError:
            data = b""
        except BaseException:
            self.process.kill()  # its answer would be taken for that to the next order
            raise
        if not data:
            raise ExecutionFailed(f"the process that starts workers died: {ended_so(self.process.wait())}",
                                  advice=self._printed())  # fmt: skip
        answer: dict[str, Any] = json.loads(data)
        return answer

    def _printed(self) -> str:
        self._log.seek(0)
        printed = self._log.read()[-2000:].decode(errors="replace").strip()
        return f"It printed:\n{printed}" if printed else ""

    def close(self) -> None:
        """Ends the nursery, and with it whatever worker is left."""
        self._socket.close()
        self.process.kill()
        self.process.wait()


def ended_so(code: int) -> str:
    """In words, the end of a worker or a nursery with this exit code, and what SIGKILL may mean."""
    return how_ended(code) + (" (by hand, or for want of memory: see dmesg)" if code == -signal.SIGKILL else "")


def main() -> None:
    """Answers orders until the parent closes the socket or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and decides
    orders, parent = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    end_with(parent, signal.SIGKILL)  # the import takes seconds, in which nobody looks after the parent
    import mapper.execution.workers.replica  # noqa: F401  (for the workers)
    from mapper.execution.workers.worker import work

    gc.collect()
    gc.freeze()  # a collection would write to every object, and so copy its page into each worker
    poll = select.poll()
    poll.register(orders, select.POLLIN)
    with contextlib.suppress(OSError):  # an older kernel: the closed socket has to do
        poll.register(os.pidfd_open(parent), select.POLLIN)  # a child of the parent's may hold its end open
    end_with(parent, 0)  # from here on the loop sees it: the signal may come before the parent is gone
    while [orders.fileno()] == [fd for fd, _ in poll.poll()]:
        data, descriptors, _, _ = socket.recv_fds(orders, MOST_BYTES, len(Post.DESCRIPTORS))
        if not data:
            break
        order = json.loads(data)
        if "post" in order:
            answer = _forked(order["post"], descriptors, orders, work)
        else:
            answer = {"code": _code(order["ended"], order["within_s"])}
        orders.send(json.dumps(answer).encode())


def _forked(
    fields: dict[str, Any], descriptors: Sequence[int], orders: socket.socket, work: Callable[[Post], NoReturn]
) -> dict[str, Any]:
    """Starts a worker at the post of these `fields`, whose descriptors have come here as `descriptors`."""
    nursery, answer = os.getpid(), dict[str, Any]()
    try:
        pid = os.fork()
        answer["pid"] = pid
    except OSError as error:
        pid, answer["error"] = -1, error.strerror
    if pid == 0:
        end_with(nursery, signal.SIGKILL)
        orders.close()
        work(Post.model_validate(fields | dict(zip(Post.DESCRIPTORS, descriptors, strict=True))))
    for fd in descriptors:
        os.close(fd)
    return answer


def _code(pid: int, within_s: float) -> int | None:
    """How child `pid` ended, None if it has not within the time."""
    until = time.monotonic() + within_s
    while True:
        try:
            ended, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return None
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            return None
        time.sleep(_STEP_S)


if __name__ == "__main__":
    main()
