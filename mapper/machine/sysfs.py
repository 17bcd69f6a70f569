"""What Linux says about a machine's PUs, caches and NUMA nodes, read from `sys` and `proc` under a root folder.

Kernels differ in what they show. A file that is missing or unreadable means "not known" here, never an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from mapper.errors import BadInput
from mapper.machine.kernel import number, text
from mapper.machine.pus import parse_pus
from mapper.machine.seen import SYSFS, Pus, Seen, SeenCache, SeenCpu, SeenNode, SeenPu

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def read(root: Path, cpu: SeenCpu) -> Seen:
    """What the kernel whose `sys` and `proc` are in `root` says of its PUs and nodes.

    Raises: BadInput when there is neither `sys/devices/system/cpu` nor `proc/cpuinfo`.
    """
    system = root / "sys/devices/system"
    online = online_pus(root)
    packages = _packages(system / "cpu", online)
    pus = {number: _pu(system / "cpu" / f"cpu{number}", number, packages[number], online) for number in sorted(online)}
    return Seen(pus, tuple(_nodes(system / "node", online)), _memory(root / "proc/meminfo"), cpu, SYSFS)


def online_pus(root: Path) -> Pus:
    """The PUs that are online, by `cpu/online`, else by the folders `cpuN`, else by `proc/cpuinfo`.

    Raises: BadInput when none of them is there.
    """
    folder = root / "sys/devices/system/cpu"
    if listed := _list(folder / "online"):
        return listed
    if numbers := [n for n in _numbered(folder, "cpu") if text(folder / f"cpu{n}/online") != "0"]:
        return frozenset(numbers)
    cpuinfo = text(root / "proc/cpuinfo") or ""
    if numbers := [int(n) for n in re.findall(r"^processor\s*:\s*(\d+)", cpuinfo, re.MULTILINE)]:
        return frozenset(numbers)
    raise BadInput(str(root), "neither sys/devices/system/cpu nor proc/cpuinfo shows a CPU",
                   advice="The root must be that of a Linux system, or a folder with its sys and proc.")  # fmt: skip


def _list(path: Path) -> Pus | None:
    """The PUs of the CPU list in `path`; None where it is absent, empty or not one."""
    try:
        return frozenset(parse_pus(text(path) or "")) or None
    except ValueError:
        return None


def _pus(folder: Path, *stems: str) -> Pus | None:
    """The PUs that `folder` gives under the first of `stems` it knows: a list, or (old kernels) only a mask."""
    for stem in stems:
        listed = _list(folder / (stem.removesuffix("map") + "list" if stem.endswith("map") else f"{stem}_list"))
        if listed:
            return listed
        mask = (text(folder / stem) or "").replace(",", "")
        if re.fullmatch(r"[0-9a-fA-F]+", mask) and int(mask, 16):
            return frozenset(bit for bit, digit in enumerate(reversed(f"{int(mask, 16):b}")) if digit == "1")
    return None


def _numbered(folder: Path, stem: str) -> list[int]:
    """The numbers N of the entries `stem`N in `folder`, ascending."""
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError:
        return []
    return sorted(int(match[1]) for name in names if (match := re.fullmatch(rf"{stem}(\d+)", name)))


def _packages(folder: Path, online: Pus) -> dict[int, Pus]:
    """For each online PU, the online PUs of its package: as listed, else those with one package id, else all."""
    ids = {n: number(folder / f"cpu{n}/topology/physical_package_id") for n in online}
    same = {key: frozenset(n for n in online if ids[n] == key) for key in set(ids.values())}
    found: dict[int, Pus] = {}
    for n in sorted(online):
        if n not in found:
            listed = _pus(folder / f"cpu{n}/topology", "package_cpus", "core_siblings")
            package = ((listed or same[ids[n]]) & online).difference(found) | {n}
            found |= dict.fromkeys(package, package)
    return found


def _pu(folder: Path, number: int, package: Pus, online: Pus) -> SeenPu:
    own = frozenset([number])
    core = (_pus(folder / "topology", "core_cpus", "thread_siblings") or own) & package | own
    cluster = _pus(folder / "topology", "cluster_cpus")
    return SeenPu(number, core, cluster and (cluster & online | core), package, _caches(folder / "cache", core, online))


def _caches(folder: Path, core: Pus, online: Pus) -> tuple[SeenCache, ...]:
    found = []
    for n in _numbered(folder, "index"):
        index = folder / f"index{n}"
        level, size = number(index / "level"), _bytes(text(index / "size") or "")
        if level is not None and 1 <= level <= 5 and size and text(index / "type") != "Instruction":
            shared = _pus(index, "shared_cpu_map") or core
            found.append(SeenCache(level, size, shared & online | core))
    return tuple(found)


def _bytes(size: str) -> int | None:
    match = re.fullmatch(r"(\d+)([KMG]?)", size)
    return int(match[1]) * _UNITS[match[2]] if match else None


def _nodes(folder: Path, online: Pus) -> Iterable[SeenNode]:
    for n in _numbered(folder, "node"):
        row = (text(folder / f"node{n}/distance") or "").split()
        distances = tuple(float(part) for part in row if re.fullmatch(r"\d+", part))
        pus = (_pus(folder / f"node{n}", "cpumap") or frozenset()) & online
        yield SeenNode(n, pus, _memory(folder / f"node{n}/meminfo"), distances)


def _memory(path: Path) -> int | None:
    match = re.search(r"MemTotal:\s*(\d+) kB", text(path) or "")
    return int(match[1]) * 1024 or None if match else None
