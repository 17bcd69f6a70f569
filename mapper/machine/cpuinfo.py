"""What `proc/cpuinfo` and `cpufreq` say about the cores: model, instruction set, frequency."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mapper.machine import defaults, sysfs
from mapper.machine.defaults import Simd
from mapper.machine.model import Figure


@dataclass(frozen=True)
class CpuInfo:
    """The CPU's `model` as the kernel names it ("" where it does not), its instruction set, the frequency of its
    fastest core, and the vector unit that this implies."""

    model: str
    isa: str
    frequency_hz: Figure
    simd: Simd


def read(root: Path) -> CpuInfo:
    """The CPU of the system whose `sys` and `proc` are in `root`; defaults stand in for what is not shown."""
    fields = _fields(sysfs.text(root / "proc/cpuinfo") or "")
    features = _features(fields)
    simd = next(simd for simd in defaults.SIMD if simd.features <= features)
    return CpuInfo(_model(fields), _isa(fields, features), _frequency(root, fields), simd)


def _fields(text: str) -> dict[str, list[str]]:
    """The values of each field of `proc/cpuinfo`, in the order of its PUs."""
    fields: dict[str, list[str]] = {}
    for key, value in re.findall(r"^([^:\n]+?)[ \t]*:[ \t]*(.*?)[ \t]*$", text, re.MULTILINE):
        fields.setdefault(key, []).append(value)
    return fields


def _first(fields: dict[str, list[str]], *keys: str) -> str:
    return next((fields[key][0] for key in keys if fields.get(key)), "")


def _model(fields: dict[str, list[str]]) -> str:
    named = _first(fields, "model name", "Processor", "cpu model", "uarch", "cpu")
    maker, part = _first(fields, "CPU implementer"), _first(fields, "CPU part")
    return " ".join(named.split()) or (f"implementer {maker} part {part}" if maker and part else "")


def _features(fields: dict[str, list[str]]) -> frozenset[str]:
    """Flags of x86 and Arm as they stand; single letters and `x…` extensions of a RISC-V `isa` as `riscv-…`."""
    isa = re.fullmatch(r"rv(?:32|64)([a-z]+)((?:_[a-z0-9]+)*)", _first(fields, "isa"))
    if isa:
        return frozenset(f"riscv-{name}" for name in [*isa[1].partition("_")[0], *isa[2].split("_")] if name)
    return frozenset(_first(fields, "flags", "Features").split())


def _isa(fields: dict[str, list[str]], features: frozenset[str]) -> str:
    if _first(fields, "isa"):
        return _first(fields, "isa")
    family = "x86_64" if "lm" in features else "aarch64" if "asimd" in features else ""
    return " ".join([family, *(name for name in defaults.NAMED_FEATURES if name in features)]).strip()


def _frequency(root: Path, fields: dict[str, list[str]]) -> Figure:
    folder = root / "sys/devices/system/cpu"
    for name in ("base_frequency", "cpuinfo_max_freq"):
        found = [sysfs.number(path) or 0 for path in sorted(folder.glob(f"cpu[0-9]*/cpufreq/{name}"))]
        if any(found):
            return Figure(value=max(found) * 1e3, kind="specified", source=f"{name} in sys/devices/system/cpu")
    if rated := re.search(r"@ ([\d.]+) ?GHz", _first(fields, "model name")):
        return Figure(value=round(float(rated[1]) * 1e9), kind="specified", source="model name in proc/cpuinfo")
    clocks = [float(value) for value in fields.get("cpu MHz", []) if re.fullmatch(r"\d+(\.\d+)?", value)]
    if any(clocks):
        return Figure(value=max(clocks) * 1e6, kind="inferred", source="cpu MHz in proc/cpuinfo, of the fastest core")
    return defaults.FREQUENCY_HZ
