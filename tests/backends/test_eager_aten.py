"""`eager:aten`: convolutions as where torch has neither oneDNN nor NNPACK, in the process that loads them only."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch

from mapper.backends.registry import ATEN, BACKENDS
from mapper.execution.run import run
from tests.execution import models
from tests.tracing import cuts, plan_for

CODE = """
import json, torch
from mapper.backends.registry import BACKENDS
from tests.execution import models
found = models.skip()
inputs = [torch.randn(given.type.shape) for given in found.program.inputs]
used = {}
for name in ("eager", "eager:aten"):
    loaded = BACKENDS[name].load(found.program, found.weights, 1, None)
    with torch.inference_mode(), torch.profiler.profile() as seen:
        loaded.compute(*inputs)
    used[name] = sorted({event.name for event in seen.events()})
print(json.dumps(used))
"""


def test_convolutions_are_products_of_the_blas() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], stdout=subprocess.PIPE, check=True, cwd=Path(__file__).parents[2], timeout=120
    )
    used = json.loads(done.stdout.splitlines()[-1])
    assert "aten::_slow_conv2d_forward" in used["eager:aten"]
    assert not [name for name in used["eager:aten"] if "mkldnn" in name or "nnpack" in name]
    if torch.backends.mkldnn.is_available():
        assert "aten::mkldnn_convolution" in used["eager"]


def test_a_plan_runs_with_it_within_its_tolerance() -> None:
    found = models.skip()
    done = run(plan_for(found, cuts(found.graph, [4])), found.module, items=2, oversubscribe=True, backend=ATEN)
    assert done.backend == ATEN and done.tolerance == BACKENDS[ATEN].allowed("float32")
    assert torch.backends.mkldnn.enabled == torch.backends.mkldnn.is_available(), "this process is as it was"
