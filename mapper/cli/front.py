"""`mapper plan --objective pareto`: the trades of throughput, latency and cores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mapper.cli.output import Progress, emit_json, emit_text

if TYPE_CHECKING:
    from mapper.plans.front import Front
    from mapper.plans.model import Plan

PARETO = "pareto"
"""The objective that has no single best plan."""
_KNOWN = frozenset((
    "model", "graph", "bandwidth", "topo", "cores", "groups", "reserve", "hosts", "link", "batch", "length", "columns",
    "weights", "seed", "trust", "objective", "stages", "max_stages", "replicas", "max_cores", "max_latency",
    "min_throughput", "memory_per_node", "together", "apart", "configurations", "near_optimal", "time_limit", "json",
    "output", "quiet", "precision",
))  # fmt: skip
"""Options of `mapper plan` that go with it."""

Precision = Annotated[
    str | None,
    typer.Option(help="For --objective pareto: the share of period and latency that plans may differ by [10%]."),
]


def plan_given_front(context: typer.Context) -> None:
    """Finds, prints and writes the front that the options of the command in `context` ask for.

    Interrupted, it prints and writes the front of what was found so far, and ends as interrupted. Raises: UsageError
    for an option that does not go with it.
    """
    from mapper.cli.machine import machine_of
    from mapper.cli.planning import AUTO, Asked, work_of
    from mapper.cli.source import columns_of
    from mapper.errors import UsageError
    from mapper.plans.source import in_columns
    from mapper.solver.front import PRECISION, front_with_plans
    from mapper.solver.stop import Stop
    from mapper.units import parse_fraction, parse_seconds

    given = context.params
    _refuse_others(context)
    asked, output = Asked.of(given), given["output"]
    if (asked.model is None) == (asked.graph is None):
        raise UsageError("name a model or a graph: --model NAME or --graph FILE")
    if not asked.batch.isdecimal() or int(asked.batch) < 1 or asked.columns == [AUTO]:
        raise UsageError(f"--objective {PARETO} takes no --batch or --columns {AUTO}, but numbers from 1")
    machine = machine_of(*(given[name] for name in ("topo", "cores", "groups", "reserve", "hosts", "link")))
    precision = parse_fraction(given["precision"]) if given["precision"] else PRECISION
    stop = Stop(parse_seconds(given["time_limit"]) if given["time_limit"] else None)
    with Progress(given["quiet"] or given["json"]) as progress:
        work, reference, table = work_of(asked, machine, asked.length, int(asked.batch), progress)
        if asked.columns:
            work, reference = in_columns(work, reference, columns_of(asked.columns))
        front, plans = front_with_plans(
            work, machine, costs=table, limits=asked.limits(machine, work.costed), precision=precision,
            near_optimal=parse_fraction(asked.near_optimal or ("0" if work.costed else "1%")), model=reference,
            batch=int(asked.batch), progress=progress.say, stop=stop,
        )  # fmt: skip
    _emit(front, plans, output, given["json"])
    if stop.interrupted:
        raise KeyboardInterrupt


def refuse_precision(precision: str | None) -> None:
    """Raises UsageError for `--precision` where there is one plan."""
    from mapper.errors import UsageError

    if precision is not None:
        raise UsageError(f"--precision is that of a front: it goes with --objective {PARETO}")


def _refuse_others(context: typer.Context) -> None:
    """Options that were typed and say nothing to a front are an error."""
    from mapper.errors import UsageError

    names = [parameter.opts[-1] for parameter in context.command.params if _typed(context, str(parameter.name))]
    if names:
        advice = "A problem file is planned under single limits: --max-latency, --max-cores." * ("--problem" in names)
        raise UsageError(
            f"{', '.join(names)} {'do' if len(names) > 1 else 'does'} not go with --objective {PARETO}", advice=advice
        )


def _typed(context: typer.Context, name: str) -> bool:
    """Whether the option is none of a front's and was given on the command line."""
    source: Any = context.get_parameter_source(name)
    return name not in _KNOWN and source is not None and source.name == "COMMANDLINE"


def _emit(front: Front, plans: tuple[Plan | None, ...], output: Path | None, json: bool) -> None:
    """The front on stdout; in `output` as JSON or CSV, or in a folder with the plan of each point."""
    from mapper.jsonio import plain
    from mapper.plans.front import save_front
    from mapper.reports.front import front_text

    if output is not None and (output.is_dir() or not output.suffix):
        _write_all(front, plans, output)
    elif output is not None:
        save_front(front, output)
    if json:
        emit_json(plain(front))
        return
    emit_text(front_text(front))
    if output is not None:
        typer.echo(f"Written to {output}")


def _write_all(front: Front, plans: tuple[Plan | None, ...], folder: Path) -> None:
    """`front.json` and `plan.1.json`, `plan.2.json` … in `folder`: the plans of the points, in their order."""
    from mapper.errors import SystemRefused
    from mapper.plans.file import save_plan
    from mapper.plans.front import save_front

    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise SystemRefused(f"{folder}: {error.strerror}") from error
    save_front(front, folder / "front.json")
    for i, plan in enumerate(plans, 1):
        if plan is not None:
            save_plan(plan, folder / f"plan.{i}.json")
