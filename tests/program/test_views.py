"""Which ops are free, and what holds the data of a view."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from mapper.program.trace import trace_program
from mapper.program.views import views


class Model(nn.Module):
    def __init__(self, compute: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.compute = compute
        self.weight = nn.Parameter(torch.randn(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.compute(x, self.weight)


def of(compute: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> dict[str, tuple[bool, object]]:
    """For each op whether it is free, and its root."""
    program, _ = trace_program(Model(compute).eval(), (torch.randn(4, 6),))
    found = views(program)
    return {op.name: (op.name in found.free, found.root[op.name]) for op in program.ops}


FREE: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "t": lambda x, w: (x + 1).t(),
    "view": lambda x, w: (x + 1).view(2, 12),
    "unsqueeze": lambda x, w: (x + 1)[None],
    "expand": lambda x, w: (x + 1).expand(3, 4, 6),
    "permute": lambda x, w: (x + 1).permute(1, 0),
    "slice_1": lambda x, w: (x + 1)[:, 0:],
}
PARTIAL: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "select": lambda x, w: (x + 1)[0],
    "slice_1": lambda x, w: (x + 1)[:, 2:],
    "clone": lambda x, w: (x + 1).t().contiguous(),
    "unfold": lambda x, w: (x + 1).unfold(0, 2, 1),
}


@pytest.mark.parametrize("name", FREE)
def test_a_view_of_everything_is_free(name: str) -> None:
    found = of(FREE[name])
    assert found.pop("add") == (False, ("op", "add"))
    assert all(entry == (True, ("op", "add")) for entry in found.values())


@pytest.mark.parametrize("name", PARTIAL)
def test_a_view_of_a_part_and_a_copy_are_not(name: str) -> None:
    assert of(PARTIAL[name])[name] == (False, ("op", name))


def test_views_of_views_inputs_and_weights() -> None:
    found = of(lambda x, w: x.view(6, 4).t()[None] * w.expand(6, 4).t())
    assert [root for free, root in found.values() if free] == [
        ("input", "x"), ("input", "x"), ("input", "x"), ("weight", "weight"), ("weight", "weight"),
    ]  # fmt: skip


def test_what_depends_on_constants_alone_is_free_and_has_no_root() -> None:
    found = of(lambda x, w: x + (torch.arange(6) * 2 > torch.ones(6).sum()))
    assert found.pop("add") == (False, ("op", "add"))
    assert set(found.values()) == {(True, None)}


def test_parts_of_a_tuple_are_not_free_and_views_of_them_are() -> None:
    found = of(lambda x, w: (x + 1).split(3, dim=1)[1].t())
    assert found["getitem_1"] == (False, ("op", "getitem_1"))
    assert found["t"] == (True, ("op", "getitem_1"))
