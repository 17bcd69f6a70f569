"""A small exploration that takes no time and needs no torch; as a program it writes its rows to a file.

python -m tests.study.exploration.small rows.json 2
"""

from __future__ import annotations

import sys
from pathlib import Path

from mapper.graph.model import Graph
from mapper.jsonio import dumps
from mapper.plans.model import ModelRef
from mapper.plans.reference import reference_of
from mapper.study.exploration.dimensions import Dimensions, Figures
from mapper.study.exploration.explore import Exploration, Settings, explore
from mapper.study.exploration.tables import document
from tests.planning.test_machines import block_chain

MACHINE = "numa:2 group:2 core:2"
STRATEGIES = ("optimal", "compact", "scatter", "per-node", "mesh-neighbour")
GRID = Dimensions(
    topos=(MACHINE,), figures=(Figures(name="dispatch_s", values=("5us", "20us")),), batches=(1, 4),
    strategies=STRATEGIES, stages=(None, 1, 3, 9), threads=(None, 1, 4, 5), replicas=(None, 1, 2),
)  # fmt: skip
FEW = GRID.model_copy(update={"figures": (), "batches": (1,), "strategies": STRATEGIES[:2], "stages": (None, 1, 2, 3)})
"""Some twenty searches."""


def graph_of(batch: int) -> tuple[Graph, ModelRef]:
    """A chain of products; of more elements, with more arithmetic."""
    graph = block_chain(5)
    if batch > 1:
        ops = tuple(op.model_copy(update={"flop": op.flop * batch}) for op in graph.ops)
        graph = graph.model_copy(update={"ops": ops})
    return graph, reference_of(graph, "chain").model_copy(update={"item_name": "image"})


def explored(dimensions: Dimensions = GRID, processes: int = 1, simulated: bool = False) -> Exploration:
    """The exploration of `dimensions`."""
    return explore(graph_of, dimensions, settings=Settings(processes=processes, simulated=simulated))


if __name__ == "__main__":
    found = explored(FEW, int(sys.argv[2]))
    print(found.searches, found.resumed, len(found.rows), flush=True)
    Path(sys.argv[1]).write_text(dumps(document(found)))
    sys.exit(130 if found.interrupted else 0)
