"""The reference of the command line, from the commands themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import typer

from mapper.cli.commands import Command, Parameter, commands
from mapper.cli.main import app
from mapper.errors import MapperError


def page(listed: Sequence[Command] | None = None) -> str:
    """The page, in Markdown: a section a command with all its arguments, options and examples."""
    lines = ["# Commands", "", "Made from the commands themselves; `mapper COMMAND --help` says the same.", ""]
    for command in listed or commands(typer.main.get_command(app)):
        lines += _section(command)
    return "\n".join([*lines, *_exit_codes()]) + "\n"


def cell(text: str) -> str:
    """Markdown in a cell of a table: on one line, bars escaped."""
    return " ".join(text.split()).replace("|", "\\|")


def code(text: str) -> str:
    """`text` as code in a cell."""
    return "`" + text.replace("|", "\\|") + "`"


def _section(command: Command) -> Iterator[str]:
    yield from [f"## `{command.name}`", "", "```text", command.usage, "```", "", escaped(command.help), ""]
    if command.commands:
        names = (f"`{' '.join((command.name, name))}`" for name in command.commands)
        yield from [f"Commands: {', '.join(names)}.", ""]
    for title, parameters in (("Arguments", command.arguments), ("Options", command.options)):
        if parameters:
            yield from [f"| {title} | | default |", "| --- | --- | --- |", *map(_row, parameters), ""]
    for example in command.examples:
        yield from [f"{escaped(example.what[:1].upper() + example.what[1:])}:", "", "```sh", example.line, "```", ""]
    if command.epilog:
        yield from [escaped(command.epilog), ""]


def _row(parameter: Parameter) -> str:
    notes = [name for name in ("required", "repeated") if getattr(parameter, name)]
    help_ = parameter.help + (f" ({', '.join(notes)})" if notes else "")
    default = code(parameter.default) if parameter.default else ""
    return f"| {code(parameter.usage)} | {cell(escaped(help_))} | {default} |"


def escaped(text: str) -> str:
    """`text`, which is plain but for code in backticks, as Markdown."""
    parts = text.split("`")
    return "`".join(part if i % 2 else re.sub(r"([*_<\[])", r"\\\1", part) for i, part in enumerate(parts))


def _exit_codes() -> Iterator[str]:
    yield from ["## Exit codes", "", "[Errors](../errors.md) has an example of each.", "",
                "| code | error in Python | |", "| --- | --- | --- |", "| 0 | | done |",
                "| 1 | | a bug in mapper |"]  # fmt: skip
    for kind in sorted(MapperError.__subclasses__(), key=lambda kind: kind.exit_code):
        yield f"| {kind.exit_code} | `{kind.__name__}` | {cell((kind.__doc__ or '').splitlines()[0])} |"
    yield from ["| 130, 143 | | interrupted, terminated |", ""]
