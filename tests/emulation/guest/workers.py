"""What the kernel says of mapper's workers while they run: CPUs, and where memory is; standard library only."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import kernel

PROC = Path("/proc")
_NAME = re.compile(r"mapper (\d+)\.(\d+)")
_STAT = re.compile(r"\d+ \((.*)\) \S (\d+) ", re.DOTALL)
_FILE = re.compile(r"file=/memfd:(\S+?)(?:\\040\(deleted\))?(?= |$)")

WEIGHTS, RINGS = "mapper-weights", "mapper"
"""Files in memory, by the names that mapper gives them."""

Place = tuple[int, int]
"""Stage and replica."""


@dataclass
class Seen:
    """A worker: its process, the CPUs that each of its threads may use, and of each file in memory that it maps, by
    name, how many of its pages are on which node."""

    pid: int
    cpus: dict[int, frozenset[int]] = field(default_factory=dict)
    pages: dict[str, dict[int, int]] = field(default_factory=dict)


def workers(mapper: int) -> dict[Place, int]:
    """The workers of the process `mapper`, by their names: children of the process that it starts them with."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for folder in PROC.glob("[0-9]*"):
        pid = int(folder.name)
        if pid > mapper and (stat := _STAT.match(_text(folder / "stat"))):
            names[pid], parents[pid] = stat[1], int(stat[2])
    found = {}
    for pid, name in names.items():
        at = _NAME.fullmatch(name)
        if at and parents.get(parents[pid]) == mapper:
            found[int(at[1]), int(at[2])] = pid
    return found


def look_at(seen: Seen) -> None:
    """Adds what is to be seen of a worker now."""
    for status in PROC.glob(f"{seen.pid}/task/[0-9]*/status"):
        allowed = re.search(r"^Cpus_allowed_list:\s*(\S+)$", _text(status), re.MULTILINE)
        if allowed:
            seen.cpus[int(status.parent.name)] = frozenset(kernel.numbers(allowed[1]))
    for name, nodes in pages(seen.pid).items():
        seen.pages[name] = nodes


def computes(seen: Seen, threads: int) -> bool:
    """Whether its team of `threads` is there and it has touched weights and a ring."""
    return len(seen.cpus) >= threads and all(seen.pages.get(name) for name in (WEIGHTS, RINGS))


def pages(pid: int) -> dict[str, dict[int, int]]:
    """Of each file in memory that the process maps, how many of the pages that it has touched are on which node."""
    found: dict[str, dict[int, int]] = {}
    for line in _text(PROC / f"{pid}/numa_maps").splitlines():
        name = _FILE.search(line)
        if name:
            nodes = found.setdefault(name[1], {})
            for node, count in re.findall(r"\bN(\d+)=(\d+)", line):
                nodes[int(node)] = nodes.get(int(node), 0) + int(count)
    return found


def doing(pid: int) -> str:
    """What the threads of a process do: how many are in which state and wait in what, and CPU seconds of all."""
    states: dict[str, int] = {}
    ticks = 0
    for task in PROC.glob(f"{pid}/task/[0-9]*"):
        state, *numbers = _text(task / "stat").rpartition(")")[2].split() or ["gone"]
        ticks += sum(map(int, numbers[10:12]))
        where = _text(task / "wchan")
        what = f"{state} {where}" if where not in ("", "0") else state
        states[what] = states.get(what, 0) + 1
    counted = ", ".join(f"{count} {what}" for what, count in sorted(states.items()))
    return f"{counted}, {ticks / os.sysconf('SC_CLK_TCK'):.1f} s"


def of_mapper() -> list[str]:
    """The processes that belong to mapper: workers by their names, others by their command lines."""
    found = []
    for folder in PROC.glob("[0-9]*"):
        name, words = _text(folder / "comm").strip(), _text(folder / "cmdline").split("\0")
        if _NAME.fullmatch(name) or any(word == "mapper" or word.startswith("mapper.") for word in words):
            found.append(f"{folder.name} {name} {' '.join(words[:5])}".strip())
    return found


def _text(path: Path) -> str:
    """The file, empty where the process is gone."""
    try:
        return path.read_text()
    except OSError:
        return ""
