"""A worker process: one replica of one stage, forked by `nursery`.

It is bound to its PUs before any library starts a thread pool, whose threads inherit the binding.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import threading
import traceback
from typing import NoReturn

from mapper.errors import MapperError
from mapper.execution.workers.environment import thread_variables
from mapper.execution.workers.following import follow
from mapper.execution.workers.post import Post
from mapper.host.affinity import pin

MAX_REPORT_CHARACTERS = 20_000
_PR_SET_NAME = 15


def work(post: Post) -> NoReturn:
    """Runs the worker until the run is over or its parent is gone, and ends the process."""
    try:
        os.dup2(post.log, 1)
        os.dup2(post.log, 2)
        _call(f"mapper {post.stage}.{post.replica}")
        os.environ |= thread_variables(post.threads)  # for libraries that are loaded from here on
        pin(post.pus)
        threading.Thread(target=follow, args=(post.parent, post.control), daemon=True).start()
        from mapper.execution.workers.replica import run

        run(post, lambda event: report(post.status, event))
    except BaseException as error:
        report(post.status, failure(error))
        _leave(1)
    _leave(0)


def _call(name: str) -> None:
    """Names this process for those who list processes; 15 characters show."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def report(status: int, event: dict[str, object]) -> None:
    """Sends `event` to the parent, as a line of JSON."""
    os.write(status, json.dumps(event).encode() + b"\n")


def failure(error: BaseException) -> dict[str, object]:
    """What the parent has to know of `error`."""
    trace = "".join(traceback.format_exception(error))
    known = (
        {"kind": type(error).__name__, "what": error.what, "advice": error.advice}
        if isinstance(error, MapperError)
        else {}
    )
    last = traceback.format_exception_only(error)[-1].strip()
    return {"event": "failed", "error": last[-2000:], "traceback": trace[-MAX_REPORT_CHARACTERS:], **known}


def _leave(code: int) -> NoReturn:
    """Ends the process at once: what is shared is the parent's, and unloading torch takes long."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
