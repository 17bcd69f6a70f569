"""The model that several commands take, which one and with which options; and the plan that several open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mapper.cli import completion

if TYPE_CHECKING:
    from mapper.plans.model import Plan
    from mapper.sources.bundle import Bundle

_SOURCES = "A model's name (mapper model list), a card file, package.module:callable, a .pt2 or .onnx file"
MODEL = typer.Option(help=f"{_SOURCES}.", autocompletion=completion.models)
Model = Annotated[str, MODEL]
NamedSource = Annotated[str, typer.Argument(help=f"{_SOURCES}.", autocompletion=completion.models)]
GraphSource = Annotated[str, typer.Argument(help=f"{_SOURCES}, or a graph file.", autocompletion=completion.models)]
Batch = Annotated[int, typer.Option(min=1, help="Elements per item: how many one call of the model takes.")]
Length = Annotated[int | None, typer.Option(min=1, help="Tokens per sequence, for text models [the card's].")]
TrustFile = Annotated[bool, typer.Option("--trust", help="Open a .pt2 file, which can run code of its maker.")]
Seed = Annotated[int | None, typer.Option(help="Of random weights [the card's].")]
Weights = Annotated[Path | None, typer.Option(help="A safetensors file with the model's weights.")]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        help="Split a product or convolution into so many columns, such as linear_48=2 (may be repeated), or auto: "
        "what binds the plan, where it pays."
    ),
]


def columns_of(given: list[str] | None) -> dict[str, int]:
    """Into how many columns each op is to be split. Raises: UsageError for what cannot be read."""
    from mapper.errors import UsageError

    found: dict[str, int] = {}
    for text in given or []:
        name, _, count = text.rpartition("=")
        if not name or not count.isdecimal() or int(count) < 1:
            raise UsageError(f"--columns {text}: an op and a number were expected, such as linear_48=2, or auto alone")
        found[name] = int(count)
    return found


def model_options(batch: int, seed: int | None, weights: Path | None, length: int | None = None) -> dict[str, Any]:
    """The options of a model that were given, as plans keep them."""
    given = {
        "batch": batch if batch != 1 else None, "length": length, "seed": seed,
        "weights": str(weights) if weights else None,
    }  # fmt: skip
    return {name: value for name, value in given.items() if value is not None}


def opened_plan(path: Path, model: str | None, trust: bool) -> tuple[Plan, Bundle | None]:
    """The plan at `path`, which may be a bundle, and the bundle if it is one."""
    from mapper.plans.file import load_plan
    from mapper.plans.source import trusted
    from mapper.sources.bundle import open_bundle

    if path.is_dir():
        bundle = open_bundle(path)
        return bundle.plan, bundle
    return trusted(load_plan(path), model=model, trust=trust), None
