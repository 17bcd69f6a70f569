"""The back ends by name: what each needs, how far its results may be from eager's, how it compiles and loads.

Nothing here imports torch or a back end's library before it is used.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mapper.errors import BadInput, MachineMismatch, MissingFeature, UsageError, one_of
from mapper.machine import cpuinfo

if TYPE_CHECKING:
    import torch

    from mapper.program.model import Program

    Tensors = Mapping[str, torch.Tensor]

Compute = Callable[..., "tuple[torch.Tensor, ...]"]
"""Takes a program's inputs in order, gives its outputs in order. Called in inference mode."""
Into = Callable[["Sequence[torch.Tensor]", "Sequence[torch.Tensor | None]"], "Sequence[torch.Tensor]"]
"""Takes inputs, and for each output where it belongs: a contiguous tensor of its shape and dtype, or None. Gives the
outputs; one that was computed into its place is that very tensor, others are good until the next call."""
EAGER = "eager"
ATEN = "eager:aten"
"""Eager as where torch has neither oneDNN nor NNPACK, such as on RISC-V."""
FLOAT32, BFLOAT16, INT8 = "float32", "bfloat16", "int8"
"""What a back end computes in what is float32 in the program."""
_FLOATS = {"float64": 1e-9, "float32": 1e-4, "complex64": 1e-4, "complex128": 1e-9, "float16": 1e-2, "bfloat16": 3e-2}
_ROUNDED = {"float64": 2e-2, "float32": 2e-2, "float16": 2e-2, "bfloat16": 3e-2}
_QUANTIZED = {"float64": 5e-2, "float32": 5e-2, "float16": 5e-2, "bfloat16": 5e-2}
_PLAIN = frozenset({"bool", "uint8", "int8", "int32", "int64", "float32"})


@dataclass(frozen=True)
class Loaded:
    """A stage that is ready: `compute`, and the `threads` that the back end says it uses. What `compute` returns is
    good until its next call.

    Where results can be computed straight into memory that is given, `into` does so, with the same bits. `prepare` is
    told of tensors that it will meet again and again as inputs or places, so that what it needs of each is made once.
    """

    compute: Compute
    threads: int
    into: Into | None = None
    prepare: Callable[[Iterable[torch.Tensor]], None] = lambda tensors: None


@dataclass(frozen=True)
class Lack:
    """What keeps a back end from working here, and what helps. `processor`: nothing that can be installed."""

    what: str
    advice: str
    processor: bool = False


class Load(Protocol):
    """Makes a stage ready in this process; `artefact` is the folder that was compiled (none for eager)."""

    def __call__(self, program: Program, weights: Tensors, threads: int, artefact: Path | None) -> Loaded:
        """The stage, for `threads` threads."""


class Compile(Protocol):
    """Compiles `program` for `threads` threads into the empty `folder`."""

    def __call__(self, program: Program, weights: Tensors, threads: int, folder: Path) -> None:
        """Writes files into `folder`, or raises what the library says."""


