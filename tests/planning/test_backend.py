"""`mapper.plan(..., backend=)`: the plan says what computes it."""

from __future__ import annotations

import pytest

import mapper
from mapper.errors import UsageError
from tests.execution import models


def test_a_plan_names_the_back_end_that_was_asked_for() -> None:
    graph, machine = models.mlp().graph, mapper.load_machine("sg2042")
    plans = [mapper.plan(graph, machine, backend=name) for name in (None, "openvino:bfloat16")]
    assert [plan.request.backend for plan in plans] == ["eager", "openvino:bfloat16"]
    assert plans[0].stages == plans[1].stages, "costs are eager's for all of them"
    with pytest.raises(UsageError, match="Did you mean openvino"):
        mapper.plan(graph, machine, backend="openvin")
