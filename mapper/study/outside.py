"""A process of a set-up outside mapper's executor: `python -m mapper.study.outside SOCKET`, started by `vendors`, maybe
through a launcher that gives it cores and an environment.

It connects to the abstract socket, gets a `Job` with descriptors, and then does what lines of JSON ask for: `check`
(outputs of each item), `closed` and `open` (rounds). It ends when the other side closes the connection.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mapper import jsonio
from mapper.host.affinity import pin
from mapper.jsonio import Record
from mapper.program.model import Program

if TYPE_CHECKING:
    from mapper.study.engines import Engine


class Job(Record):
    """What the process computes, and how (`engines`). `pus` are what it binds itself to; empty where a launcher has."""

    engine: str
    backend: str
    threads: int
    pus: tuple[int, ...]
    artefact: str = ""
    program: Program


def main() -> None:
    """Serves until the connection is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and decides
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.connect("\0" + sys.argv[1])
    with link, link.makefile("rb") as lines:
        _send(link, {"event": "hello", "pid": os.getpid()})
        _, fds, _, _ = socket.recv_fds(link, 1, 4)
        try:
            _serve(link, lines, *fds)
        except BrokenPipeError:
            pass
        except BaseException as error:
            trace = "".join(traceback.format_exception(error))[-20_000:]
            _send(link, {"event": "failed", "error": traceback.format_exception_only(error)[-1], "trace": trace})
            os._exit(1)
    os._exit(0)


def _serve(link: socket.socket, lines: IO[bytes], job_fd: int, weights_fd: int, items_fd: int, results_fd: int) -> None:
    job = jsonio.validated(Job, jsonio.parse_json(os.pread(job_fd, os.fstat(job_fd).st_size, 0), "job"), "job")
    if job.pus:
        pin(job.pus)  # before the libraries are loaded, whose threads inherit it
    from mapper.program.weights import map_weights, write_weights
    from mapper.study.engines import engine

    weights = map_weights(weights_fd, "weights", names=job.program.weight)
    flat = map_weights(items_fd, "items")
    count = 1 + max(int(name.partition(".")[0]) for name in flat)
    items = [tuple(flat[f"{i}.{j}"] for j in range(len(job.program.inputs))) for i in range(count)]
    path = Path(job.artefact) if job.artefact else None
    made = engine(job.engine, job.backend, job.program, weights, items, job.threads, path)
    pus = sorted(os.sched_getaffinity(0))
    _send(link, {"event": "ready", "pus": pus, "width": made.width, "threads": made.threads})
    for line in lines:
        asked = json.loads(line)
        if asked["do"] == "check":
            named = {f"{i}.{j}": t for i in range(count) for j, t in enumerate(made.outputs(i))}
            os.lseek(results_fd, 0, os.SEEK_SET)  # the parent and other instances share the position
            os.ftruncate(results_fd, 0)
            with os.fdopen(os.dup(results_fd), "wb") as out:
                write_weights(out, named)
            _send(link, {"event": "checked"})
        else:
            _send(link, closed(made, asked["count"]) if asked["do"] == "closed" else opened(made, asked))


def closed(engine: Engine, count: int) -> dict[str, Any]:
    """A closed-loop round: timed from when as many are done as are in flight, with as many behind."""
    width = engine.width
    total = width + count + width
    put, done = [0.0] * total, [0.0] * total

    def numbers() -> Iterator[int]:
        for number in range(total):
            put[number] = time.monotonic()
            yield number

    def note(number: int) -> None:
        done[number] = time.monotonic()

    engine.run(numbers(), note)
    ends = sorted(done)
    latencies = [done[n] - put[n] for n in range(width, width + count)]
    return {"rate_per_s": count / (ends[width + count - 1] - ends[width - 1]), "latencies_s": latencies}


def opened(engine: Engine, asked: dict[str, Any]) -> dict[str, Any]:
    """An open-loop round: when each item was done, in seconds from `start_s` of the monotonic clock, which all
    processes share; `due_s` likewise."""
    start, due = float(asked["start_s"]), list(asked["due_s"])
    done = [0.0] * len(due)

    def numbers() -> Iterator[int]:
        for number, at in enumerate(due):
            time.sleep(max(0.0, start + at - time.monotonic()))
            yield number

    def note(number: int) -> None:
        done[number] = time.monotonic() - start

    engine.run(numbers(), note)
    return {"done_s": done}


def _send(link: socket.socket, message: dict[str, Any]) -> None:
    link.sendall(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main()
