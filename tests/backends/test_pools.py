"""Average pools with windows larger than their input: cut to it, they give what they gave."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mapper.backends.pools import with_windows_inside
from mapper.execution.run import run
from mapper.program.rebuild import rebuild
from mapper.program.weights import laid_out
from tests.backends.stages import need
from tests.tracing import plan_for, traced

POOLS = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_cut_window_gives_the_same(data: st.DataObject) -> None:
    dimensions = data.draw(st.integers(1, 3))
    sizes = [data.draw(st.integers(2, 5)) for _ in range(dimensions)]
    window = [data.draw(st.integers(1, 9)) for _ in range(dimensions)]
    stride = [data.draw(st.integers(max(1, one - 3), one + 2)) for one in window]
    padding = [data.draw(st.integers(0, one // 2)) for one in window]
    options = {"padding": padding, "ceil_mode": True, "count_include_pad": data.draw(st.booleans())}
    if data.draw(st.booleans()):
        options["stride"] = stride
    pool, item = POOLS[dimensions](window, **options), torch.randn(1, 2, *sizes)
    try:
        expected = pool(item)
    except RuntimeError:
        return  # torch has no output for it either
    made = traced(pool, item, name="pool")
    cut = with_windows_inside(made.program)
    rooms = [n + 2 * p for n, p in zip(sizes, padding, strict=True)]
    if all(one <= room for one, room in zip(window, rooms, strict=True)):
        assert cut == made.program
    else:
        assert all(one <= room for one, room in zip(cut.ops[0].args[1], rooms, strict=True))
    with torch.no_grad():
        (result,) = rebuild(cut, laid_out(cut, made.weights))(item)
    assert torch.equal(result, expected)


@pytest.mark.parametrize("threads", [1, 2])
def test_openvino_computes_with_such_a_window(threads: int) -> None:
    need("openvino")
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AvgPool2d(64, ceil_mode=True), nn.Flatten(), nn.Linear(8, 4))
    made = traced(module, torch.randn(1, 3, 9, 9), name="pool")
    plan = plan_for(made, [[op.name for op in made.graph.ops]], threads=[threads])
    assert run(plan, module, items=3, oversubscribe=True, backend="openvino").outputs_within_tolerance
