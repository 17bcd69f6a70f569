"""Execution paths: how a back end executes an op on a machine, as data. What runs in parallel over what decides how
an op scales with threads, more than its FLOP do.

    onednn       PyTorch with oneDNN and MKL (x86_64), or oneDNN with the Arm Compute Library where built so (aarch64)
    native-aten  PyTorch without oneDNN and MKL: ATen's own kernels and OpenBLAS. Its build allows oneDNN on x86 and
                 aarch64 only (USE_MKLDNN in CMakeLists.txt), so this is what RISC-V runs

A rule says over which units of an op the team is spread, of how many elements a member has at least, and what is done
in series, each turn with a fork and join of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from mapper.cost.forms import Form
from mapper.machine.model import Machine
from mapper.machine.parts import Path

PATHS: tuple[Path, ...] = get_args(Path)

Over = Literal["team", "images", "blocks", "rows", "pieces", "elements", "nothing"]
Loop = Literal["groups", "products"]

DISPATCH_A_TURN = 16 / 35
"""Part of an op's dispatch that a turn of a loop over groups costs: C++ only, no Python. 2.4 to 2.8 µs a group against
5.4 to 9.0 µs an op, measured on x86 (one thread, 960 groups), taken to SG2042 as 16 of 35 µs."""
OPENBLAS_SERIAL = 65536 * 4
"""Multiply-adds up to which OpenBLAS computes a product on one thread: SMP_THRESHOLD_MIN ·
GEMM_MULTITHREAD_THRESHOLD in interface/gemm.c."""
CHANNEL_BLOCK = 16
"""Channels that oneDNN's vectorised kernels compute together (nChw16c)."""


@dataclass(frozen=True)
class Rule:
    """How ops of some sorts run.

    over          what is spread over the team: `team` = whatever the library likes, up to all cores
    alone         what is, where `over` has a single unit: a region inside a region is not parallel, but alone it is
    grain         elements a member has at least, as a part of the machine's `grain_elements`; 0: no limit
    loop          what is done turn by turn instead; each turn is dispatched, and forks and joins
    serial_below  multiply-adds of a product up to which it runs on one thread
    unfolds       whether a convolution's input is laid out by a parallel loop before (im2col)
    """

    over: Over
    source: str
    alone: Over = "nothing"
    grain: float = 0.0
    loop: Loop | None = None
    serial_below: float = 0.0
    unfolds: bool = False


@dataclass(frozen=True)
class Course:
    """How one op runs with a team: members that have work, turns, and regions that fork and join the team."""

    rule: Rule
    team: int
    turns: int
    forks: int


_ITERATOR = Rule("elements", "GRAIN_SIZE in aten/src/ATen/TensorIterator.h: TensorIteratorBase::for_each", grain=1.0)
_ATEN: dict[str, Rule] = {
    "elementwise": _ITERATOR,
    "transcendental": _ITERATOR,
    "copy": _ITERATOR,
    "embedding": Rule("elements", "index_select_out_cpu_ in TensorAdvancedIndexing.cpp: grain over rows", grain=1.0),
    "reduce": Rule("elements", "TensorIteratorBase::parallel_reduce in TensorIteratorReduce.cpp", grain=1.0),
    "pool": Rule("elements", "cpu_max_pool in native/cpu/MaxPoolKernel.cpp: parallel_for over outputs, grain 0"),
    "softmax": Rule("rows", "vec_softmax_lastdim in native/cpu/SoftMaxKernel.cpp: GRAIN_SIZE / (16 · size) rows",
                    grain=1 / 16),
    "normalization": Rule("rows", "LayerNormKernelImplInternal in native/cpu/layer_norm_kernel.cpp and "
                          "batch_norm_cpu_contiguous_impl in batch_norm_kernel.cpp: parallel_for over rows, grain 1"),
    "attention": Rule("pieces", "cpu_flash_attention in native/cpu/FlashAttentionKernel.cpp: parallel_for over batch × "
                      "heads × slices of 32 to 256 queries"),
    "none": Rule("nothing", "shows another tensor: no kernel runs"),
    "other": Rule("nothing", "the time comes with the graph"),
}  # fmt: skip

