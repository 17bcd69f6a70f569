"""Asking a process that has torch imported: what ops take (`ops`), or parts of a program (`parts`)."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mapper.errors import ExecutionFailed
from mapper.execution.workers.environment import environment

START_S = 300.0
"""Longest time that importing torch may take."""
ANSWER_S = 120.0
"""Longest time beyond its own seconds that an answer may take."""


class Software:
    """The process, started when it is asked and gone when the block ends or it is let go. It runs `module` with
    `arguments`, and inherits the descriptors `fds`."""

    def __init__(
        self, module: str = "mapper.measure.ops", arguments: Sequence[str] = (), fds: Sequence[int] = ()
    ) -> None:
        self._command = [sys.executable, "-m", module, *arguments]
        self._fds = tuple(fds)
        self._process: subprocess.Popen[str] | None = None
        self._log: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.let_go()

    def let_go(self) -> None:
        """Ends the process; the next question starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._log.close()
            self._process = None

    @property
    def pid(self) -> int | None:
        """The number of the process, None before it is started."""
        return self._process.pid if self._process else None

    def ask(self, what: str, seconds: float, **details: Any) -> float:
        """The number that answers the question `what` to `ops`, which is about to take `seconds`.

        Raises: ExecutionFailed when the process cannot answer.
        """
        return float(self.value(what, seconds, seconds=seconds, **details))

    def value(self, what: str, within_s: float, **details: Any) -> Any:
        """The answer to the question `what`, which is about to take `within_s` at most.

        Raises: ExecutionFailed when the process cannot answer.
        """
        process = self._process or self.start()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps({"ask": what, **details}) + "\n")
            process.stdin.flush()
        except OSError:
            raise self._failed("has died") from None
        answer = self._line(within_s + ANSWER_S)
        if "error" in answer:
            raise ExecutionFailed(f"what was to be timed cannot be: {answer['error']}")
        return answer["value"]

    def start(self) -> subprocess.Popen[str]:
        """Starts the process and waits until it has torch imported."""
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
            env=environment(1), pass_fds=self._fds,
        )  # fmt: skip
        self._line(START_S)
        return self._process

    def _line(self, seconds: float) -> dict[str, Any]:
        """The next line that the process says within `seconds`."""
        assert self._process is not None
        assert self._process.stdout is not None
        poll = select.poll()
        poll.register(self._process.stdout, select.POLLIN)
        if not poll.poll(seconds * 1000):
            raise self._failed(f"has not answered for {seconds:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise self._failed("has died")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _failed(self, how: str) -> ExecutionFailed:
        self._log.seek(0)
        said = self._log.read().strip().splitlines()
        return ExecutionFailed(f"the process that times torch ops {how}" + (f": {said[-1]}" if said else ""))


def cpu_seconds(pid: int | None) -> float:
    """CPU seconds that the process and the children it has waited for used so far, 0 where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
