"""The guest's root file system: unpacked packages, with the little that configuring them would have added.

Nothing of the guest is executed here, so its architecture does not matter.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.emulation.prerequisites import Unprepared
from tests.emulation.tools import Tools

DROPPED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "var/cache/apt", "var/lib/apt")
FOLDERS = ("payload", "out", "tmp", "root", "run", "proc", "sys", "dev", "etc")
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/hostname": "sg2042-emulated\n",
}
LIBRARIES = "usr/lib/riscv64-linux-gnu"
BLAS = ("libblas.so.3", "liblapack.so.3", "libopenblas.so.0")
"""Names that update-alternatives links to the chosen BLAS; here OpenBLAS with OpenMP threads, as torch has."""

COMPILED = ("torch", "numpy", "networkx", "pydantic", "typer", "rich")
"""Packages whose byte code must be there: the guest would take minutes to compile them at each start."""


def prepare_root(root: Path, tools: Tools) -> None:
    """Completes the unpacked packages in `root`. Raises: Unprepared when something expected is not there."""
    for name in DROPPED:
        shutil.rmtree(root / name, ignore_errors=True)
    for name in FOLDERS:
        (root / name).mkdir(exist_ok=True)
    for name, content in FILES.items():
        (root / name).write_text(content, encoding="utf-8")
    _link(root / "usr/bin/python", "python3")
    if not (root / "usr/bin/sh").exists():
        _link(root / "usr/bin/sh", "dash")
    for name in BLAS:
        if not (root / LIBRARIES / "openblas-openmp" / name).exists():
            raise Unprepared(f"no {name} among the guest's packages")
        _link(root / LIBRARIES / name, f"openblas-openmp/{name}")
    compile_python(root, tools)


def compile_python(root: Path, tools: Tools) -> None:
    """Writes the byte code of all Python packages in `root`; it is the same for all architectures.

    A few library files are templates and do not compile; that the packages which matter did is looked at.
    """
    packages = root / "usr/lib/python3/dist-packages"
    folders = [packages, *sorted((root / "usr/lib").glob("python3.*"))]
    options = ["-q", "--invalidation-mode", "unchecked-hash", "-s", str(root)]  # -j would start the host's Python
    tools.run("usr/bin/python3", "-m", "compileall", *options, *folders, accept=(0, 1))
    for name in COMPILED:
        if not list((packages / name / "__pycache__").glob("__init__.*.pyc")):
            raise Unprepared(f"the guest's Python package {name} has no byte code")


def _link(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)
