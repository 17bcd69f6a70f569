"""A terminal as small as tests need it: what it shows in the end, and whether a line ever went on below by itself."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass, field
from pathlib import Path

_TOKEN = re.compile(r"\x1b\[K|\x1b\[[0-9;]*m|\r|\n|[^\x1b\r\n]", re.DOTALL)


@dataclass
class Screen:
    """Takes what is written to it. `wrapped` are the lines that did not fit; `code` is that of the command."""

    columns: int
    lines: list[str] = field(default_factory=lambda: [""])
    wrapped: list[str] = field(default_factory=list)
    column: int = 0
    shown: list[str] = field(default_factory=list)
    code: int = 0

    def write(self, text: str) -> None:
        """Shows `text`; `shown` are all states of lines before they were taken away."""
        for token in _TOKEN.findall(text):
            if token == "\r":
                self.column = 0
            elif token == "\n":
                self.lines.append("")
            elif token == "\x1b[K":
                self.shown.append(self.lines[-1])
                self.lines[-1] = self.lines[-1][: self.column]
            elif not token.startswith("\x1b"):
                self._letter(token)

    def _letter(self, letter: str) -> None:
        if self.column >= self.columns:
            self.wrapped.append(self.lines[-1])
            self.lines.append("")
            self.column = 0
        line = self.lines[-1].ljust(self.column)
        self.lines[-1] = line[: self.column] + letter + line[self.column + 1 :]
        self.column += 1


def all_of(terminal: int) -> bytes:
    """What is written to a terminal until its other side is closed; closes this one."""
    written = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        written += part
    os.close(terminal)
    return written


def on_screen(*words: str, folder: Path, columns: int, **environment: str) -> Screen:
    """`mapper WORDS` on a terminal of so many columns, which alone says how many they are; stdout is a pipe."""
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    variables = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")} | environment
    screen = Screen(columns)
    with subprocess.Popen([sys.executable, "-m", "mapper", *words], stdout=subprocess.DEVNULL, stderr=other,
                          cwd=folder, env=variables) as process:  # fmt: skip
        os.close(other)
        written = all_of(main)
    screen.code = process.returncode
    screen.write(written.decode())
    return screen
