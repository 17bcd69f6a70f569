"""What tests of back ends share: which ones are here, and a small model in two stages."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mapper.backends.registry import BACKENDS, Backend
from mapper.plans.model import Plan
from tests.execution import models
from tests.tracing import cuts, plan_for

COMPILED = ["onnxruntime", "openvino", pytest.param("inductor", marks=pytest.mark.soak)]
"""Back ends other than eager; inductor compiles for a quarter of a minute a stage, and as long before the first."""
BRIEFLY = ["onnxruntime", "openvino", pytest.param("inductor", marks=pytest.mark.soak)]
"""The same for tests of what has little to do with how a back end compiles."""
NOT_FIRST = [pytest.param("openvino", marks=pytest.mark.soak), pytest.param("inductor", marks=pytest.mark.soak)]
"""Those that need not show in every test what is the same for all."""
NOT_FIRST_FEWER = [
    pytest.param("onnxruntime:int8", marks=pytest.mark.soak),
    pytest.param("openvino:bfloat16", marks=pytest.mark.soak),
    pytest.param("inductor:bfloat16", marks=pytest.mark.soak),
]
"""The same of those that compute with fewer bits."""
MLP = models.mlp()


def need(name: str) -> Backend:
    """The back end called `name`, or a skip that says what it lacks."""
    lack = BACKENDS[name].available()
    if lack is not None:
        pytest.skip(lack.what)
    return BACKENDS[name]


def model() -> tuple[torch.nn.Module, torch.Tensor]:
    """What plans of these tests name as their source."""
    return MLP.module, torch.zeros(8, 64)


def two_stages(**changes: Any) -> Plan:
    """The small model in two stages."""
    return plan_for(MLP, cuts(MLP.graph, [4, 4]), **changes)
