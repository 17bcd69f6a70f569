"""The report as one offline page: it loads nothing, and its policy lets only its own script and style sheet apply."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib import resources
from itertools import groupby
from typing import TYPE_CHECKING, Any

from mapper.errors import MissingFeature
from mapper.machine.draw import printable
from mapper.plans.model import Plan
from mapper.reports.page.contents import Contents, Model
from mapper.reports.page.drawing import svg
from mapper.reports.page.modules import Module
from mapper.reports.page.sections import Picture, Section, sections_of
from mapper.reports.plan import answer, items_name, shape_of, subject
from mapper.units import format_bytes, format_rate, format_seconds

if TYPE_CHECKING:
    from jinja2 import Environment

_STAGE = re.compile(r"stage (\d+)\Z")
_CELLS = re.compile(r"\S {2,}\S")
_FIRST_OF_COLUMNS = ("loads", "traffic", "explained")


def page(found: Contents) -> str:
    """The page as text, the same for the same contents. Raises: MissingFeature without jinja2."""
    environment = _environment()
    css, script = _file("report.css"), _file("report.js")
    plan = found.plan
    return environment.get_template("report.html").render(
        policy=policy(css, script), css=environment.filters["raw"](css), script=environment.filters["raw"](script),
        title=f"{plan.model.title or plan.model.name} on {plan.machine.title or plan.machine.name}",
        subject=subject(plan), answer=answer(plan).splitlines(), shape=shape_of(plan), cards=_cards(plan),
        stages=_chips(plan), columns=columns_of(sections_of(found)),
        row=partial(_row, found.model) if isinstance(found.model, Model) else None, stage_of=plan.stage_of,
    )  # fmt: skip


def policy(css: str, script: str) -> str:
    """The content security policy under which nothing but `css` and `script`, known by their hashes, applies."""
    return (f"default-src 'none'; style-src {_hash(css)}; script-src {_hash(script)}; base-uri 'none'; "
            "form-action 'none'")  # fmt: skip


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _file(name: str) -> str:
    return resources.files("mapper.reports.page").joinpath("templates", name).read_text(encoding="utf-8")


def _environment() -> Environment:
    """Templates that escape all that is put into them."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in ("jinja2", "markupsafe"):
            raise
        raise MissingFeature(
            "reports need the package jinja2, which is not installed", advice="python -m pip install 'jinja2>=3.1'"
        ) from None

    def shown(value: Any) -> Any:
        return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=PackageLoader("mapper.reports.page"), autoescape=True, undefined=StrictUndefined, finalize=shown,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["raw"] = Markup
    more: dict[str, Callable[..., Any]] = {
        "drawn": lambda picture: [(kind, Markup(text)) for kind, text in _drawn(picture)],
        "swatch": lambda stage: Markup(svg.swatch(stage)),
        "strip": lambda shares: Markup(svg.strip(shares)),
        "stage_in": stage_in,
        "passages": passages,
    }
    environment.globals.update(more)
    return environment


def stage_in(cell: str) -> int | None:
    """The stage that a cell of a table names, such as `stage 3`."""
    found = _STAGE.match(cell)
    return int(found[1]) if found else None


def columns_of(sections: Sequence[Section]) -> list[list[Section]]:
    """The sections as they stand beside each other where there is room: machine and model, what happens in time, what
    else there is, and the long texts."""
    columns: list[list[Section]] = [[]]
    for section in sections:
        if section.name in _FIRST_OF_COLUMNS:
            columns.append([])
        columns[-1].append(section)
    return columns


def passages(lines: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Lines of text in runs without the empty lines between them: those of tables and drawings, whose columns stay
    below each other, and prose, which may be broken anywhere."""
    for blank, run in groupby(lines, key=lambda line: not line.strip()):
        block = list(run)
        cells = [i for i, line in enumerate(block) if _CELLS.search(line.strip())]
        first, end = (cells[0], cells[-1] + 1) if cells else (0, 0)
        parts = (("prose", block[:first]), ("columns", block[first:end]), ("prose", block[end:]))
        yield from ((kind, part) for kind, part in parts if part and not blank)


def _drawn(picture: Picture) -> list[tuple[str, str]]:
    """The picture for each kind of screen."""
    return [
        (kind, svg.page_svg(*picture.draw(width), f"{picture.name}-{kind}", picture.title, picture.about))
        for kind, width in picture.screens
    ]


def _cards(plan: Plan) -> list[tuple[str, str]]:
    """The figures that one wants first: names and values with their units."""
    its = plan.predicted
    return [
        ("throughput", f"{format_rate(its.throughput_per_s)} {items_name(plan).split(' ')[0]}/s"),
        ("latency", format_seconds(its.latency_s)),
        ("period", format_seconds(its.period_s)),
        ("cores", f"{its.cores_used} of {len(plan.machine.cores)}"),
        ("DRAM an item", format_bytes(its.dram_bytes_per_item)),
        ("gap to the bound", f"{plan.solver.gap:.2%}"),
    ]


def _chips(plan: Plan) -> list[tuple[int, str]]:
    """The stages, each with a few words."""
    return [
        (stage.id, f"stage {stage.id}: {len(stage.ops)} ops, {format_seconds(stage.load.total_s)} an item, "
                   f"{len(stage.replicas)} {'copy' if len(stage.replicas) == 1 else 'copies'} of "
                   f"{stage.replicas[0].configuration.cores} cores")
        for stage in plan.stages
    ]  # fmt: skip


def _row(model: Model, module: Module | str, stage_of: Mapping[str, int]) -> dict[str, Any]:
    """A row of the tree: a module or an op with its share of the stages."""
    ops = (module,) if isinstance(module, str) else module.all_ops()
    weights: dict[int, float] = {}
    for op in ops:
        if op in stage_of:
            weights[stage_of[op]] = weights.get(stage_of[op], 0.0) + model.shares.of.get(op, 0.0)
    total = sum(weights.values())
    shares = [(stage, part / total if total else 1 / len(weights)) for stage, part in sorted(weights.items())]
    told = model.shares.told(total) if model.shares.unit != "ops" else ""
    return {"ops": len(ops), "told": told, "shares": shares, "stages": [stage for stage, _ in shares]}
