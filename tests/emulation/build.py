"""Emulator, kernel and root file system, made once and kept in a cache outside of the repository."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.emulation import apt, guestroot
from tests.emulation.modules import modules_in_order
from tests.emulation.prerequisites import Unprepared, missing_packages, require_prerequisites
from tests.emulation.tools import Tools

TOOLS = ("qemu-system-riscv", "opensbi", "e2fsprogs", "python3")
"""Packages with programs that run on the host."""

KERNEL = ("linux-image-riscv64", "busybox-static")
"""Packages that the guest starts with."""

GUEST = (
    "base-files", "bash", "busybox-static", "coreutils", "dash", "libopenblas0-openmp", "numactl", "procps",
    "python3", "python3-networkx", "python3-numpy", "python3-pydantic", "python3-rich", "python3-torch",
    "python3-typer", "util-linux",
)  # fmt: skip
"""Packages of the guest: what a board needs to run plans, and tools to look at it."""

MODULES = ("virtio_mmio", "virtio_blk", "crc32c_generic", "ext4")
"""Kernel modules that the root disk needs."""

ROOT_SIZE = "1536M"
PARTS = ("tools", "kernel", "root.ext4")


@dataclass(frozen=True)
class Cache:
    """What was built, in `folder`."""

    folder: Path

    @property
    def tools(self) -> Tools:
        """Emulator and tools."""
        return Tools(self.folder / "tools")

    @property
    def kernel(self) -> Path:
        """The folder with `vmlinux`, `busybox` and `modules`."""
        return self.folder / "kernel"

    @property
    def root(self) -> Path:
        """The image of the guest's root file system."""
        return self.folder / "root.ext4"

    def made(self, part: str, key: str) -> bool:
        """Whether `part` is there, made with the same `key`."""
        stamp = self.folder / f"{part}.key"
        return (self.folder / part).exists() and stamp.is_file() and stamp.read_text(encoding="utf-8") == key


def build(cache: Cache, tell: Callable[[str], None]) -> None:
    """Makes what is missing or was made from other packages. Two that build at once wait for each other.

    Raises: Unprepared when the host lacks something or a package cannot be had.
    """
    makers = {"tools": _make_tools, "kernel": _make_kernel, "root.ext4": _make_root}
    cache.folder.mkdir(parents=True, exist_ok=True)
    with alone(cache):
        for number, (part, make) in enumerate(makers.items(), start=1):
            key = part_key(part)
            if cache.made(part, key):
                continue
            require_prerequisites(missing_packages())
            tell(f"{number} of {len(makers)}: {part}")
            started = time.monotonic()
            keep(cache, part, key, partial(make, cache))
            tell(f"{part} took {time.monotonic() - started:.0f} s")


def keep(cache: Cache, part: str, key: str, make: Callable[[Path, Path], None]) -> None:
    """Makes `part` anew and keeps it with its `key`: `make` is given a folder to work in and where to leave it."""
    with tempfile.TemporaryDirectory(prefix="build.", dir=cache.folder) as work:
        made = Path(work) / "made"
        make(Path(work), made)
        _replace(cache.folder / part, made)
    (cache.folder / f"{part}.key").write_text(key, encoding="utf-8")


def built(cache: Cache) -> Cache:
    """`cache`, if all is there. Raises: Unprepared otherwise."""
    lacking = [part for part in PARTS if not cache.made(part, part_key(part))]
    if lacking:
        raise Unprepared(f"{cache.folder} lacks {', '.join(lacking)}\nMake it: python -m tests.emulation build")
    return cache


def part_key(part: str) -> str:
    """What a part is made from; it is made again when that changes."""
    packages = {"tools": TOOLS, "kernel": (*KERNEL, *MODULES), "root.ext4": (*GUEST, ROOT_SIZE)}[part]
    source = [Path(guestroot.__file__).read_bytes()] if part == "root.ext4" else []
    return hashlib.sha256(b"\n".join([*map(str.encode, [apt.SUITE, *packages]), *source])).hexdigest()


def _make_tools(cache: Cache, work: Path, made: Path) -> None:
    apt.unpack(TOOLS, apt.host_architecture(), made, work)
    for name in ("doc", "locale", "man"):
        shutil.rmtree(made / "usr/share" / name, ignore_errors=True)
    Tools(made).run("usr/bin/qemu-system-riscv64", "--version")


def _make_kernel(cache: Cache, work: Path, made: Path) -> None:
    unpacked = work / "unpacked"
    apt.unpack(KERNEL, "riscv64", unpacked, work)
    version = max((unpacked / "usr/lib/modules").iterdir()).name
    (made / "modules").mkdir(parents=True)
    shutil.copy(unpacked / f"boot/vmlinux-{version}", made / "vmlinux")
    shutil.copy(unpacked / "usr/bin/busybox", made / "busybox")
    modules = modules_in_order(unpacked / "usr/lib/modules" / version, MODULES)
    for name, content in modules.items():
        (made / "modules" / f"{name}.ko").write_bytes(content)
    (made / "modules.list").write_text("".join(f"{name}.ko\n" for name in modules), encoding="utf-8")
    (made / "version").write_text(version + "\n", encoding="utf-8")


def _make_root(cache: Cache, work: Path, made: Path) -> None:
    unpacked = work / "unpacked"
    apt.unpack(GUEST, "riscv64", unpacked, work)
    guestroot.prepare_root(unpacked, cache.tools)
    options = ["-q", "-F", "-t", "ext4", "-L", "guest-root", "-m", "0", "-O", "^has_journal,^metadata_csum"]
    cache.tools.run("usr/sbin/mke2fs", *options, "-E", "root_owner=0:0", "-d", unpacked, made, ROOT_SIZE)


def _replace(place: Path, made: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place)
    made.replace(place)


@contextlib.contextmanager
def alone(cache: Cache) -> Iterator[None]:
    """Holds the lock of the cache, waiting for whoever holds it."""
    with (cache.folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
