"""The models and item sizes of the study, traced once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from mapper.cost.forms import Form, forms
from mapper.graph.model import Graph
from mapper.plans.source import graph_of_source

MODELS = ("vgg16", "resnet50", "mobilenetv2", "vit", "bert", "gpt2", "gpt2_decode")
"""VGG, ResNet and MobileNet as the convolutions that the published figures are of; transformers, and decoding."""
CONVOLUTIONS = ("vgg16", "resnet50", "mobilenetv2")
ITEMS = (1, 2, 4, 5, 6, 8, 12, 16, 32, 64)
"""Elements of an item, as one native call takes them."""
CALLS = (1, 4, 16)
"""Elements of an item as mappings take them: larger items are split into calls of these."""


@dataclass(frozen=True)
class Case:
    """A model with `batch` elements an item."""

    model: str
    batch: int

    @property
    def graph(self) -> Graph:
        """Its graph, traced once a process."""
        return _graph(self.model, self.batch)

    @property
    def forms(self) -> tuple[Form, ...]:
        """The forms of its ops."""
        return _forms(self.model, self.batch)


@cache
def _graph(model: str, batch: int) -> Graph:
    return graph_of_source(model, {"batch": batch} if batch > 1 else None)[0]


@cache
def _forms(model: str, batch: int) -> tuple[Form, ...]:
    return forms(_graph(model, batch))
