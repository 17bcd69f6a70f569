"""The parts that install mapper in the guest and run plans there: bundles are made here, where the planner is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from tests.emulation.cross import compile_export
from tests.emulation.parts import EVERY, Part

ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "mapper", "models", "topologies")
"""What a wheel is built of."""
CARD = Path(__file__).with_name("vit_small.toml")
MAPPINGS = {
    "stages": ("--stages", 16, "--replicas", 1),
    "pipelines": ("--stages", 4, "--replicas", 4),
    "replicas": ("--stages", 1, "--replicas", 16),
}
"""Three mappings onto 16 groups of 4 cores: a pipeline over all of them, a pipeline in each of the 4 nodes, copies."""
MODELS = {"mobilenetv2": "mobilenetv2", "vit_small": CARD.name}
TOLERANCE = 1e-4
"""Of float32, relative to the largest magnitude, between one processor and another."""
OTHER_SHAPE = "pack:1 numa:2 group:4 core:4"


def make_wheel(folder: Path) -> None:
    """A wheel of mapper in `folder`, built from a copy of the sources, so that nothing is written beside them, and
    without the compiled parts, which would be this machine's."""
    with tempfile.TemporaryDirectory(prefix="mapper-wheel.") as made:
        for name in SOURCES:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, Path(made, name), ignore=shutil.ignore_patterns("__pycache__", "*.so"))
            else:
                shutil.copy(source, made)
        words = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder), made]
        subprocess.run([sys.executable, *words], check=True, env=os.environ | {"CC": "false"})


def mapper(folder: Path, *arguments: object) -> None:
    """`mapper ARGUMENTS` in `folder`; what it prints is shown only when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "mapper", *map(str, arguments)], cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"mapper {' '.join(map(str, arguments))} ended with {done.returncode}: {done.stderr}")


def make_bundle(folder: Path, name: str, model: str, topo: str, limits: Iterable[object]) -> None:
    """The bundle `name` in `folder`, of the best plan for `topo` within `limits` where each worker has one group."""
    card = folder / CARD.name
    if model == CARD.name:
        shutil.copy(CARD, card)
    plan = folder / f"{name}.json"
    mapper(folder, "plan", "--model", model, "--topo", topo, "--configurations", "1x4", *limits, "-q", "-o", plan.name)
    mapper(folder, "bundle", plan.name, "--trust", "-o", f"{name}.bundle")
    plan.unlink()
    card.unlink(missing_ok=True)


def make_small(folder: Path) -> None:
    """A bundle of a pipeline with four stages in one node."""
    make_bundle(folder, "vit_small", CARD.name, "sg2042", ("--stages", 4, "--replicas", 1))


def make_others(folder: Path) -> None:
    """A bundle for a machine of another shape: half as many nodes, groups and cores."""
    make_bundle(folder, "half", CARD.name, OTHER_SHAPE, ("--stages", 4, "--replicas", 2))


def make_cpp(folder: Path) -> None:
    """The C++ export of a plan, with its program for riscv64 and without its source.

    The sample's outputs are of this processor and its version of torch; another sums in another order, so what the
    export allows (for eager, no difference) is set to what `mapper run` allows between a bundle's sample and a machine.
    """
    make_small(folder)
    (bundle,) = folder.glob("*.bundle")
    mapper(folder, "export", bundle, "--to", "cpp", "-o", "export")
    program = compile_export(folder / "export")
    program.rename(folder / "pipeline")
    for name in ("build", "src"):
        shutil.rmtree(folder / "export" / name)
    text = folder / "export/pipeline.txt"
    (allowed,) = re.findall(r"^tolerances 1 .*$", text.read_text(encoding="utf-8"), re.MULTILINE)
    text.write_text(text.read_text(encoding="utf-8").replace(allowed, f"tolerances 1 {TOLERANCE}"), encoding="utf-8")
    (folder / "plan.bundle").mkdir()
    shutil.copy(bundle / "plan.json", folder / "plan.bundle")
    shutil.rmtree(bundle)


def run_part(model: str, mapping: str) -> Part:
    """The part that runs a bundle of `model` in one of the mappings."""
    name = f"{model}-{mapping}"
    prepare = partial(make_bundle, name=name, model=MODELS[model], topo="sg2042", limits=MAPPINGS[mapping])
    checks = tuple(f"run-{name}: {what}" for what in ("outputs", "CPUs", "memory nodes"))
    return Part(f"run-{name}", "bundle.py", checks, prepare, needs=("install",))


def _part(
    name: str, checks: tuple[str, ...], prepare: Callable[[Path], None], limit_s: int, boards: tuple[str, ...] = EVERY
) -> Part:
    return Part(name, f"{name}.py", checks, prepare, limit_s=limit_s, needs=("install",), boards=boards)


PARTS = (
    Part("install", "install.py", ("mapper is installed from its wheel",), make_wheel),
    _part(
        "lean", ("commands without their packages say so", "a bundle's plan is simulated and checked"), make_small, 1200
    ),
    *(run_part(model, mapping) for model in MODELS for mapping in MAPPINGS),
    _part("remap", ("half: refused", "half: --remap"), make_others, 1800, (*EVERY, "boot0-nonuma")),
    Part("cpp", "cpp.py", ("C++ export: outputs", "C++ export: CPUs"), make_cpp, boards=("boot0",)),
    _part("kill", ("a worker is killed", "mapper is killed"), make_small, 1800),
)
