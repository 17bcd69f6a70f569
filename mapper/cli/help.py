"""`--help` with examples: what is added to the help that typer writes."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from mapper.cli.examples import EXAMPLES, Example

_NARROWEST = 40


class Command(TyperCommand):
    """A command whose help ends with its examples (`EXAMPLES`)."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Writes the examples, each under what it is for."""
        path = str(ctx.command_path).partition(" ")[2]
        for i, line in enumerate(example_lines(EXAMPLES.get(path, ()), max(formatter.width, _NARROWEST))):
            formatter.write(f"{line}\n" if i else f"\n{line}\n")
        super().format_epilog(ctx, formatter)


class Group(TyperGroup):
    """A group whose help says of each command all of its first sentence."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes the commands, long sentences over several lines."""
        rows = [(name, first_sentence(each.help or "")) for name, each in self.commands.items() if not each.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def first_sentence(text: str) -> str:
    """The first sentence of a help text, in one line and without its full stop."""
    paragraph = " ".join(text.strip().partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].rstrip(".")


def with_examples(app: typer.Typer) -> None:
    """Lets all commands of `app` and of the groups in it show their examples."""
    for command in app.registered_commands:
        command.cls = Command
    for group in app.registered_groups:
        if group.typer_instance is not None:
            with_examples(group.typer_instance)


def example_lines(examples: tuple[Example, ...], width: int) -> list[str]:
    """The section in lines of at most `width` characters where no single word is longer; nothing without examples."""
    import textwrap

    lines = ["Examples:"] if examples else []
    for example in examples:
        lines += textwrap.wrap(f"{example.what}:", width, initial_indent="  ", subsequent_indent="  ")
        lines += broken(example.line, width, "    ")
    return lines


def broken(line: str, width: int, indent: str) -> list[str]:
    """A command line over several, before options, each but the last with a backslash: as it can be pasted."""
    parts: list[str] = []
    for word in line.split(" "):
        if not parts or word.startswith("-"):
            parts.append(word)
        else:
            parts[-1] += f" {word}"
    lines = [indent + parts[0]]
    for part in parts[1:]:
        if len(lines[-1]) + len(part) + 3 <= width:
            lines[-1] += f" {part}"
        else:
            lines[-1] += " \\"
            lines.append(f"{indent}  {part}")
    return lines
