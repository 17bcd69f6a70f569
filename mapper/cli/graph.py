"""What commands share about graph files: `--graph` and `--bandwidth`, read into a graph and its costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mapper.cost.table import CostTable
    from mapper.graph.model import Graph
    from mapper.machine.model import Machine
    from mapper.plans.model import ModelRef

BANDWIDTH = "16GB/s"
"""That of the published pipeline problems."""

GraphFile = Annotated[
    Path | None,
    typer.Option("--graph", help="A graph file instead of a model: our JSON, dnn-partitioning JSON or PipeDream."),
]
Bandwidth = Annotated[
    str | None,
    typer.Option(help=f"For --graph, where the file gives bytes of tensors, but no time to move them [{BANDWIDTH}]."),
]
Replicas = Annotated[
    str | None, typer.Option(help="At most so many replicas of a stage, or any [any; 1 for graphs with times].")
]


def graph_of_file(path: Path) -> tuple[Graph, ModelRef]:
    """The graph in `path`, and how a plan refers to it: by the file's name, not its folder."""
    from mapper.graph.importers.load import load_graph
    from mapper.plans.reference import reference_of

    graph = load_graph(path)
    return graph, reference_of(graph, path.name)


def given_table(graph: Graph, machine: Machine, bandwidth: str | None) -> CostTable | None:
    """The costs that `graph` brings for the units of `machine`, None where it brings none and the machine's count.

    Raises: UsageError when they are for units and the machine is none of units.
    """
    from mapper.cost.imported import given_costs
    from mapper.errors import UsageError
    from mapper.units import parse_rate

    if not graph.costed:
        if bandwidth is not None:
            raise UsageError(f"--bandwidth is for graphs with times; {graph.name} has none")
        return None
    if not machine.name.startswith("uniform:"):
        raise UsageError(f"{graph.name} brings times of its own, for equal units; {machine.name} is no such machine",
                         advice="K units: --topo uniform:K.")  # fmt: skip
    return given_costs(graph, parse_rate(bandwidth or BANDWIDTH))


def most_replicas(text: str | None, costed: bool) -> int | None:
    """`--replicas`: a number, or None for any. Not given it is 1 for graphs that bring their times, else any."""
    from mapper.errors import UsageError

    if text is None:
        return 1 if costed else None
    if text == "any":
        return None
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--replicas {text}: a number from 1 was expected, or any")
    return int(text)


def refuse_model_options(options: dict[str, Any]) -> None:
    """Options of models make no difference to a graph file, so they are an error."""
    from mapper.errors import UsageError

    given = [f"--{name}" for name in options]
    if given:
        raise UsageError(f"{', '.join(given)} {'is' if len(given) == 1 else 'are'} for models, not for graph files")
