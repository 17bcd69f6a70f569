"""A machine as plain text: one character a core, its groups side by side, its nodes in order."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Mapping, Sequence

from mapper.machine.model import Machine

CORE = "▇"
IDLE = "·"
STAGES = string.digits + string.ascii_letters
BEYOND = "+"

_BETWEEN_NODES = "   "


def drawing(machine: Machine, colour_of: Mapping[int, int] | None = None, width: int = 100) -> list[str]:
    """The heading (`heading`), an empty line and the cores (`blocks`) of `machine`, as lines of text."""
    return [*heading(machine), "", *blocks(machine, colour_of, width)]


def heading(machine: Machine) -> list[str]:
    """What `machine` is: its name with its counts, and its caches and memory with their sizes."""
    lines = [f"{machine.title or machine.name} ({shape(machine)})"]
    parts = [f"{cache.name} {_size(cache.bytes.value)} a {cache.shared_by}" for cache in machine.caches]
    sizes = {node.memory_bytes.value for node in machine.nodes if node.memory_bytes is not None}
    if sizes:
        low, high = _size(min(sizes)), _size(max(sizes))
        parts.append(f"memory {low if low == high else f'{low} to {high}'} a node")
    return [*lines, " · ".join(parts)] if parts else lines


def shape(machine: Machine) -> str:
    """The counts of `machine` in words: `64 cores: 4 NUMA nodes × 4 groups × 4 cores`."""
    counts = machine.counts
    levels = ["hosts", "packages", "nodes", "groups", "cores"]
    words = {"nodes": "NUMA node"}
    parts: list[str] = []
    for outer, inner in zip([None, *levels], levels, strict=False):
        number = counts[inner] / (counts[outer] if outer else 1)
        if number != 1 and (inner != "cores" or parts):
            parts.append(_number(number, words.get(inner, inner[:-1])))
    smt = "" if counts["pus"] == counts["cores"] else f", {_number(counts['pus'], 'PU')}"
    inside = f": {' × '.join(parts)}" if len(parts) > 1 else ""
    return _number(counts["cores"], "core") + inside + smt


def blocks(machine: Machine, colour_of: Mapping[int, int] | None = None, width: int = 100) -> list[str]:
    """The cores of `machine`, at most `width` characters a line where a single group is not wider.

    `colour_of` gives the stage of a core by its logical number; such a core shows as the stage's character
    (`0`-`9`, `a`-`z`, `A`-`Z`, then `+`), a core without stage as `·`. Without it every core is a block.
    """
    counts = machine.counts
    lines: list[str] = []
    for (host, package), nodes in _packages(machine).items():
        if counts["packages"] > 1:
            lines.append(f"host {host}, package {package}" if counts["hosts"] > 1 else f"package {package}")
        indent = "  " if counts["packages"] > 1 else ""
        drawn = [(f"node {n}", [_group(group, colour_of) for group in groups]) for n, groups in nodes]
        lines += [indent + line for line in _laid_out(drawn, width - len(indent))]
    return lines


def character(stage: int | None) -> str:
    """The character that stands for `stage`, None for a core without one."""
    if stage is None:
        return IDLE
    return STAGES[stage] if stage < len(STAGES) else BEYOND


def used_characters(stages: Iterable[int]) -> dict[str, list[int]]:
    """For a legend: each character with the stages that it stands for, in order."""
    legend: dict[str, list[int]] = {}
    for stage in sorted(set(stages)):
        legend.setdefault(character(stage), []).append(stage)
    return legend


def _packages(machine: Machine) -> dict[tuple[int, int], list[tuple[int, list[Sequence[int]]]]]:
    """For each package its nodes: their numbers, and the logical numbers of the cores of each group."""
    groups: dict[int, list[Sequence[int]]] = {}
    for number, group in zip(machine.node_of_group, machine.groups, strict=True):
        groups.setdefault(number, []).append(group)
    found: dict[tuple[int, int], list[tuple[int, list[Sequence[int]]]]] = {}
    for n, node in enumerate(machine.nodes):
        found.setdefault((node.host, node.package), []).append((n, groups.get(n, [])))
    return found


def _group(cores: Sequence[int], colour_of: Mapping[int, int] | None) -> str:
    if colour_of is None:
        return CORE * len(cores)
    return "".join(character(colour_of.get(core)) for core in cores)


def _laid_out(nodes: Sequence[tuple[str, list[str]]], width: int) -> Iterator[str]:
    """Nodes side by side, in columns, as many as fit; where not even one fits, its groups are wrapped."""
    labels = max(len(label) for label, _ in nodes)
    texts = [f"{label:{labels}} {' '.join(groups)}".rstrip() for label, groups in nodes]
    column = max(map(len, texts))
    fit = (width + len(_BETWEEN_NODES)) // (column + len(_BETWEEN_NODES))
    if fit >= 1:
        fit = -(-len(texts) // -(-len(texts) // fit))  # rows of equal length: 2 + 2, not 3 + 1
        for start in range(0, len(texts), fit):
            yield _BETWEEN_NODES.join(f"{text:{column}}" for text in texts[start : start + fit]).rstrip()
        return
    for label, groups in nodes:
        for i, line in enumerate(_wrapped(groups, width - labels - 1)):
            yield f"{label if i == 0 else '':{labels}} {line}"


def _wrapped(groups: Iterable[str], width: int) -> Iterator[str]:
    line = ""
    for group in groups:
        if line and len(line) + 1 + len(group) > width:
            yield line
            line = group
        else:
            line = f"{line} {group}".lstrip()
    yield line


def _number(count: float, word: str) -> str:
    """`4 groups`, `1 core`, or `about 2.5 groups` where levels are not regular."""
    if count != int(count):
        return f"about {count:.3g} {word}s"
    return f"{count:.0f} {word}{'' if count == 1 else 's'}"


def _size(count: float) -> str:
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count:.0f} B"
