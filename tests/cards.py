"""The graphs of the bundled cards, each traced once a test run (without memory for its weights)."""

from __future__ import annotations

from functools import cache

from mapper.graph.model import Graph
from mapper.plans.model import ModelRef
from mapper.plans.source import graph_of_source


@cache
def traced_card(name: str) -> tuple[Graph, ModelRef]:
    """Graph and reference of the card called `name`."""
    return graph_of_source(name)