@dataclass(frozen=True)
class Backend:
    """A way to compute a stage.

    `tolerance` is by dtype how far an output may be from eager's, relative to the largest magnitude of eager's tensor;
    where a dtype is not named, and for eager, bits must be equal. `reason` says why that much. `packages` are needed
    to run, `to_compile` to compile besides, each with the version that pip is asked for. `per_team`: what was compiled
    for a number of threads is right for that number only. `in_place`: it computes results into memory that is given.
    `dtypes`: tensors that it takes, None for all.

    A back end called `openvino:bfloat16` is the back end openvino with another `precision` for what is float32 in the
    program. How far its outputs are off depends on the model: `tolerance` is the least that is allowed, and
    `noise_factor` how many times what rounding to bfloat16 does to the unsplit model. `instructions` are the CPU flags
    of which it needs one; without them it is refused, or, where it still works (`emulated`), slower than float32.
    """

    name: str
    load: Load
    compile: Compile | None = None
    tolerance: Mapping[str, float] | None = None
    reason: str = ""
    packages: Mapping[str, str] | None = None
    to_compile: Mapping[str, str] | None = None
    compiler: bool = False
    per_team: bool = False
    in_place: bool = False
    dtypes: frozenset[str] | None = None
    precision: str = FLOAT32
    noise_factor: float = 0.0
    instructions: frozenset[str] = frozenset()
    emulated: bool = False

    @property
    def family(self) -> str:
        """Its name without the precision."""
        return self.name.partition(":")[0]

    @property
    def instructionless(self) -> bool:
        """Whether this processor has none of the instructions that it computes with."""
        return bool(self.instructions) and not self.instructions & cpuinfo.read(Path("/")).features

    @property
    def slow(self) -> str:
        """Why it is slower here than in float32; empty where it is not known to be."""
        if not (self.emulated and self.instructionless):
            return ""
        return f"this processor has no instructions for {self.precision}: {self.name} is slower here than {self.family}"

    def available(self, *, compiling: bool = True) -> Lack | None:
        """What it lacks here, None if nothing. A stage that is compiled already needs less than `compiling`."""
        wanted = dict(self.packages or {}) | (dict(self.to_compile or {}) if compiling else {})
        missing = [name for name in wanted if util.find_spec(name) is None]
        if missing:
            are = "packages {} are" if len(missing) > 1 else "package {} is"
            what = f"the back end {self.name} needs what is not installed: the {are.format(', '.join(missing))} missing"
            return Lack(what, "python -m pip install " + " ".join(f"'{wanted[name]}'" for name in missing))
        if compiling and self.compiler and _compiler() is None:
            return Lack(f"the back end {self.name} needs a C++ compiler, and there is none here",
                        "Install g++ or clang++, or name one in CXX.")  # fmt: skip
        if self.instructionless and not self.emulated:
            flags = ", ".join(sorted(self.instructions))
            return Lack(f"the back end {self.name} needs a processor with one of {flags}; this one has none of them",
                        f"--backend {self.family} computes in float32.", processor=True)  # fmt: skip
        return None

    def require(self, *, compiling: bool = True) -> None:
        """Raises: MissingFeature when it lacks something here, MachineMismatch when the processor does."""
        lack = self.available(compiling=compiling)
        if lack is not None:
            raise (MachineMismatch if lack.processor else MissingFeature)(lack.what, advice=lack.advice)

    def versions(self) -> dict[str, str]:
        """What computes and compiles, by package; the C++ compiler too, where it takes one."""
        names = ["torch", *(self.packages or {}), *(self.to_compile or {})]
        found = {name: _version(name) for name in names}
        return found | ({"compiler": _compiler() or ""} if self.compiler else {})

    def require_dtypes(self, program: Program, stage: int) -> None:
        """Raises: BadInput naming the op of `stage` whose tensors it does not take."""
        if self.dtypes is None:
            return
        values = [(given.name, given.type) for given in program.inputs]
        values += [(weight.name, weight.type) for weight in program.weights]
        values += [(op.name, kind) for op in program.ops for kind in op.outputs if kind is not None]
        for name, kind in values:
            if kind.dtype not in self.dtypes:
                raise BadInput(
                    f"stage {stage}", f"{self.name} takes no {kind.dtype}, only {', '.join(sorted(self.dtypes))}",
                    place=name, advice="The back ends eager and inductor take all dtypes.",
                )  # fmt: skip

    def allowed(self, dtype: str, noise: float = 0.0) -> float:
        """How far an output of `dtype` may be from eager's, relative to its largest magnitude, for a model whose output
        rounding to bfloat16 moves by `noise`, relative too."""
        least = (self.tolerance or {}).get(dtype, 0.0)
        return max(least, self.noise_factor * noise) if least else 0.0


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _compiler() -> str | None:
    """The C++ compiler that torch would take."""
    return next(filter(None, map(shutil.which, filter(None, [os.environ.get("CXX"), "g++", "clang++"]))), None)


