"""`mapper simulate`: a plan on the machine that it was made for, item by item, without the machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mapper.cli.output import Json, PlanFile, emit_json, emit_text, width
from mapper.errors import BadInput

if TYPE_CHECKING:
    from mapper.plans.timeline import Timeline
    from mapper.simulator.simulate import Arrivals

Trace = Annotated[
    Path | None,
    typer.Option(help="Write the timeline: FILE.json for ui.perfetto.dev; FILE.svg or FILE.png: a Gantt chart."),
]


def simulate_command(
    plan: PlanFile,
    items: Annotated[int | None, typer.Option(min=1, help="Items to measure [200, or four windows].")] = None,
    warmup: Annotated[int | None, typer.Option(min=0, help="Items before them [two windows].")] = None,
    arrivals: Annotated[
        str, typer.Option(help="closed (as soon as there is room), items a second (Poisson), or a file of times.")
    ] = "closed",
    jitter: Annotated[
        str, typer.Option(help="Standard deviation of computing times over their mean, such as 5%.")
    ] = "0",
    seed: Annotated[int, typer.Option(help="Of arrivals and jitter.")] = 0,
    trace: Trace = None,
    gantt: Annotated[bool, typer.Option("--gantt", help="Print the end of the timeline, a line a replica.")] = False,
    json: Json = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the result here (JSON).")] = None,
) -> None:
    """Simulate a plan on its machine: throughput, latencies, who is busy, who waits for whom."""
    from mapper import jsonio
    from mapper.plans.file import load_plan
    from mapper.plans.timeline import Span, Timeline
    from mapper.reports.gantt import gantt_text
    from mapper.reports.simulate import simulated_text
    from mapper.simulator.simulate import simulate
    from mapper.units import parse_fraction

    made, spans = load_plan(plan), list[Span]()
    found = simulate(
        made, items=items, warmup=warmup, arrivals=_arrivals(arrivals), spread=parse_fraction(jitter), seed=seed,
        watch=spans.append if trace is not None or gantt else None,
    )  # fmt: skip
    timeline = Timeline.of(made, spans, "simulated")
    document = found.model_dump(mode="json")
    if trace is not None:
        write_timeline(trace, timeline)
    if output is not None:
        jsonio.write_text(output, jsonio.dumps(document))
    if json:
        emit_json(document)
        return
    emit_text(simulated_text(found))
    if gantt:
        emit_text(["", *gantt_text(timeline, width())])
    for path in filter(None, (trace, output)):
        typer.echo(f"Written to {path}.")


def write_timeline(path: Path, timeline: Timeline) -> None:
    """Writes `timeline` as trace events or as a picture, by the ending of `path`."""
    from mapper import jsonio
    from mapper.plans.timeline import trace_events
    from mapper.reports.gantt import draw_gantt

    if path.suffix.lower() == ".json":
        jsonio.write_text(path, jsonio.dumps(trace_events(timeline)))
    else:
        draw_gantt(timeline, path)


def _arrivals(text: str) -> Arrivals:
    """What `--arrivals` says. Raises: UsageError; BadInput for a file that has something else than times."""
    from mapper.simulator.simulate import Arrivals
    from mapper.units import parse_per_second

    if text == "closed":
        return Arrivals()
    path = Path(text)
    if not path.is_file():
        return Arrivals(rate_per_s=parse_per_second(text))
    times = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        try:
            times += [float(line)] if line.strip() else []
        except ValueError:
            raise BadInput(str(path), f"{line.strip()[:40]!r} is no time in seconds", place=f"line {number}") from None
    if not times:
        raise BadInput(str(path), "it has no times: a line an item, in seconds, was expected")
    return Arrivals(trace_s=tuple(times))
