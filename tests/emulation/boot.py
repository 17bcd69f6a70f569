"""Boots the emulated machine with a payload and brings back what it leaves in `/out`."""

from __future__ import annotations

import contextlib
import gzip
import io
import shutil
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.emulation import fdt
from tests.emulation.board import HARTS, Board, describe
from tests.emulation.build import Cache
from tests.emulation.cpio import archive
from tests.emulation.prerequisites import PROGRAMS, Unprepared, require_prerequisites

INIT = Path(__file__).parent / "guest/init"
MEMORY = "8G"
RESULT_BYTES = 256 << 20
"""The largest size of `/out`."""

# The SG2042's harts have neither a hypervisor nor the standard bit manipulation and vector extensions, and Sv39 pages.
CPU = "rv64,v=off,h=off,zba=off,zbb=off,zbc=off,zbs=off,zfa=off,sv57=off,sv48=off"

# The harts wake each other by messages of their own interrupt controllers. Through the firmware, as on the SG2042, each
# message takes one lock whose holder, and whoever is next, often waits for a real core while all others spin.
MACHINE = "virt,acpi=off,aia=aplic-imsic"

# Watchdogs, stall detectors and NUMA balancing take time to mean something, which it does not here.
KERNEL_LINE = (
    "console=ttyS0 quiet loglevel=4 panic=-1 nowatchdog rcupdate.rcu_cpu_stall_suppress=1 numa_balancing=disable"
)

CONSOLE = "console.log"
"""The file among what came back with all that the console showed."""

STATUS = ".status"
"""The file in `/out` with the payload's exit status."""


@dataclass(frozen=True)
class Ended:
    """How a machine ended: the payload's exit status, None where there is none; why; and seconds of wall time."""

    status: int | None
    reason: str
    seconds: float


def boot(
    board: Board, payload: Path, out: Path, cache: Cache, limit_s: float, tell: Callable[[str], None] = print
) -> Ended:
    """Boots `board`, runs `payload/run.sh` there as /payload/run.sh, and copies the guest's /out into `out`.

    `tell` is given each line of the console, which CONSOLE keeps. The emulator ends with this process,
    however that ends. Raises: Unprepared when the payload has no run.sh or the emulator cannot start.
    """
    if shutil.which("setpriv") is None:
        require_prerequisites([PROGRAMS["setpriv"]])
    if not (payload / "run.sh").is_file():
        raise Unprepared(f"{payload} has no run.sh")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mapper-emulated.") as made:
        work = Path(made)
        command = [*emulator(cache), *_disks(cache, payload, work), *_start(cache, board, work)]
        started = time.monotonic()
        with open(out / CONSOLE, "w", encoding="utf-8") as log:

            def keep(line: str) -> None:
                print(line, file=log, flush=True)
                tell(line)

            code = watch(command, cache.tools.environment, limit_s, keep)
        seconds = time.monotonic() - started
        status = _fetch(work / "result.img", out)
    if status is not None:
        return Ended(status, f"the payload ended with {status}", seconds)
    if code is None:
        return Ended(None, f"stopped after {limit_s:g} s", seconds)
    return Ended(None, f"the machine stopped without a result (emulator: {code})", seconds)


def emulator(cache: Cache) -> list[str]:
    """The command of the emulator with the machine: 64 harts, firmware, no network."""
    machine = ["-machine", MACHINE, "-cpu", CPU, "-smp", str(HARTS), "-m", MEMORY]
    quiet = ["-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot"]
    return cache.tools.command("usr/bin/qemu-system-riscv64", *machine, *quiet, "-bios", cache.tools.firmware)


def device_tree(cache: Cache, board: Board, work: Path) -> bytes:
    """The device tree of `board`: that of the emulator's machine, rewritten."""
    dumped = work / "virt.dtb"
    command = [*emulator(cache), "-machine", f"dumpdtb={dumped}"]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(cache.tools.environment))
    if not dumped.is_file():
        raise Unprepared(f"the emulator does not start: {done.stderr.strip()}")
    tree = fdt.read(dumped.read_bytes())
    describe(tree, board)
    return fdt.write(tree)


def initramfs(cache: Cache) -> bytes:
    """What the kernel starts from: `guest/init`, busybox and the modules of the root disk."""
    kernel = cache.kernel
    files = {
        "init": INIT.read_bytes(),
        "bin/busybox": (kernel / "busybox").read_bytes(),
        "modules/list": (kernel / "modules.list").read_bytes(),
        **{f"modules/{path.name}": path.read_bytes() for path in sorted((kernel / "modules").iterdir())},
    }
    folders = ["bin", "dev", "modules", "proc", "root", "sys"]
    return gzip.compress(archive(folders, files, {"bin/sh": "busybox"}), compresslevel=6, mtime=0)


def pack(payload: Path) -> bytes:
    """The payload as a tar archive, padded to whole MiB as a disk needs it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(payload, arcname=".", filter=_rooted)
    return out.getvalue().ljust(-(-len(out.getvalue()) // (1 << 20)) << 20, b"\0")


def _rooted(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Files belong to root in the guest; byte code of the host's Python stays here."""
    if "__pycache__" in Path(entry.name).parts:
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def _disks(cache: Cache, payload: Path, work: Path) -> Iterator[str]:
    """The options of the three disks."""
    (work / "payload.img").write_bytes(pack(payload))
    with open(work / "result.img", "wb") as file:
        file.truncate(RESULT_BYTES)
    disks = {"root": cache.root, "payload": work / "payload.img", "result": work / "result.img"}
    for name, path in disks.items():
        kept = "cache=unsafe" if name == "result" else "readonly=on"
        yield from ("-drive", f"if=none,id={name},format=raw,{kept},file={path}")
        yield from ("-device", f"virtio-blk-device,drive={name},serial={name}")


def _start(cache: Cache, board: Board, work: Path) -> Iterator[str]:
    """The options of kernel, initramfs and device tree."""
    (work / "board.dtb").write_bytes(device_tree(cache, board, work))
    (work / "initramfs.gz").write_bytes(initramfs(cache))
    yield from ("-accel", "tcg,thread=multi", "-serial", "stdio", "-dtb", str(work / "board.dtb"))
    yield from ("-kernel", str(cache.kernel / "vmlinux"), "-initrd", str(work / "initramfs.gz"))
    yield from ("-append", KERNEL_LINE)


def watch(
    command: Sequence[str], environment: Mapping[str, str], limit_s: float, tell: Callable[[str], object]
) -> int | None:
    """Runs `command` and tells its lines; gives its exit code, None when it was stopped after `limit_s`.

    It ends with the thread that calls, however that ends: setpriv has the kernel see to that.
    """
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *command], env=dict(environment), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace",
        start_new_session=True,
    )  # fmt: skip
    over = threading.Event()

    def stop() -> None:
        over.set()
        process.kill()

    timer = threading.Timer(limit_s, stop)
    timer.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            tell(line.rstrip())
        code = process.wait()
    finally:
        timer.cancel()
        process.kill()
        process.wait()
    return None if over.is_set() else code


def _fetch(image: Path, out: Path) -> int | None:
    """Unpacks what the guest wrote and gives the payload's status; None when it wrote nothing whole."""
    kept = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # since Python 3.11.4
    with contextlib.suppress(tarfile.TarError), tarfile.open(image) as tar:
        tar.extractall(out, **kept)  # type: ignore[arg-type]
        status = out / STATUS
        if status.is_file():
            code = int(status.read_text(encoding="utf-8"))
            status.unlink()
            return code
    return None