def _later(module: str, function: str, **more: Any) -> Callable[..., Any]:
    """`function` of the back end `module`, imported when it is called."""

    def call(*arguments: Any) -> Any:
        return getattr(importlib.import_module(f"mapper.backends.{module}"), function)(*arguments, **more)

    return call


def _with(backend: Backend, precision: str, **changes: Any) -> Backend:
    """`backend` with another precision."""
    return replace(
        backend, name=f"{backend.name}:{precision}", precision=precision,
        load=_later(backend.name, "load", precision=precision),
        compile=_later(backend.name, "compile", precision=precision) if backend.compile else None, **changes,
    )  # fmt: skip


_FLOAT32 = {
    backend.name: backend
    for backend in (
        Backend(EAGER, load=_later("eager", "load"), packages={"torch": "torch>=2.6,<2.14"}),
        Backend(
            "inductor", load=_later("inductor", "load"), compile=_later("inductor", "compile"), tolerance=_FLOATS,
            reason="ops are fused and sums are taken in the order of its own loops",
            packages={"torch": "torch>=2.6,<2.14"}, compiler=True, per_team=True,
        ),
        Backend(
            "onnxruntime", load=_later("onnxruntime", "load"), compile=_later("onnxruntime", "compile"),
            tolerance=_FLOATS, reason="its kernels sum in another order and approximate functions in their own way",
            packages={"onnxruntime": "onnxruntime>=1.31"},
            to_compile={"onnx": "onnx>=1.23", "onnxscript": "onnxscript>=0.7.2"}, in_place=True,
            dtypes=_PLAIN | {"float64"},
        ),
        Backend(
            "openvino", load=_later("openvino", "load"), compile=_later("openvino", "compile"), tolerance=_FLOATS,
            reason="its kernels sum in another order and approximate functions in their own way",
            packages={"openvino": "openvino>=2026.4"}, in_place=True, dtypes=_PLAIN,
        ),
    )
}  # fmt: skip
_BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16", "svebf16"})
_I8 = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
"""CPU flags of x86 and Arm. Without them, products of int8 overflow in 16 bits (x86) or are slower than float32's."""
BACKENDS = _FLOAT32 | {
    backend.name: backend
    for backend in (
        replace(
            _FLOAT32[EAGER], name=ATEN, load=_later("eager", "load_aten"), tolerance=_FLOATS,
            reason="convolutions are im2col and a product, which sums in another order",
        ),
        *(
            _with(_FLOAT32[name], BFLOAT16, tolerance=_ROUNDED, reason="operands of products have 8 bits, not 24",
                  instructions=_BF16, emulated=name != "openvino", noise_factor=4)
            for name in (EAGER, "inductor", "openvino")
        ),
        _with(_FLOAT32["onnxruntime"], INT8, tolerance=_QUANTIZED, instructions=_I8, noise_factor=8,
              reason="operands of products have 8 bits, weights with a scale a channel, others with one a tensor"),
    )
}  # fmt: skip
"""All back ends. Versions are those that they were tested with, and later ones."""
NOT_OFFERED = {
    "eager:int8": "torch quantizes modules, not traced programs",
    "inductor:int8": "torch quantizes modules, not traced programs",
    "onnxruntime:bfloat16": "ONNX Runtime has no bfloat16 kernels for x86",
    "openvino:int8": "OpenVINO quantizes with the package nncf, which mapper does not use",
}
"""What one might ask for, and why it is not there."""


def backend_called(name: str) -> Backend:
    """The back end called `name`. Raises: UsageError naming near ones."""
    if name in BACKENDS:
        return BACKENDS[name]
    if name in NOT_OFFERED:
        raise UsageError(f"there is no back end {name!r}: {NOT_OFFERED[name]}", advice=one_of(name, BACKENDS))
    raise UsageError(f"there is no back end {name!r}", advice=one_of(name, BACKENDS))
