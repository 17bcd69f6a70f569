"""Figures that a machine does not state about itself, until it is calibrated: one table, each with its source.

They are rough on purpose. What the kernel shows comes from `sysfs` and `cpuinfo`; what a calibration measures
replaces these.
"""

from __future__ import annotations

from dataclasses import dataclass

from mapper.machine.figures import Figure, Kind
from mapper.machine.parts import Compute, Distance, Link, Memory, Overheads

_MEASURED = "default; rough figure of an x86 server core (EPYC of 2023, one thread, PyTorch 2.13)"
_SCALAR = "default; as topologies/sg2042.json assumes for code without vector instructions"
_ROUGH = "default; rough figure of a server core"


def _assumed(value: float, source: str, low: float | None = None, high: float | None = None) -> Figure:
    return Figure(value=value, low=low, high=high, kind="assumed", source=source)


@dataclass(frozen=True)
class Simd:
    """A kind of vector unit: the `features` that show it, its fp32 FLOP a cycle, and what ATen makes of it."""

    features: frozenset[str]
    flop_per_cycle: float
    explanation: str
    efficiency: dict[str, Figure]
    seconds_per_element: dict[str, Figure]


_VECTOR_EFFICIENCY = {
    "matmul": _assumed(0.6, f"{_MEASURED}: 100 GFLOP/s", 0.4, 0.9),
    "conv": _assumed(0.6, f"{_MEASURED}: 110 GFLOP/s", 0.3, 0.9),
    "attention": _assumed(0.4, f"{_MEASURED}: 70 GFLOP/s", 0.2, 0.7),
    "attention.masked": _assumed(0.3, f"{_MEASURED}: 50 GFLOP/s in windows of 49", 0.1, 0.6),
    "conv.depthwise": _assumed(0.18, f"{_MEASURED}: 30 GFLOP/s", 0.05, 0.4),
    "conv.transposed": _assumed(0.4, f"{_MEASURED}: 70 GFLOP/s", 0.1, 0.6),
}
_VECTOR_ELEMENTS = {
    "elementwise": _assumed(0.15e-9, f"{_MEASURED}: relu, add 0.10 to 0.15 ns", 0.1e-9, 0.5e-9),
    "transcendental": _assumed(1.5e-9, f"{_MEASURED}: sigmoid 0.4, gelu 0.5 to 1.7, tanh 2.5 ns", 0.4e-9, 3e-9),
    "normalization": _assumed(0.7e-9, f"{_MEASURED}: BatchNorm 0.2 to 0.5, LayerNorm 0.6 to 0.8 ns", 0.2e-9, 1.5e-9),
    "softmax": _assumed(0.7e-9, f"{_MEASURED}: 0.6 ns", 0.5e-9, 1.5e-9),
    "copy": _assumed(0.15e-9, f"{_MEASURED}: 0.10 to 0.15 ns in cache", 0.1e-9, 0.5e-9),
    "embedding": _assumed(0.15e-9, f"{_MEASURED}: 0.12 ns", 0.1e-9, 0.5e-9),
    "elementwise.strided": _assumed(1.5e-9, f"{_MEASURED}: adding a transpose", 0.5e-9, 3e-9),
    "copy.strided": _assumed(1.5e-9, f"{_MEASURED}: copying a transpose", 0.5e-9, 3e-9),
    "normalization.batch": _assumed(0.2e-9, f"{_MEASURED}: 0.2 to 0.5 ns", 0.15e-9, 0.5e-9),
    "transcendental.sigmoid": _assumed(0.4e-9, f"{_MEASURED}: 0.4 ns", 0.2e-9, 1e-9),
    "transcendental.silu": _assumed(0.4e-9, f"{_MEASURED}: 0.4 ns", 0.2e-9, 1e-9),
    "transcendental.hardswish": _assumed(0.15e-9, f"{_MEASURED}: 0.13 ns", 0.1e-9, 0.5e-9),
    "transcendental.gelu": _assumed(0.6e-9, f"{_MEASURED}: 0.5 to 0.7 ns", 0.4e-9, 2e-9),
    "transcendental.tanh": _assumed(2.5e-9, f"{_MEASURED}: 2.5 ns", 1e-9, 4e-9),
    "transcendental.exp": _assumed(0.8e-9, f"{_MEASURED}: 0.8 ns", 0.4e-9, 2e-9),
    "transcendental.pow": _assumed(0.15e-9, f"{_MEASURED}: squares and cubes 0.10 ns", 0.1e-9, 2e-9),
    "pool": _assumed(2e-9, f"{_MEASURED}: 1.3 to 2.7 ns an element of a window", 0.5e-9, 4e-9),
    "reduce": _assumed(0.15e-9, f"{_MEASURED}: sum 0.05 to 0.13 ns", 0.05e-9, 0.5e-9),
}
_SCALAR_EFFICIENCY = {kind: _assumed(0.25, _SCALAR, 0.12, 0.5) for kind in ("matmul", "conv", "attention")}
_SCALAR_ELEMENTS = {
    kind: _assumed(value, _SCALAR)
    for kind, value in {
        "elementwise": 1.2e-9, "transcendental": 45e-9, "normalization": 4e-9, "softmax": 45e-9,
        "copy": 1.2e-9, "embedding": 1.2e-9, "pool": 1.2e-9, "reduce": 1.2e-9,
    }.items()
}  # fmt: skip


