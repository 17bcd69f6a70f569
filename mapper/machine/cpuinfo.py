"""What `proc/cpuinfo`, `cpufreq` and the kernel's core types say about the cores: model, instruction set, clock."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from mapper.machine import defaults
from mapper.machine.figures import Figure
from mapper.machine.kernel import number, text
from mapper.machine.pus import parse_pus
from mapper.machine.seen import Pus, SeenCpu, SeenKind

_TYPES = {"cpu_core": "P-core", "cpu_atom": "E-core", "cpu_lowpower": "low-power core"}
"""Performance monitors of Intel's core types, and what these cores are called."""


def read(root: Path) -> SeenCpu:
    """The CPU of the system whose `sys` and `proc` are in `root`; defaults stand in for what is not shown."""
    fields = _fields(text(root / "proc/cpuinfo") or "")
    isa = _first(fields, "isa")
    features = features_of(isa) if isa else frozenset(_first(fields, "flags", "Features").split())
    return SeenCpu(_model(fields), isa or _isa(features), features, _frequency(root, fields))


def features_of(isa: str) -> frozenset[str]:
    """The CPU flags in `isa`: words as they stand, single letters and extensions of RISC-V as `riscv-…`; what an
    architecture always has is added."""
    words = frozenset(re.split(r"[\s,()]+", isa.lower()))
    riscv = next((m for word in words if (m := re.fullmatch(r"rv(?:32|64)([a-z]+)((?:_[a-z0-9]+)*)", word))), None)
    if riscv:
        return frozenset(f"riscv-{name}" for name in [*riscv[1], *riscv[2].split("_")] if name)
    always = {"x86_64": "sse2", "aarch64": "asimd"}
    return words | {always[word] for word in words if word in always}


def harts(root: Path) -> dict[int, int]:
    """For each PU the number of its hart, where `proc/cpuinfo` gives one (RISC-V), which no boot order changes."""
    fields = _fields(text(root / "proc/cpuinfo") or "")
    pus, numbers = fields.get("processor", []), fields.get("hart", [])
    if len(pus) != len(numbers) or not all(n.isdigit() for n in pus + numbers):
        return {}
    return {int(pu): int(hart) for pu, hart in zip(pus, numbers, strict=True)}


def kinds(root: Path, online: Iterable[int]) -> tuple[SeenKind, ...]:
    """The kinds of core of a hybrid machine, fastest first; none where all are alike."""
    folder = root / "sys/devices/system/cpu"
    capacity = {n: number(folder / f"cpu{n}/cpu_capacity") or 0 for n in online}
    fastest = {n: number(folder / f"cpu{n}/cpufreq/cpuinfo_max_freq") or 0 for n in capacity}
    base = {n: number(folder / f"cpu{n}/cpufreq/base_frequency") or 0 for n in capacity}
    types = _types(root, frozenset(capacity))
    if all(capacity.values()) and len(set(capacity.values())) > 1:
        found = {f"capacity {c}": _with(capacity, c) for c in sorted(set(capacity.values()), reverse=True)}
        source, speed = "cpu_capacity in sys/devices/system/cpu", capacity
    elif len(types) > 1 and all(fastest.values()):
        found, source, speed = types, "cpuinfo_max_freq; a cycle of these cores may also do less", fastest
    elif all(base.values()) and all(fastest.values()) and len(set(base.values())) > 1:
        found = {f"{b / 1e6:g} GHz": _with(base, b) for b in sorted(set(base.values()), reverse=True)}
        source, speed = "cpuinfo_max_freq; base_frequency tells the kinds apart", fastest
    else:
        return ()
    tops = {name: max(speed[n] for n in pus) for name, pus in found.items()}
    best = max(tops.values())
    made = [
        SeenKind(name, pus, Figure(value=tops[name] / best, kind="inferred", source=source))
        for name, pus in found.items()
    ]
    return tuple(sorted(made, key=lambda kind: -kind.speed.value))


def _with(values: dict[int, int], value: int) -> Pus:
    return frozenset(n for n, own in values.items() if own == value)


def _types(root: Path, online: Pus) -> dict[str, Pus]:
    found = {}
    for folder, name in _TYPES.items():
        try:
            pus = frozenset(parse_pus(text(root / "sys/devices" / folder / "cpus") or "")) & online
        except ValueError:
            pus = frozenset()
        if pus:
            found[name] = pus
    return found if sum(map(len, found.values())) == len(online) else {}


def _fields(content: str) -> dict[str, list[str]]:
    """The values of each field of `proc/cpuinfo`, in the order of its PUs."""
    fields: dict[str, list[str]] = {}
    for key, value in re.findall(r"^([^:\n]+?)[ \t]*:[ \t]*(.*?)[ \t]*$", content, re.MULTILINE):
        fields.setdefault(key, []).append(value)
    return fields


def _first(fields: dict[str, list[str]], *keys: str) -> str:
    return next((fields[key][0] for key in keys if fields.get(key)), "")


def _model(fields: dict[str, list[str]]) -> str:
    named = _first(fields, "model name", "Processor", "cpu model", "uarch", "cpu")
    maker, part = _first(fields, "CPU implementer"), _first(fields, "CPU part")
    return " ".join(named.split()) or (f"implementer {maker} part {part}" if maker and part else "")


def _isa(features: frozenset[str]) -> str:
    family = "x86_64" if "lm" in features else "aarch64" if "asimd" in features else ""
    return " ".join([family, *(name for name in defaults.NAMED_FEATURES if name in features)]).strip()


def _frequency(root: Path, fields: dict[str, list[str]]) -> Figure:
    folder = root / "sys/devices/system/cpu"
    for name in ("base_frequency", "cpuinfo_max_freq"):
        found = [number(path) or 0 for path in sorted(folder.glob(f"cpu[0-9]*/cpufreq/{name}"))]
        if any(found):
            return Figure(value=max(found) * 1e3, kind="specified", source=f"{name} in sys/devices/system/cpu")
    rated = re.search(r"@ (\d+(?:\.\d+)?) ?GHz", _first(fields, "model name"))
    if rated and float(rated[1]) > 0:
        return Figure(value=round(float(rated[1]) * 1e9), kind="specified", source="model name in proc/cpuinfo")
    clocks = [float(value) for value in fields.get("cpu MHz", []) if re.fullmatch(r"\d+(\.\d+)?", value)]
    if any(clocks):
        return Figure(value=max(clocks) * 1e6, kind="inferred", source="cpu MHz in proc/cpuinfo, of the fastest core")
    return defaults.FREQUENCY_HZ
