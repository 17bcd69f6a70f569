"""All commands as plain data: one walk over what typer made of them. The manual page, the reference in the docs and the
tests of the examples are made from it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from mapper.cli.examples import EXAMPLES, Example
from mapper.cli.help import first_sentence

PROGRAM = "mapper"
_WORDS = {"text": "str", "integer": "int", "filename": "path", "file": "path", "directory": "path", "boolean": "bool"}
"""What older versions of typer call a sort of value, and what it is called here."""


@dataclass(frozen=True)
class Parameter:
    """An argument or an option of a command.

    `flags` are as typed, short ones first, such as `("-o", "--output")`; empty for an argument. `value` says what
    follows (`str`, `int`, `float`, `path`, or the choices with bars between them), empty for a switch. `default` is
    as it would be typed, empty where there is none.
    """

    name: str
    flags: tuple[str, ...]
    value: str
    help: str
    default: str
    required: bool
    repeated: bool

    @property
    def usage(self) -> str:
        """As it is shown: `-o, --output PATH`, `--json`, `PLAN`."""
        if not self.flags:
            return self.name.upper()
        shown = self.value if "|" in self.value else self.value.upper()
        return ", ".join(self.flags) + (f" {shown}" if shown else "")


@dataclass(frozen=True)
class Command:
    """A command, or a group of commands, whose `commands` are then the last words of their names.

    `path` are the words after `mapper`: `("topo", "show")`, none for mapper itself. `summary` is the first sentence of
    the help without its full stop, `help` all of it in paragraphs with an empty line between them, `epilog` what is
    said at the end.
    """

    path: tuple[str, ...]
    summary: str
    help: str
    arguments: tuple[Parameter, ...]
    options: tuple[Parameter, ...]
    examples: tuple[Example, ...]
    commands: tuple[str, ...] = ()
    epilog: str = ""

    @property
    def name(self) -> str:
        """As typed: `mapper topo show`."""
        return " ".join((PROGRAM, *self.path))

    @property
    def usage(self) -> str:
        """One line: `mapper topo diff A B [OPTIONS]`."""
        if self.commands:
            return f"{self.name} COMMAND [ARGUMENTS] [OPTIONS]"
        words = [argument.usage + "..." * argument.repeated for argument in self.arguments]
        words = [w if a.required else f"[{w}]" for w, a in zip(words, self.arguments, strict=True)]
        words += [option.usage.rpartition(", ")[2] for option in self.options if option.required]
        return " ".join([self.name, *words, *(["[OPTIONS]"] if self.options else [])])


def commands(root: Any) -> tuple[Command, ...]:
    """Every command, mapper itself first, a group before its commands, in the order in which help lists them. `root`
    is what typer made of the app: the command of the outermost context, or `typer.main.get_command(app)`."""
    return tuple(_walk(root, ()))


def _walk(command: Any, path: tuple[str, ...]) -> Iterator[Command]:
    """`command` and all below it. It is of typer, or, with older versions, of click."""
    below: dict[str, Any] = getattr(command, "commands", {})
    context = command.context_class(command, info_name=" ".join((PROGRAM, *path)))
    parameters = [(p.param_type_name, _parameter(p, context)) for p in command.params if not getattr(p, "hidden", None)]
    text = _plain(command.help or "")
    yield Command(
        path=path, summary=first_sentence(text), help=text,
        arguments=tuple(p for kind, p in parameters if kind == "argument"),
        options=tuple(p for kind, p in parameters if kind == "option"),
        examples=EXAMPLES.get(" ".join(path), ()), commands=tuple(below), epilog=_plain(command.epilog or ""),
    )  # fmt: skip
    for name, each in below.items():
        if not each.hidden:
            yield from _walk(each, (*path, name))


def _plain(text: str) -> str:
    """Paragraphs, each in one line."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


def _parameter(given: Any, context: Any) -> Parameter:
    flags = tuple(sorted([*given.opts, *given.secondary_opts], key=len)) if given.param_type_name == "option" else ()
    repeated = bool(getattr(given, "multiple", False)) or given.nargs == -1
    text = _plain(getattr(given, "help", None) or "")
    return Parameter(
        name=given.name, flags=flags, value=_value(given, context), help=text,
        default=_default(given.default), required=bool(given.required), repeated=repeated,
    )  # fmt: skip


def _value(given: Any, context: Any) -> str:
    """What follows an option, by what its help shows."""
    if getattr(given, "is_flag", False):
        return ""
    shown = given.display_type(context) if hasattr(given, "display_type") else given.type.name
    word = str(shown).strip("<>[]{}").lower().removesuffix(" range").removeprefix("list[").rstrip("]")
    if not hasattr(given, "display_type") and getattr(given.type, "choices", None):
        word = "|".join(map(str, given.type.choices))
    return _WORDS.get(word, word)


def _default(value: Any) -> str:
    if value is None or value is False or value in ((), []) or callable(value) or type(value).__name__ == "Sentinel":
        return ""
    return str(value.value if isinstance(value, Enum) else value)