def _vector(features: str, flop_per_cycle: float, explanation: str) -> Simd:
    return Simd(frozenset(features.split()), flop_per_cycle, explanation, _VECTOR_EFFICIENCY, _VECTOR_ELEMENTS)


def _scalar(features: str, flop_per_cycle: float, explanation: str) -> Simd:
    return Simd(frozenset(features.split()), flop_per_cycle, explanation, _SCALAR_EFFICIENCY, _SCALAR_ELEMENTS)


SIMD = (
    _vector("avx512f", 64, "AVX-512: 2 FMA pipes of 16 fp32 lanes assumed"),
    _vector("avx2 fma", 32, "AVX2: 2 FMA pipes of 8 fp32 lanes assumed"),
    _vector("avx", 16, "AVX: a multiplier and an adder of 8 fp32 lanes assumed"),
    _vector("sse2", 8, "SSE2: a multiplier and an adder of 4 fp32 lanes assumed"),
    _vector("asimd", 16, "NEON: 2 FMA pipes of 4 fp32 lanes assumed"),
    _scalar("neon", 8, "NEON of a 32-bit core: one FMA pipe of 4 fp32 lanes assumed"),
    _scalar("riscv-v", 8, "RVV: one FMA pipe of 4 fp32 lanes assumed"),
    _scalar("riscv-xtheadvector", 8, "RVV 0.7.1: one FMA pipe of 4 fp32 lanes assumed"),
    _scalar("", 4, "no vector unit known: 2 scalar FMA pipes assumed"),
)
"""Kinds of vector unit, widest first; the last one fits every CPU."""

NAMED_FEATURES = ("avx512f", "avx512_bf16", "avx2", "fma", "avx", "amx_tile", "asimd", "sve", "sve2", "bf16", "neon")
"""The CPU flags that `Machine.isa` mentions."""

FREQUENCY_HZ = _assumed(2e9, "default; neither cpufreq nor proc/cpuinfo states a frequency", 1e9, 4e9)

CACHE_FILL = _assumed(0.8, "default; a fifth for stack, arguments and conflicts")
CACHE_BANDWIDTH_BYTES_PER_S = {
    1: _assumed(100e9, f"{_ROUGH}: two vector loads a cycle"),
    2: _assumed(40e9, _ROUGH, 15e9, 70e9),
    3: _assumed(20e9, _ROUGH, 7e9, 90e9),
}
"""What one core reads from a cache, by level; the last one also stands for levels further out."""

