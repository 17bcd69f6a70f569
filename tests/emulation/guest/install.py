"""Installs mapper as docs/boards.md says: the wheel is unpacked, no pip, no compiler; standard library only."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from commands import succeed
from report import check

HOME = Path("/tmp/mapper")
SCRIPT = f"""#!/bin/sh
PYTHONPATH={HOME}/lib exec python3 -m mapper "$@"
"""


def main() -> None:
    """Unpacks the wheel, compiles it as pip would, and writes the command."""
    with check("mapper is installed from its wheel") as told:
        (wheel,) = Path.cwd().glob("mapper-*.whl")
        zipfile.main(["-e", str(wheel), str(HOME / "lib")])
        subprocess.run([sys.executable, "-m", "compileall", "-q", "-j", "2", HOME / "lib"], check=True)
        script = HOME / "bin" / "mapper"
        script.parent.mkdir()
        script.write_text(SCRIPT)
        script.chmod(0o755)
        told.require(shutil.which("mapper") == str(script), f"mapper is {shutil.which('mapper')}")
        told.require("Which cores of a many-core CPU" in succeed("--help").out, "its help is not mapper's")
        told.detail = f"{wheel.name}, Python {sys.version.split()[0]}"


if __name__ == "__main__":
    main()
