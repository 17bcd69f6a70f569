"""The README of an export, and text from models in the languages of other tools.

What a model, op or machine is called can be anything. It gets into an export through the functions here, or as a JSON
string; never into code, and never into the name of a file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from mapper import jsonio
from mapper.exporters.workers import workers_of
from mapper.machine.pus import format_pus
from mapper.plans.model import Plan

README = "README.md"
MARK = "<!-- exported by mapper -->"
"""The first line of each README: such a folder may be replaced by another export."""


def printable(text: str) -> str:
    """`text` on one line: what is not printable ASCII or a plain letter of any script comes as a JSON escape."""
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def in_markdown(text: str) -> str:
    """`text` as inline code of Markdown, in a fence longer than any run of backticks in it; a pipe would end a cell."""
    shown = printable(text).replace("|", "¦")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    return f"{fence} {shown} {fence}" if "`" in shown or not shown.strip() else f"{fence}{shown}{fence}"


def as_comment(text: str) -> str:
    """`text` for a comment that goes to the end of its line, in files of ASCII: nothing in it ends the line."""
    return json.dumps(text)[1:-1]


def is_export(folder: Path) -> bool:
    """Whether `folder` is an export: its README has the mark. One that cannot be read is none."""
    try:
        with (folder / README).open("rb") as file:
            return file.read(len(MARK)) == MARK.encode()
    except OSError:
        return False


def write_readme(folder: Path, plan: Plan, title: str, run: Sequence[str], notes: Sequence[str]) -> None:
    """Writes the README: what this is, how to `run` it (lines of a shell), the workers, `notes`, a paragraph each."""
    made = [
        MARK, f"# {in_markdown(plan.model.name)}: {title}", "",
        f"Exported from a plan for {in_markdown(plan.machine.name)}: {len(plan.stages)} stage(s), "
        f"{len(workers_of(plan))} worker(s), back end {in_markdown(plan.request.backend)}, "
        f"predicted {plan.predicted.throughput_per_s:.3g} items/s.", "",
        *(f"    {line}" for line in run), "",
        *_workers(plan), "",
        "PUs and nodes are those that the machine of the plan states. On a machine whose system numbers them in "
        "another way, plan again with `--topo host`, and export that.", "",
        *(line for note in notes for line in (note, "")),
    ]  # fmt: skip
    jsonio.write_text(folder / README, "\n".join(made).rstrip() + "\n")


def _workers(plan: Plan) -> list[str]:
    head = ["| rank | stage | replica | host | PUs | NUMA nodes of its weights | threads |",
            "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    return head + [
        f"| {w.rank} | {w.stage} | {w.replica} | {w.host} | {format_pus(w.pus)} | {format_pus(w.nodes)} | {w.threads} |"
        for w in workers_of(plan)
    ]
