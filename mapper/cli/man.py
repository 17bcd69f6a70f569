"""`mapper man`: the manual page."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer


def man_command(
    context: typer.Context,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the page here, for instance share/man/man1/mapper.1.")
    ] = None,
) -> None:
    """Show the manual page of all commands: on a terminal in man, in a pipe or file as roff."""
    from mapper import __version__, jsonio
    from mapper.cli.commands import commands
    from mapper.cli.manual import manual_page

    page = manual_page(commands(context.find_root().command), __version__)
    if output is not None:
        jsonio.write_text(output, page)
        typer.echo(f"Written to {output}.")
    elif sys.stdout.isatty() and (viewer := shutil.which("man")):
        subprocess.run([viewer, "-l", "-"], input=page.encode(), check=False)
    else:
        typer.echo(page, nl=False)