_ONEDNN: dict[str, Rule] = _ATEN | {
    "matmul": Rule("team", "sgemm of oneMKL, split over rows and columns (at::native::cpublas::gemm in CPUBlas.cpp)"),
    "conv": Rule("team", "oneDNN, jit_*_convolution.cpp: over images × groups × blocks of output channels × lines"),
    "conv.depthwise": Rule("blocks", "oneDNN, cpu/x64/jit_uni_dw_convolution.cpp: over images × blocks of channels × "
                           "lines"),
}  # fmt: skip

_OPENBLAS = "OpenBLAS interface/gemm.c: one thread up to 262144 multiply-adds"
_SLOW = ("slow_conv2d_forward_out_cpu in native/ConvolutionMM2d.cpp: parallel_for over images; with one image im2col "
         f"(native/cpu/Unfold2d.cpp) and the product inside are parallel ({_OPENBLAS})")  # fmt: skip
_NATIVE: dict[str, Rule] = _ATEN | {
    "matmul": Rule("team", f"at::native::addmm, {_OPENBLAS}", serial_below=OPENBLAS_SERIAL),
    "matmul.batched": Rule("team", "bmm_out_or_baddbmm_ in native/LinearAlgebra.cpp: without MKL a series of products, "
                           f"{_OPENBLAS}", loop="products", serial_below=OPENBLAS_SERIAL),
    "conv": Rule("images", _SLOW, alone="team", serial_below=OPENBLAS_SERIAL, unfolds=True),
    "conv.depthwise": Rule("images", "_convolution in native/Convolution.cpp: a series of convolutions, one a group; "
                           f"each {_SLOW}", alone="team", loop="groups", serial_below=OPENBLAS_SERIAL, unfolds=True),
    "conv.transposed": Rule("team", "slow_conv_transpose2d in native/NaiveConvolutionTranspose2d.cpp: image by image, "
                            f"{_OPENBLAS}", serial_below=OPENBLAS_SERIAL),
}  # fmt: skip
_NATIVE["conv.grouped"] = _NATIVE["conv.depthwise"]

RULES: Mapping[Path, Mapping[str, Rule]] = {"onednn": _ONEDNN, "native-aten": _NATIVE}
"""By path, then by sort; a sort that is not listed takes the rule of its kind."""


def path_of(machine: Machine) -> Path:
    """The path that PyTorch takes on `machine`: what its file says, else by its instruction set."""
    if machine.compute.path is not None:
        return machine.compute.path
    return "native-aten" if machine.isa.lower().startswith(("rv", "riscv")) else "onednn"


def rule_of(path: Path, form: Form) -> Rule:
    """The rule for an op on a path."""
    rules = RULES[path]
    return rules.get(form.sort) or rules[form.kind]


def course(rule: Rule, form: Form, cores: int, grain_elements: float) -> Course:
    """How an op runs on `cores` cores.

    The whole team forks and joins even where some members find nothing to do (at::parallel_for in ParallelOpenMP.h
    gives them no range), so a region costs the same whoever works in it.
    """
    turns = form.groups if rule.loop == "groups" else form.products if rule.loop == "products" else 1
    if cores == 1:
        return Course(rule, 1, turns, 0)
    over = rule.over if _count(rule.over, form) != 1 else rule.alone
    team = int(min(cores, max(1, _count(over, form))))
    if rule.grain:
        elements = form.units if form.kind == "reduce" else form.elements
        team = min(team, max(1, math.ceil(elements / max(1.0, grain_elements * rule.grain))))
    if over == "team" and form.products_work <= rule.serial_below:
        team = 1
    unfolding = rule.unfolds and form.unfolded and over == "team"
    return Course(rule, team, turns, turns * ((team > 1) + unfolding))


def _count(over: Over, form: Form) -> float:
    """How many units of `over` an op has."""
    match over:
        case "team":
            return math.inf
        case "images":
            return form.images
        case "blocks":
            return form.images * math.ceil(form.groups * form.rows / CHANNEL_BLOCK) * form.lines
        case "rows":
            return form.rows
        case "pieces":
            return form.pieces
        case "elements":
            return max(1, form.elements)
        case _:
            return 1
