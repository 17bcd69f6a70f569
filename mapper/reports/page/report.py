"""`mapper report`: a plan as one page, and as pictures in files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from mapper import jsonio
from mapper.cost.table import CostTable
from mapper.errors import MissingFeature, SystemRefused
from mapper.graph.model import Graph
from mapper.plans.model import Plan
from mapper.reports.page import measured
from mapper.reports.page.charts import Missing
from mapper.reports.page.contents import Contents, contents_of
from mapper.reports.page.drawing.svg import svg_file
from mapper.reports.page.page import page
from mapper.reports.page.sections import WIDE, Picture, sections_of
from mapper.reports.sheet import require_matplotlib
from mapper.solver.explanation.explain import SECTIONS, Section
from mapper.solver.search.space import Progress, silent

NO_GRAPH = Missing("The model was not at hand, only the names of its ops, which the plan has.")


def report(
    plan: Plan,
    graph: Graph | Missing = NO_GRAPH,
    measurements: Sequence[str | Path] = (),
    *,
    table: CostTable | None = None,
    only: Collection[Section] = SECTIONS,
    progress: Progress = silent,
) -> str:
    """The report of `plan` as an HTML page that stands alone. `graph` is the model's, without it some sections say that
    they lack it; `table` are the plan's costs where it was made with a profile; `measurements` are files that other
    commands wrote. `only` are the sections that are explained; all but `binding` plan again.

    Raises: BadInput for files that are no measurements of the plan; MissingFeature without jinja2.
    """
    return page(shown(plan, graph, measurements, table=table, only=only, progress=progress))


def shown(
    plan: Plan,
    graph: Graph | Missing,
    measurements: Sequence[str | Path],
    *,
    table: CostTable | None = None,
    only: Collection[Section] = SECTIONS,
    progress: Progress = silent,
) -> Contents:
    """What `report` shows, computed. Raises: BadInput for files that are no measurements of the plan."""
    return contents_of(plan, graph, table, measured.read(measurements, plan), only=only, progress=progress)


def pictures_of(found: Contents) -> tuple[Picture, ...]:
    """The pictures of a report, in their order."""
    return tuple(picture for section in sections_of(found) for picture in section.pictures)


def write_pictures(found: Contents, folder: Path) -> list[Path]:
    """Writes every picture into `folder`, which is made where it is not there: NAME.svg, then NAME.png.

    Raises: SystemRefused; MissingFeature without matplotlib, which PNG needs: the SVG files are there then.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemRefused(f"{folder} cannot be made: {error.strerror}") from error
    pictures, written = pictures_of(found), []
    for picture in pictures:
        written.append(folder / f"{picture.name}.svg")
        jsonio.write_text(written[-1], svg_file(*picture.draw(WIDE), picture.title, picture.about))
    try:
        require_matplotlib()
    except MissingFeature as error:
        what = f"{len(written)} pictures are in {folder} as SVG; as PNG they need the package matplotlib"
        raise MissingFeature(what, advice=error.advice) from None
    for picture in pictures:
        sheet, width, height = picture.draw(WIDE)
        written.append(folder / f"{picture.name}.png")
        with jsonio.replacing(written[-1]) as out:
            out.write(sheet.written(width, height, "png"))
    return written
