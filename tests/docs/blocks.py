"""The code blocks of README and docs, and what the comments before them say about running them.

A comment `<!-- code: ... -->` before a block is not shown, but is in the page's source:

    code: soak                          it takes more than some seconds: `make soak` runs it
    code: not run: REASON               nothing of it is run
    code: not run "TEXT": REASON        the lines that have TEXT in them are not run
    code: before COMMAND                is run first, in the folder of the block
    code: continues                     runs in the folder of the block of commands before it
    code: fails                         every line of it ends with an exit code of its own, which the page tells

Several comments may stand before one block. A block without one is run by every `make test`. Lines that are not run are
still read by the command line's parser, so that no command or option in them is one that there is not.
"""

from __future__ import annotations

import ast
import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (
    ROOT / "README.md", ROOT / "CONTRIBUTING.md",
    *sorted(page for page in (ROOT / "docs").glob("**/*.md") if not {"_build", "reference"} & set(page.parts)),
)  # fmt: skip
"""What people read. What is generated is made of the code itself."""
SHELL, PYTHON, OTHER = "shell", "python", "other"
COMMANDS = ("mapper", "python", "make", "cd", "cmake", "torchrun", "pip", "git", "cat", "mkdir", "sphinx-build")
_LANGUAGES = {"sh": SHELL, "bash": SHELL, "shell": SHELL, "console": SHELL, "python": PYTHON}
_COMMENT = re.compile(r"<!-- code: (.*?) -->", re.DOTALL)
_LINES = re.compile(r'not run "([^"]+)": (.+)', re.DOTALL)


@dataclass(frozen=True)
class Marks:
    """What the comments before a block say."""

    soak: bool = False
    continues: bool = False
    fails: bool = False
    skipped: str = ""
    lines_skipped: tuple[tuple[str, str], ...] = ()
    before: tuple[str, ...] = ()


@dataclass(frozen=True)
class Block:
    """A block of a page, from `line` on."""

    page: Path
    line: int
    kind: str
    text: str
    language: str = ""
    marks: Marks = field(default_factory=Marks)

    @property
    def name(self) -> str:
        """Where it is."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Its commands, a line each: what follows a prompt where there are prompts, else all lines that are no
        comments; continued lines are joined."""
        lines = re.sub(r"\\\n\s*", "", self.text).splitlines()
        prompted = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return prompted or [line for line in lines if line.strip() and not line.startswith("#")]

    @property
    def run(self) -> list[str]:
        """Those of its commands that are run."""
        if self.marks.skipped:
            return []
        skipped = [text for text, _ in self.marks.lines_skipped]
        return [command for command in self.commands if not any(text in command for text in skipped)]

    @property
    def not_run(self) -> list[str]:
        """The others."""
        return [command for command in self.commands if command not in self.run]


def blocks(page: Path) -> list[Block]:
    """The blocks of `page`, fenced and indented, in their order."""
    return list(_blocks(page, page.read_text().splitlines()))


def arguments(command: str) -> list[str]:
    """`command` as the shell splits it, without the comment behind it."""
    return shlex.split(command, comments=True)


def _blocks(page: Path, lines: list[str]) -> Iterator[Block]:
    i, comments = 0, list[str]()
    while i < len(lines):
        start = i
        if lines[i].startswith("<!--"):
            while "-->" not in lines[i]:
                i += 1
            comments += _COMMENT.findall("\n".join(lines[start : i + 1]))
            i += 1
            continue
        fence = re.match(r"(`{3,}|~{3,})\s*(\S*)", lines[i])
        if fence:
            i = next(j for j in range(i + 1, len(lines)) if lines[j].startswith(fence[1]))
            text = "\n".join(lines[start + 1 : i])
            yield _block(page, start + 1, text, fence[2], comments)
            comments = []
        elif lines[i].startswith("    ") and (start == 0 or not lines[start - 1].strip() or comments):
            while i + 1 < len(lines) and (lines[i + 1].startswith("    ") or not lines[i + 1].strip()):
                i += 1
            yield _block(page, start + 1, textwrap.dedent("\n".join(lines[start : i + 1])).strip("\n"), "", comments)
            comments = []
        elif lines[i].strip() and comments:
            raise AssertionError(f"{page}, line {i + 1}: a comment about code is not before code")
        i += 1


def _block(page: Path, line: int, text: str, language: str, comments: list[str]) -> Block:
    kind = _LANGUAGES.get(language, OTHER) if language else _kind(text)
    return Block(page, line, kind, text, language, _marks(comments))


def _kind(text: str) -> str:
    """What an indented block is: commands, Python, or something else (a formula, an output)."""
    first = text.splitlines()[0]
    if first.startswith("$ ") or first.split()[0] in COMMANDS or re.match(r"[A-Z_]+=\S+ .*\btorchrun\b", first):
        return SHELL
    if re.match(r"(import|from|with|for|async|def|class) ", first):
        try:
            ast.parse(textwrap.dedent(text))
        except SyntaxError:
            return PYTHON if first.startswith(("import ", "with mapper", "from ")) else OTHER
        return PYTHON
    return OTHER


def _marks(comments: list[str]) -> Marks:
    marks: dict[str, object] = {"lines_skipped": [], "before": []}
    for comment in (" ".join(comment.split()) for comment in comments):
        if comment in ("soak", "continues", "fails"):
            marks[comment] = True
        elif comment.startswith("before "):
            marks["before"] = [*marks["before"], comment.removeprefix("before ")]  # type: ignore[misc]
        elif lines := _LINES.fullmatch(comment):
            marks["lines_skipped"] = [*marks["lines_skipped"], lines.groups()]  # type: ignore[misc]
        elif comment.startswith("not run: ") and len(comment) > len("not run: "):
            marks["skipped"] = comment.removeprefix("not run: ")
        else:
            raise AssertionError(f"'code: {comment}' is not known: see tests/docs/blocks.py")
    made = {key: tuple(value) if isinstance(value, list) else value for key, value in marks.items()}
    return Marks(**made)  # type: ignore[arg-type]
