"""The manual page as roff, from the same data as `--help`; its macros are those of man(7)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mapper.cli.commands import PROGRAM, Command, Parameter
from mapper.cli.examples import Example
from mapper.cli.help import broken

WIDEST = 72
"""Characters of a command line in the page, which a terminal of 80 columns indents by 7."""
_FILES = (
    ("models/*.toml", "Models of one's own by name, before the bundled ones."),
    ("~/.cache/mapper", "What was traced, compiled or measured half way; XDG_CACHE_HOME moves it."),
)
_ENVIRONMENT = (
    ("NO_COLOR", "Where it is set, terminals get no colours either."),
    ("COLUMNS", "The width to write in, instead of the terminal's."),
    ("XDG_CACHE_HOME", "The folder in which the cache folder is."),
)


def manual_page(commands: Sequence[Command], version: str) -> str:
    """The page mapper(1) of all `commands`, mapper itself first; the same for the same commands."""
    root, *others = commands
    lines = [
        f'.TH {PROGRAM.upper()} 1 "" "{PROGRAM} {_text(version)}" "User Commands"',
        ".nh", ".ad l",
        ".SH NAME", f"{PROGRAM} \\- {_text(_uncapital(root.summary))}",
        ".SH SYNOPSIS", *_usage(root),
        ".SH DESCRIPTION", *_paragraphs(root.help),
        "Each command says what it takes with", f".BR \"{PROGRAM} COMMAND \\-\\-help\" .",
        *(line for option in root.options for line in _parameter(option)),
        ".SH COMMANDS",
    ]  # fmt: skip
    for command in others:
        lines += _command(command)
    exits = _exit_codes(root.epilog)
    if exits:
        lines += [".SH EXIT STATUS", *(line for code, what in exits for line in (".TP", f".B {code}", _text(what)))]
    for title, rows in (("ENVIRONMENT", _ENVIRONMENT), ("FILES", _FILES)):
        lines += [f".SH {title}", *(line for name, what in rows for line in (".TP", f".B {_text(name)}", _text(what)))]
    return "\n".join(lines) + "\n"


def _command(command: Command) -> Iterator[str]:
    """The part of the page about one command; of a group what it is for."""
    yield f'.SS "{_text(command.name)}"'
    yield from _usage(command)
    yield ".PP"
    yield from _paragraphs(command.help)
    for parameter in (*command.arguments, *command.options):
        yield from _parameter(parameter)
    yield from _examples(command.examples)


def _usage(command: Command) -> Iterator[str]:
    yield f".B {_text(command.name)}"
    if rest := command.usage.removeprefix(command.name).strip():
        yield _text(rest)


def _parameter(parameter: Parameter) -> Iterator[str]:
    """A tagged paragraph: what is typed, then what it does."""
    yield ".TP"
    shown = parameter.usage
    flags = ", ".join(parameter.flags)
    if flags:
        yield f"\\fB{_text(flags)}\\fR{_text(shown[len(flags) :])}"
    else:
        yield f"\\fI{_text(shown)}\\fR"
    default = f" Default: {parameter.default}." if parameter.default else ""
    told = f"{parameter.help}{default}" or "Needed."
    yield _text(told)


def _examples(examples: Sequence[Example]) -> Iterator[str]:
    for example in examples:
        yield ".PP"
        yield f"{_text(example.what)}:"
        yield from (".PP", ".nf", ".RS 4")
        yield from map(_text, broken(example.line, WIDEST - 4, ""))
        yield from (".RE", ".fi")


def _paragraphs(text: str) -> Iterator[str]:
    for i, paragraph in enumerate(text.split("\n\n")):
        if i:
            yield ".PP"
        yield _text(paragraph)


def _exit_codes(epilog: str) -> list[tuple[str, str]]:
    """The codes in `Exit codes: 0 done, 1 a bug, 10 the system refused.`"""
    head, _, rest = epilog.partition(": ")
    if not head.lower().startswith("exit codes"):
        return []
    parts = re.split(r",\s+(?=\d+ )", rest.rstrip("."))
    return [(code, what) for code, _, what in (part.partition(" ") for part in parts)]


def _uncapital(text: str) -> str:
    return text[:1].lower() + text[1:]


def _text(text: str) -> str:
    """`text` as roff shows it: backslashes and hyphens are themselves, no line begins a request."""
    shown = text.replace("\\", "\\e").replace("-", "\\-")
    shown = "".join(c if ord(c) < 128 else f"\\[u{ord(c):04X}]" for c in shown)
    return f"\\&{shown}" if shown[:1] in (".", "'") else shown
