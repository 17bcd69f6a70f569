"""Runs `mapper` in forks of one process, which imports it once: each new process takes long to import it here."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback

from commands import Result

INSTALLED = "/tmp/mapper/lib"
"""Where the part `install` leaves the package."""


def mapper(*arguments: object) -> Result:
    """`mapper ARGUMENTS`, up to its exit code; for commands that start no threads or workers."""
    load()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            os._exit(code_of(arguments))
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return Result(ended, out.read(), err.read())


def load() -> None:
    """Imports what the commands import, each for itself otherwise."""
    if INSTALLED not in sys.path:
        sys.path.insert(0, INSTALLED)
    import mapper.cli.main
    import mapper.machine.complete
    import mapper.machine.diff
    import mapper.reports.diff
    import mapper.reports.machine  # noqa: F401


def code_of(arguments: tuple[object, ...]) -> int:
    """The exit code of the command in this process, after all is written."""
    from mapper.cli.main import main

    sys.argv = ["mapper", *map(str, arguments)]
    try:
        main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code
