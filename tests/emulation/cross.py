"""The C++ export of a plan, compiled for riscv64: Debian's cross compiler, and libtorch of the guest's release.

Both are unpacked into the cache. The compiler runs in a root of its own (chroot in a user namespace), since its parts
start each other by their paths; nothing is installed.
"""

from __future__ import annotations

import subprocess
from functools import partial
from pathlib import Path

from tests.emulation import apt
from tests.emulation.build import Cache, alone, keep
from tests.emulation.prerequisites import Unprepared, cache_folder, missing_packages, require_prerequisites

COMPILER = ("base-files", "dash", "coreutils", "g++-riscv64-linux-gnu", "cmake", "make")
LIBRARIES = ("base-files", "libtorch-dev")
TOOLCHAIN = """\
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR riscv64)
set(CMAKE_LIBRARY_ARCHITECTURE riscv64-linux-gnu)
set(CMAKE_C_COMPILER riscv64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER riscv64-linux-gnu-g++)
set(CMAKE_FIND_ROOT_PATH /sysroot)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
# libtorch's own libraries are found in the guest
set(CMAKE_EXE_LINKER_FLAGS_INIT
    "-Wl,--allow-shlib-undefined -Wl,-rpath-link,/sysroot/usr/lib/riscv64-linux-gnu")
"""
_BUILD = (
    "cmake -S /project -B /project/build -DCMAKE_TOOLCHAIN_FILE=/project/riscv64.cmake "
    "-DCMAKE_PREFIX_PATH=/sysroot/usr -DTorch_DIR=/sysroot/usr/lib/riscv64-linux-gnu/cmake/Torch "
    "&& cmake --build /project/build"
)
_ENTER = (
    'mkdir -p "$1/project" && mount --rbind /dev "$1/dev" && mount --bind "$2" "$1/sysroot" && '
    'mount --bind "$3" "$1/project" && '
    'exec chroot "$1" /usr/bin/env -i HOME=/tmp PATH=/usr/bin LANG=C.UTF-8 /bin/sh -c "$4"'
)


def compile_export(project: Path) -> Path:
    """Builds the CMake project that `mapper export --to cpp` wrote to `project`; gives the program for riscv64.

    Raises: Unprepared when the compiler cannot be had or started, or does not compile it.
    """
    compiler, libraries = _made("cross-compiler", COMPILER), _made("cross-libraries", LIBRARIES)
    (project / "riscv64.cmake").write_text(TOOLCHAIN, encoding="utf-8")
    words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _ENTER, "sh", compiler, libraries, project]
    done = subprocess.run([*map(str, words), _BUILD], capture_output=True, text=True)
    program = project / "build/pipeline"
    if done.returncode or not program.is_file():
        raise Unprepared(f"the C++ export was not compiled for riscv64:\n{(done.stdout + done.stderr)[-3000:]}")
    return program


def _made(name: str, packages: tuple[str, ...]) -> Path:
    """The folder of the cache with `packages` unpacked, made where it is missing."""
    cache, key = Cache(cache_folder()), " ".join((apt.SUITE, *packages))
    with alone(cache):
        if not cache.made(name, key):
            require_prerequisites(missing_packages())
            keep(cache, name, key, partial(_unpack, packages))
    return cache.folder / name


def _unpack(packages: tuple[str, ...], work: Path, made: Path) -> None:
    apt.unpack(packages, apt.host_architecture() if packages is COMPILER else "riscv64", made, work)
    for missing in ("dev", "project", "sysroot", "tmp"):
        (made / missing).mkdir(exist_ok=True)
    if not (made / "usr/bin/sh").exists():
        (made / "usr/bin/sh").symlink_to("dash")
