"""The same request gives the same bytes, whatever the seed of hashes and the number of cores at hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.planning.requests import REQUESTS

ROOT = Path(__file__).parents[2]
SCRIPT = Path(sys.executable).parent / "mapper"


def planned(seed: int, cores: int) -> subprocess.Popen[str]:
    """A process that prints the plans of all requests."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.planning.requests", str(cores)], stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
    )  # fmt: skip


@pytest.mark.parametrize(
    "seeds",
    [(0, 7), pytest.param(range(10), marks=pytest.mark.soak)],
    ids=["two", "ten"],
)
def test_processes_plan_the_same(seeds: Sequence[int]) -> None:
    """Two at a time, of one core and of two where there are two."""
    texts: dict[str, set[str]] = {name: set() for name in REQUESTS}
    for first, second in zip(seeds[::2], seeds[1::2], strict=True):
        for process in [planned(first, cores=1), planned(second, cores=2)]:
            out, _ = process.communicate()
            assert process.returncode == 0
            for name, text in json.loads(out).items():
                texts[name].add(text)
    for name, found in texts.items():
        assert len(found) == 1, name
        assert json.loads(found.pop())["solver"]["status"] == "optimal", f"{name} is no case for this test"


@pytest.mark.soak
@pytest.mark.parametrize("model", ["mobilenetv2", "gpt2_decode"])
@pytest.mark.parametrize("options", [(), ("--max-latency", "2s"), ("--memory-per-node", "1GB")], ids=len)
def test_models_are_planned_the_same(model: str, options: tuple[str, ...], tmp_path: Path) -> None:
    """Traced anew each time; a plan that is not optimal may depend on the clock."""
    for seed in ("0", "7"):
        subprocess.run(
            [SCRIPT, "plan", "--model", model, "--topo", "sg2042", "-o", f"{seed}.json", *options], cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": seed}, stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip
    first, second = ((tmp_path / f"{seed}.json").read_text() for seed in ("0", "7"))
    if json.loads(first)["solver"]["status"] == "optimal":
        assert first == second
