"""Programs of another Debian release, started where they were unpacked: with the loader and libraries beside them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.emulation.prerequisites import Unprepared


@dataclass(frozen=True)
class Tools:
    """Unpacked packages of the host's architecture in the folder `root`."""

    root: Path

    @property
    def firmware(self) -> Path:
        """What the emulated machine starts with."""
        return self.root / "usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin"

    def command(self, program: str, *arguments: str | Path) -> list[str]:
        """The command that starts `program`, such as `usr/sbin/mke2fs`. Raises: Unprepared where it is not there."""
        path = self.root / program
        if not path.exists():
            raise Unprepared(f"{path} is missing: build again with an empty cache")
        libraries = self._one("usr/lib/*/libc.so.6").parent
        loader = self._one("usr/lib/*/ld-linux*.so.*")
        started = [loader, "--argv0", path.name, "--library-path", libraries, path]
        return [*map(str, started), *map(str, arguments)]

    @property
    def environment(self) -> Mapping[str, str]:
        """What the programs need to find their own files."""
        own = {"PYTHONHOME": str(self.root / "usr"), "MKE2FS_CONFIG": str(self.root / "etc/mke2fs.conf")}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return {**inherited, **own, "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}

    def run(self, program: str, *arguments: str | Path, accept: Sequence[int] = (0,)) -> str:
        """Runs `program` to its end and gives its output. Raises: Unprepared when it fails."""
        command = self.command(program, *arguments)
        done = subprocess.run(command, capture_output=True, text=True, env=dict(self.environment))
        if done.returncode not in accept:
            raise Unprepared(f"{Path(program).name} failed ({done.returncode}): {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def _one(self, pattern: str) -> Path:
        found = sorted(self.root.glob(pattern))
        if not found:
            raise Unprepared(f"no {pattern} in {self.root}: build again with an empty cache")
        return found[0]
