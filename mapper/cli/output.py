"""What commands share in printing: one JSON document, or text for people."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mapper.cli import completion

Backend = Annotated[
    str | None,
    typer.Option(
        help="What computes: eager, inductor, onnxruntime or openvino; with fewer bits eager:bfloat16, "
        "inductor:bfloat16, openvino:bfloat16 or onnxruntime:int8 [what the plan says, else eager].",
        autocompletion=completion.backends,
    ),
]
NamedModel = Annotated[
    str | None,
    typer.Option(
        "--model", help="The model's source, instead of the one in the plan.", autocompletion=completion.models
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")]
PlanFile = Annotated[Path, typer.Argument(help="A plan file, or a bundle.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")]
Trust = Annotated[bool, typer.Option("--trust", help="Run the code that the plan names as its model.")]


def emit_json(document: Any) -> None:
    """`document` on stdout, and nothing else."""
    from mapper import jsonio

    typer.echo(jsonio.dumps(document), nl=False)


def width() -> int:
    """Columns to write in: those of the terminal, 100 in a pipe; or what COLUMNS says."""
    return shutil.get_terminal_size((100, 24)).columns if _is_fitted() else 100


def _is_fitted() -> bool:
    """Whether lines are made for a width. In a pipe they are as long as they are: a search finds them whole."""
    return sys.stdout.isatty() or "COLUMNS" in os.environ


def emit_rich(renderable: Any, *, wrap: bool = True) -> None:
    """A rich table or text on stdout: in colour on a terminal, plain in a pipe, which may be closed at any time.

    Long lines are wrapped, but for text that has lines of its own.
    """
    from rich.console import Console

    console = Console(width=width())
    with console.capture() as captured:
        console.print(renderable, soft_wrap=not wrap)
    typer.echo(captured.get(), nl=False)


def emit_text(lines: Sequence[str]) -> None:
    """The lines of a report on stdout, laid out for the columns that there are: in colour on a terminal."""
    from mapper.reports.lines import fitted, harmless, plain, rich_text

    if not _is_fitted():
        typer.echo(harmless("\n".join(lines)))
        return
    made = fitted(lines, width())
    if sys.stdout.isatty():
        emit_rich(rich_text(made), wrap=False)
    else:
        typer.echo("\n".join(plain(made)))


def progress_width() -> int:
    """Columns of the terminal that progress is shown on; stdout may be a file meanwhile. What COLUMNS says counts where
    it is less: a line that the terminal has no room for could not be written over."""
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80  # 0: the terminal does not know
    except (OSError, ValueError):
        columns = 80
    return min(columns, width()) if "COLUMNS" in os.environ else columns


class Progress:
    """A line on stderr that is written over, on a terminal only; `quiet` or a pipe shows nothing."""

    def __init__(self, quiet: bool = False) -> None:
        self.shown = sys.stderr.isatty() and not quiet

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    @property
    def room(self) -> int:
        """Columns of the line: the last one stays free, as some terminals go on below once it is filled."""
        return progress_width() - 1

    def say(self, message: str) -> None:
        """Replaces the line by `message`, or by as much of it as there is room for."""
        if self.shown:
            from mapper.reports.lines import one_line

            sys.stderr.write(f"\r\x1b[K{one_line(message, self.room)}")
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
