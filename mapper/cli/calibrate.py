"""`mapper calibrate`: measure this machine, and write it as a topology file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mapper.cli import completion
from mapper.cli.output import Json, Progress, Quiet, emit_json, emit_text

if TYPE_CHECKING:
    from mapper.measure.calibrate import Calibration, Row, Settings
    from mapper.measure.wanted import Part


def calibrate_command(
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the topology file here.")] = None,
    topo: Annotated[
        str | None,
        typer.Option(
            help="A description of this machine to put the figures into [as discovered].",
            autocompletion=completion.machines,
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Interleaved rounds.")] = 15,
    seconds: Annotated[
        float, typer.Option(min=0.01, max=60, help="How long a round of one figure takes, without preparing it.")
    ] = 0.5,
    max_spread: Annotated[
        str, typer.Option(help="A figure is refused where the middle half of its rounds spreads over more.")
    ] = "25%",
    only: Annotated[
        str | None,
        typer.Option(
            help="machine (caches, memory, links, overheads) or rates (of sorts of op) [both].",
            autocompletion=completion.one("machine", "rates"),
        ),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew, also where one could go on.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure caches, memory, links and ops on this machine (minutes); interrupted, the same command goes on."""
    from mapper.machine.files import save_machine
    from mapper.measure.calibrate import Settings
    from mapper.units import parse_fraction

    parts = _parts(only)
    settings = Settings(rounds, seconds, parse_fraction(max_spread))
    with Progress(quiet or json) as line:
        result = _calibrated(topo, settings, parts, fresh, line)
    if output is not None:
        save_machine(result.machine, output)
    _emit(result, json)
    if output is not None:
        typer.echo(f"Written to {output}.", err=json)


def _parts(only: str | None) -> tuple[Part, ...]:
    """The parts that `--only` names. Raises: UsageError when there is no such part."""
    from mapper.errors import UsageError, one_of
    from mapper.measure.wanted import PARTS

    if only is None:
        return PARTS
    if only not in PARTS:
        raise UsageError(f"--only {only}: there is no such part", advice=one_of(only, PARTS))
    return tuple(part for part in PARTS if part == only)


def _calibrated(
    topo: str | None, settings: Settings, parts: tuple[Part, ...], fresh: bool, line: Progress
) -> Calibration:  # fmt: skip
    """The calibration, with this machine's PUs held meanwhile."""
    from mapper.execution.place import Claim
    from mapper.machine.discover import discover
    from mapper.machine.files import load_machine
    from mapper.measure.calibrate import calibrate_here, described_here, refuse_emulated
    from mapper.measure.probe import PROBE, compiled

    refuse_emulated()
    machine = discover()
    if topo is not None:
        machine = described_here(load_machine(topo), machine)
    if not compiled():
        line.tell(f"the probe is {PROBE}; install a C compiler, then mapper again, for latencies and links")
    with Claim([pu for core in machine.cores for pu in core.pus]):
        return calibrate_here(machine, parts, settings, fresh=fresh, progress=line.say, tell=line.tell)


def _emit(result: Calibration, json: bool) -> None:
    if json:
        from mapper import jsonio

        emit_json(jsonio.plain(result))
        return
    emit_text([*answer(result), "", *figures_text(result)])


def answer(result: Calibration) -> list[str]:
    """What matters, in lines: how many figures there are, what is wrong with them."""
    states = [row.state for row in result.figures]
    machine = result.machine
    told = ", ".join(f"{states.count(state)} {state}" for state in ("refused", "not measured") if state in states)
    return [
        f"{states.count('measured')} of {len(states)} figures of {machine.title or machine.name} measured"
        + (f", {told}" if told else ""),
        f"Others took {result.others_busy:.1%} of the cores meanwhile.",
        *(f"Warning: {warning}." for warning in result.warnings),
    ]


def figures_text(result: Calibration) -> list[str]:
    """Each figure with the least and the greatest round and the spread of the middle half."""
    from mapper.reports.table import table

    rows: list[list[str]] = []
    roles: dict[int, str] = {}
    seen: set[str] = set()
    for row in result.figures:
        if row.name in seen and row.state != "not measured":  # one measurement that fills several places
            continue
        seen.add(row.name)
        state = f"{row.state}: {row.reason}" if row.reason else row.state
        numbers = [shown(row, value) for value in (row.value, row.low, row.high)]
        roles[len(rows)] = {"measured": "", "refused": "warning", "not measured": "waits"}[row.state]
        rows.append([row.name, *numbers, "" if row.spread is None else f"{row.spread:.1%}", state])
    head = ["figure", "value", "least", "greatest", "spread", "state"]
    return table(head, rows, right="1234", indent="", fold="5", whole="05", roles=roles)


def shown(row: Row, value: float | None) -> str:
    """`value` with the unit of `row`, empty where there is none."""
    from mapper.units import format_count, format_rate, format_seconds

    if value is None:
        return ""
    if row.unit == "B/s":
        return f"{format_count(value)}B/s"
    return format_seconds(value) if row.unit == "s" else f"{format_rate(value)} ×"