BUSY_SLOWDOWN = _assumed(1.15, "default; clock and shared caches with all cores busy", 1.0, 1.7)
IMBALANCE = _assumed(0.12, "default; as assumed for SG2042 at 64 threads", 0.03, 0.35)

LINKS: dict[Distance, Link] = {
    "group": Link(line_s=_assumed(50e-9, _ROUGH, 20e-9, 60e-9), bandwidth_bytes_per_s=_assumed(20e9, _ROUGH)),
    "node": Link(line_s=_assumed(100e-9, _ROUGH, 50e-9, 200e-9), bandwidth_bytes_per_s=_assumed(10e9, _ROUGH)),
    "package": Link(line_s=_assumed(150e-9, _ROUGH, 80e-9, 250e-9), bandwidth_bytes_per_s=_assumed(10e9, _ROUGH)),
    "host": Link(line_s=_assumed(300e-9, _ROUGH, 150e-9, 1000e-9), bandwidth_bytes_per_s=_assumed(5e9, _ROUGH)),
    "cluster": Link(
        line_s=_assumed(30e-6, "default; a small message over TCP and 10 Gbit/s Ethernet", 10e-6, 100e-6),
        bandwidth_bytes_per_s=_assumed(1.1e9, "default; 10 Gbit/s Ethernet less its headers"),
    ),
}

MESSAGE_S = _assumed(
    50e-6,
    "default; TCP between two Linux hosts: copying into and out of sockets, system calls, waking up",
    10e-6,
    200e-6,
)
"""What either side does for a message to another host, without its bytes, where nobody says."""

OVERHEADS = Overheads(
    dispatch_s=_assumed(5e-6, f"{_MEASURED}: relu 1, linear 6 µs", 1e-6, 10e-6),
    fork_join_base_s=_assumed(2e-6, _ROUGH, 1e-6, 5e-6),
    fork_join_factor=_assumed(2.5, "default; line transfers a member of the team causes", 0.5, 5.0),
    fork_join_jitter_s=_assumed(5e-6, "default; the slowest of 64 members", 0.0, 40e-6),
    grain_elements=Figure(
        value=32768, kind="specified", source="GRAIN_SIZE in aten/src/ATen/TensorIterator.h of PyTorch 2.13"
    ),
    handoff_s=_assumed(60e-6, "default; a shared-memory ring with POSIX semaphores, 150 kB, x86", 17e-6, 100e-6),
    process_bytes=_assumed(
        400e6, f"{_MEASURED}: 223 MB resident after importing torch, 353 MB with its compiler", 220e6, 500e6
    ),
)


def memory(cores_of_package: int, nodes_of_package: int) -> Memory:
    """Main memory of a machine whose packages have at most so many cores and NUMA nodes."""
    whole = min(200e9, max(20e9, 4e9 * cores_of_package))
    source = "default; 4 GB/s a core, at least 20, at most 200 GB/s"
    return Memory(
        package_bandwidth_bytes_per_s=_assumed(whole, source),
        node_bandwidth_bytes_per_s=_assumed(whole / nodes_of_package, f"{source}; its part of {nodes_of_package}"),
        core_bandwidth_bytes_per_s=_assumed(10e9, _ROUGH, 5e9, 35e9),
    )


def compute(features: frozenset[str], frequency_hz: Figure) -> Compute:
    """What a core with these CPU flags computes at this clock."""
    simd = next(simd for simd in SIMD if simd.features <= features)
    source = f"{simd.flop_per_cycle:g} fp32 FLOP a cycle ({simd.explanation}) at {frequency_hz.value / 1e9:.3g} GHz"
    kind: Kind = "assumed" if frequency_hz.kind == "assumed" else "inferred"
    return Compute(
        peak_flop_per_s=Figure(value=simd.flop_per_cycle * frequency_hz.value, kind=kind, source=source),
        efficiency=simd.efficiency,
        seconds_per_element=simd.seconds_per_element,
        busy_slowdown=BUSY_SLOWDOWN,
        imbalance=IMBALANCE,
    )
