"""`mapper calibrate`: measure this machine, and write it as a topology file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mapper.cli.output import Json, Progress, Quiet, emit_json, emit_rich

if TYPE_CHECKING:
    from mapper.measure.calibrate import Calibration, Row, Settings
    from mapper.measure.wanted import Part


def calibrate_command(
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the topology file here.")] = None,
    topo: Annotated[
        str | None, typer.Option(help="A description of this machine to put the figures into [as discovered].")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Interleaved rounds.")] = 15,
    seconds: Annotated[
        float, typer.Option(min=0.01, max=60, help="How long a round of one figure takes, without preparing it.")
    ] = 0.5,
    max_spread: Annotated[
        str, typer.Option(help="A figure is refused where the middle half of its rounds spreads over more.")
    ] = "25%",
    only: Annotated[
        str | None, typer.Option(help="machine (caches, memory, links, overheads) or rates (of sorts of op) [both].")
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
    from mapper.errors import UsageError
    from mapper.measure.wanted import PARTS

    if only is None:
        return PARTS
    if only not in PARTS:
        raise UsageError(f"--only {only}: there is no such part", advice=f"One of {', '.join(PARTS)}.")
    return tuple(part for part in PARTS if part == only)


def _calibrated(
    topo: str | None, settings: Settings, parts: tuple[Part, ...], fresh: bool, line: Progress
) -> Calibration:  # fmt: skip
    """The calibration, with this machine's PUs held meanwhile."""
    from mapper.execution.place import Claim
    from mapper.machine.discover import discover
    from mapper.machine.files import load_machine
    from mapper.measure.calibrate import calibrate, described_here, free_bytes, journal_for, refuse_emulated
    from mapper.measure.instruments import Instruments
    from mapper.measure.probe import PROBE, compiled
    from mapper.measure.wanted import wanted

    refuse_emulated()
    machine = discover()
    if topo is not None:
        machine = described_here(load_machine(topo), machine)
    if not compiled():
        line.tell(f"the probe is {PROBE}; install a C compiler, then mapper again, for latencies and links")
    with Claim([pu for core in machine.cores for pu in core.pus]), Instruments(settings.seconds) as instruments:
        list_ = wanted(machine, free_bytes(), compiled(), parts)
        with journal_for(machine, list_, settings, line.tell) as journal:
            if fresh:
                journal.discard()
            result = calibrate(
                machine, list_, settings, journal.read(), instruments.measure, progress=line.say, tell=line.tell,
                own_s=instruments.own_s,
            )  # fmt: skip
            journal.discard()
    return result


def _emit(result: Calibration, json: bool) -> None:
    if json:
        from mapper import jsonio

        emit_json(jsonio.plain(result))
        return
    typer.echo("\n".join(answer(result)))
    _table(result)


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


def _table(result: Calibration) -> None:
    """Each figure with the least and the greatest round and the spread of the middle half."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False)
    for title in ("figure", "value", "least", "greatest", "spread", "state"):
        table.add_column(title, justify="left" if title in ("figure", "state") else "right", no_wrap=title != "state")
    seen: set[str] = set()
    for row in result.figures:
        if row.name in seen and row.state != "not measured":  # one measurement that fills several places
            continue
        seen.add(row.name)
        state = f"{row.state}: {row.reason}" if row.reason else row.state
        numbers = [shown(row, value) for value in (row.value, row.low, row.high)]
        spread = "" if row.spread is None else f"{row.spread:.1%}"
        style = {"measured": None, "refused": "yellow", "not measured": "dim"}[row.state]
        table.add_row(row.name, *numbers, spread, state, style=style)
    emit_rich(table)


def shown(row: Row, value: float | None) -> str:
    """`value` with the unit of `row`, empty where there is none."""
    from mapper.units import format_count, format_rate, format_seconds

    if value is None:
        return ""
    if row.unit == "B/s":
        return f"{format_count(value)}B/s"
    return format_seconds(value) if row.unit == "s" else f"{format_rate(value)} ×"
