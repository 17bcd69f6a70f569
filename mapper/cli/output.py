"""What commands share in printing: one JSON document, or text for people."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

Backend = Annotated[
    str | None,
    typer.Option(
        help="What computes: eager, inductor, onnxruntime or openvino; with fewer bits eager:bfloat16, "
        "inductor:bfloat16, openvino:bfloat16 or onnxruntime:int8 [what the plan says, else eager]."
    ),
]
NamedModel = Annotated[str | None, typer.Option("--model", help="The model's source, instead of the one in the plan.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")]
PlanFile = Annotated[Path, typer.Argument(help="A plan file, or a bundle.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")]
Trust = Annotated[bool, typer.Option("--trust", help="Run the code that the plan names as its model.")]


def emit_json(document: Any) -> None:
    """`document` on stdout, and nothing else."""
    from mapper import jsonio

    typer.echo(jsonio.dumps(document), nl=False)


def width() -> int:
    """Columns to write in: those of the terminal, 100 in a pipe."""
    return shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 100


def emit_rich(renderable: Any, *, wrap: bool = True) -> None:
    """A rich table or text on stdout: in colour on a terminal, plain in a pipe, which may be closed at any time.

    Long lines are wrapped, but for text that has lines of its own.
    """
    from rich.console import Console

    console = Console(width=width())
    with console.capture() as captured:
        console.print(renderable, soft_wrap=not wrap)
    typer.echo(captured.get(), nl=False)


class Progress:
    """A line on stderr that is written over, on a terminal only; `quiet` or a pipe shows nothing."""

    def __init__(self, quiet: bool = False) -> None:
        self.shown = sys.stderr.isatty() and not quiet

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def say(self, message: str) -> None:
        """Replaces the line by `message`."""
        if self.shown:
            sys.stderr.write(f"\r\x1b[K{message[: width() - 1]}")
            sys.stderr.flush()

    def tell(self, message: str) -> None:
        """What the user should know, on stderr in place of the line: also where it is not shown."""
        self.clear()
        typer.echo(f"mapper: {message}", err=True)

    def clear(self) -> None:
        """Takes the line away."""
        if self.shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
