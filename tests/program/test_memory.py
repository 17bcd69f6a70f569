"""Planning takes no memory for weights: peaks are those of torch and transformers, whatever the size of the model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

GB = 1e9
MEASURE = """
import resource, subprocess, sys
done = subprocess.run([sys.executable, "-m", "mapper", *sys.argv[1:]], stdout=subprocess.DEVNULL)
print('{"code": %d, "kib": %d}' % (done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
"""


def peak_bytes(folder: Path, *arguments: str) -> int:
    """The largest resident size of `mapper ARGUMENTS`, run in `folder`."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *arguments], capture_output=True, text=True, cwd=folder, check=True
    )
    measured = json.loads(done.stdout)
    assert measured["code"] == 0, done.stderr
    return int(measured["kib"]) * 1024


@pytest.mark.soak
def test_a_model_of_1_2_gb_is_looked_into(tmp_path: Path) -> None:
    assert peak_bytes(tmp_path, "model", "show", "vit_large") < GB


@pytest.mark.soak
@pytest.mark.parametrize("name", ["gpt2", "vit_large", "bert_large"])
def test_a_model_is_planned(name: str, tmp_path: Path) -> None:
    assert peak_bytes(tmp_path, "plan", "--model", name, "--topo", "sg2042") < GB
