"""What zsh and fish offer, once `mapper --install-completion` was called in them: asked of the shells themselves."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

ZSH, FISH = shutil.which("zsh"), shutil.which("fish")
PATIENCE_S = 120
"""A shell that has not answered by then never will."""
COMPLETED = {
    "mapper topo sh": "mapper topo show ",
    "mapper plan --backend eager:bf": "mapper plan --backend eager:bfloat16 ",
    "mapper explain p.json --only limits,m": "mapper explain p.json --only limits,marginal ",
    "mapper plan --model vi": "mapper plan --model vit",
    "mapper check pl": "mapper check plan.json ",
}
"""What is typed, and what the line is after a tab: as far as it is clear, and a space where it is whole."""


def environment(home: Path) -> dict[str, str]:
    """That of a user whose home is `home`, on a plain terminal."""
    own = {"HOME": str(home), "ZDOTDIR": str(home), "XDG_CONFIG_HOME": str(home / ".config"), "TERM": "xterm",
           "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}  # fmt: skip
    return {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "XDG_DATA_HOME")} | own


def install(shell: str, home: Path) -> str:
    """What `mapper --install-completion` says in `shell`."""
    line = "mapper --install-completion; true"  # the second command keeps the shell there, to be recognised
    done = subprocess.run([shell, "-c", line], env=environment(home), cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Zsh:
    """An interactive zsh on a pseudo-terminal that writes its line into a file, and empties it, at Ctrl-X."""

    def __init__(self, home: Path) -> None:
        assert ZSH is not None
        self.told = home / "told"
        self.told.write_text("")
        with (home / ".zshrc").open("a") as rc:
            rc.write(f"""
PS1='> '
tell() {{ print -r -- "$BUFFER" >> {self.told}; BUFFER="" }}
zle -N tell; bindkey '^X' tell
ready() {{ print ready >> {self.told} }}
precmd_functions+=(ready)
""")
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(home)
            os.execve(ZSH, ["zsh", "-d", "-i"], environment(home))
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 100, 200, 0, 0))
        self.shown = b""
        self.wait_for(1)

    def wait_for(self, lines: int) -> str:
        """The last line that it wrote, once there are so many."""
        deadline = time.monotonic() + PATIENCE_S
        while len(found := self.told.read_text().splitlines()) < lines:
            assert time.monotonic() < deadline, self.shown.decode(errors="replace")
            if select.select([self.terminal], [], [], 0.05)[0]:
                self.shown += os.read(self.terminal, 65536)
        return found[-1]

    def completed(self, typed: str) -> str:
        """The line after a tab behind `typed`."""
        lines = len(self.told.read_text().splitlines())
        os.write(self.terminal, typed.encode() + b"\t\x18")
        return self.wait_for(lines + 1)

    def close(self) -> None:
        os.close(self.terminal)
        os.waitpid(self.pid, 0)


@pytest.mark.skipif(ZSH is None, reason="zsh is not installed: completion in it is untested here")
def test_zsh_completes_once_it_is_installed(tmp_path: Path) -> None:
    assert ZSH is not None and "zsh completion installed" in install(ZSH, tmp_path)
    (tmp_path / "plan.json").touch()
    shell = Zsh(tmp_path)
    try:
        shell.completed("mapper to")  # typer's script: the first tab of a shell only loads it
        assert {typed: shell.completed(typed) for typed in COMPLETED} == COMPLETED
    finally:
        shell.close()


@pytest.mark.skipif(FISH is None, reason="fish is not installed: completion in it is untested here")
def test_fish_completes_once_it_is_installed(tmp_path: Path) -> None:
    assert FISH is not None and "fish completion installed" in install(FISH, tmp_path)
    (tmp_path / "plan.json").touch()
    script = "".join(f'complete -C "{typed}"; echo; ' for typed in COMPLETED)
    done = subprocess.run([FISH, "-c", script], env=environment(tmp_path), cwd=tmp_path, capture_output=True, text=True)
    assert not done.stderr
    offered = [[line.partition("\t")[0] for line in part.splitlines()] for part in done.stdout.split("\n\n")]
    for (typed, line), words in zip(COMPLETED.items(), offered, strict=False):
        lines = [f"{typed.rpartition(' ')[0]} {word}" for word in words]
        assert lines and all(each.startswith(line.rstrip()) for each in lines), typed
        assert line.endswith(" ") == (lines == [line.rstrip()]), typed
    assert offered[list(COMPLETED).index("mapper plan --model vi")] == ["vit", "vit_large"]
