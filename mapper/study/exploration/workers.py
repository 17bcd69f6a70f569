"""Searches shared out to processes. They end with their parent, and at once when it is interrupted."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing import connection, get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from mapper.child import how_ended
from mapper.errors import ExecutionFailed, MapperError
from mapper.study.exploration.outcomes import Outcome, Searcher, Subject
from mapper.study.exploration.points import Search

Done = tuple[Search, tuple[Outcome, ...]]


Following = Callable[[Search, tuple[Outcome, ...]], Search | None]
"""The search to be made after one, knowing what came of it."""


def searched(subject: Subject, searches: Sequence[Search], following: Following, processes: int) -> Generator[Done]:
    """What came of each of `searches` and of those `following` them, as they end, from so many processes; with one,
    from this one.

    Raises: what `Searcher.outcomes` raises; ExecutionFailed when a process dies.
    """
    processes = min(processes, len(searches))
    left = list(reversed(searches))
    if processes < 2:
        searcher = Searcher(subject)
        while left:
            search = left.pop()
            done = searcher.outcomes(search)
            left += filter(None, [following(search, done)])
            yield search, done
        return
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(_worker(subject)) for _ in range(processes)]
        yield from _shared_out(workers, left, following)


def _shared_out(
    workers: Sequence[tuple[BaseProcess, Connection]], left: list[Search], following: Following
) -> Iterator[Done]:
    """Gives each worker its next search, the last of `left` first, as soon as it is done with one."""
    at: dict[int, Search] = {}
    while left or at:
        for number, (process, inbox) in enumerate(workers):
            if left and number not in at:
                at[number] = left.pop()
                _ask(process, inbox, at[number])
        ready = connection.wait([workers[number][1] for number in at])
        for number in [number for number in at if workers[number][1] in ready]:
            search = at.pop(number)
            done = _answer(*workers[number], search)
            left += filter(None, [following(search, done)])
            yield search, done


def _ask(process: BaseProcess, inbox: Connection, search: Search) -> None:
    """Gives a worker a search. Raises: ExecutionFailed when it died."""
    try:
        inbox.send(search)
    except ConnectionError:
        raise _died(process, search) from None


def _answer(process: BaseProcess, inbox: Connection, search: Search) -> tuple[Outcome, ...]:
    """What the worker says. Raises: what it raised; ExecutionFailed when it died."""
    try:
        answer = inbox.recv()
    except (EOFError, ConnectionError):
        raise _died(process, search) from None
    if isinstance(answer, BaseException):
        raise answer
    found: tuple[Outcome, ...] = answer
    return found


def _died(process: BaseProcess, search: Search) -> ExecutionFailed:
    process.join(5)
    ended = "it does not end" if process.exitcode is None else how_ended(process.exitcode)
    return ExecutionFailed(
        f"the process that searched {search.key} (machine/batch/stages/threads/replicas) died: {ended}",
        advice="Started again, the exploration goes on from here. Fewer --processes need less memory.",
    )


@contextlib.contextmanager
def _worker(subject: Subject) -> Iterator[tuple[BaseProcess, Connection]]:
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
        ours.send(subject)
        yield process, ours
    finally:
        process.kill()
        process.join()
        ours.close()


def serve(outbox: Connection) -> None:
    """A worker's life: take the subject, then searches one after another, until the parent is gone."""
    with contextlib.suppress(EOFError, ConnectionError):
        searcher = Searcher(outbox.recv())
        while True:
            search = outbox.recv()
            try:
                answer: object = searcher.outcomes(search)
            except MapperError as error:
                answer = _portable(error)
            outbox.send(answer)


def _portable(error: MapperError) -> MapperError:
    """`error` as one that survives pickling, with its message and exit code."""
    other = MapperError(error.what, advice=error.advice)
    other.exit_code = error.exit_code
    return other
