"""Tasks shared out to processes. They end with their parent, and at once when it is interrupted; one that dies is an
error, never waited for."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing import connection, get_context, resource_tracker, set_start_method
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from mapper.child import how_ended
from mapper.errors import ExecutionFailed, MapperError

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")


def shared_out(
    make: Callable[[S], Callable[[T], R]], subject: S, tasks: Sequence[T], processes: int,
    following: Callable[[T, R], T | None] = lambda task, result: None,
) -> Generator[tuple[T, R]]:  # fmt: skip
    """Each of `tasks`, and of those `following` them knowing what came of them, with its result, as they end. Every
    process makes its own `make(subject)` and calls it with one task after another; with one, it is this one.

    `make` is known by its module; subject, tasks and results can be pickled. Raises: what a task raises, errors of
    mapper as far as message and exit code go; ExecutionFailed when a process dies.
    """
    processes = min(processes, len(tasks))
    left = list(reversed(tasks))
    if processes < 2:
        work = make(subject)
        while left:
            task = left.pop()
            result = work(task)
            left += filter(None, [following(task, result)])
            yield task, result
        return
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(_worker(make, subject)) for _ in range(processes)]
        yield from _dealt(workers, left, following)


def _dealt(
    workers: Sequence[tuple[BaseProcess, Connection]], left: list[T], following: Callable[[T, R], T | None]
) -> Iterator[tuple[T, R]]:
    """Gives each worker its next task, the last of `left` first, as soon as it is done with one."""
    at: dict[int, T] = {}
    while left or at:
        for number, (process, inbox) in enumerate(workers):
            if left and number not in at:
                at[number] = left.pop()
                _ask(process, inbox, at[number])
        ready = connection.wait([workers[number][1] for number in at])
        for number in [number for number in at if workers[number][1] in ready]:
            task = at.pop(number)
            result = _answer(*workers[number], task)
            left += filter(None, [following(task, result)])
            yield task, result


def _ask(process: BaseProcess, inbox: Connection, task: object) -> None:
    """Gives a worker a task. Raises: ExecutionFailed when it died."""
    try:
        inbox.send(task)
    except ConnectionError:
        raise _died(process, task) from None


def _answer(process: BaseProcess, inbox: Connection, task: object) -> Any:
    """What the worker says. Raises: what it raised; ExecutionFailed when it died."""
    try:
        answer = inbox.recv()
    except (EOFError, ConnectionError):
        raise _died(process, task) from None
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _died(process: BaseProcess, task: object) -> ExecutionFailed:
    process.join(5)
    ended = "it does not end" if process.exitcode is None else how_ended(process.exitcode)
    return ExecutionFailed(
        f"the process that worked on {task} died: {ended}", advice="Fewer --processes need less memory."
    )


@contextlib.contextmanager
def _worker(make: Callable[[S], Callable[[T], R]], subject: S) -> Iterator[tuple[BaseProcess, Connection]]:
    """A process with its pipe; it is gone afterwards."""
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    resource_tracker.ensure_running()  # it would inherit what is blocked, too
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C is for the parent
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        theirs.close()
        ours.send((make, subject))
        yield process, ours
    finally:
        process.kill()
        process.join()
        ours.close()


def serve(outbox: Connection) -> None:
    """A worker's life: take what the work is, then tasks one after another, until the parent is gone."""
    set_start_method("fork", force=True)  # locks that libraries make have no name then, which a kill would leave behind
    with contextlib.suppress(EOFError, ConnectionError):
        make, subject = outbox.recv()
        work = make(subject)
        while True:
            task = outbox.recv()
            try:
                answer: object = work(task)
            except MapperError as error:
                answer = _portable(error)
            outbox.send(answer)


def _portable(error: MapperError) -> MapperError:
    """`error` as one that survives pickling, with its message and exit code."""
    other = MapperError(error.what, advice=error.advice)
    other.exit_code = error.exit_code
    return other
