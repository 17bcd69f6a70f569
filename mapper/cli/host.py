"""`mapper host`: this machine's part of a plan over several hosts. One command a host."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mapper.cli.output import Backend, Json, Progress, Quiet
from mapper.cli.run import Outputs, Rate, Seconds, Tolerance, emit_measurement, targets
from mapper.errors import BadInput, MapperError

if TYPE_CHECKING:
    from mapper.execution.hosts.run import Asked

Front = Annotated[
    str,
    typer.Option(help="Where all meet: address and port of host 0, such as 10.0.0.1:29400. The same for all hosts."),
]


def host_command(
    number: Annotated[int, typer.Argument(min=0, help="Of this host; 0 feeds items and takes results.")],
    bundles: Annotated[list[Path], typer.Argument(help="The plan, as a bundle; more for when fewer hosts are there.")],
    front: Front = "",
    address: Annotated[str, typer.Option(help="This host's own address [the one that it reaches host 0 by].")] = "",
    restarts: Annotated[int, typer.Option(min=0, help="How often to start again after a lost host or worker.")] = 3,
    wait: Annotated[
        str, typer.Option(help="How long to wait for more hosts, where a plan for fewer is given.")
    ] = "30s",
    meet: Annotated[str, typer.Option(help="How long to wait for hosts without which no plan can run.")] = "10min",
    items: Annotated[int | None, typer.Option(min=1, help="Items to measure [100; of a file: all, once].")] = None,
    warmup: Annotated[int | None, typer.Option(min=0, help="Items before them, in every start.")] = None,
    given: Annotated[
        Path | None, typer.Option("--input", help="Host 0: an .npz file of items, with arrays called like the inputs.")
    ] = None,
    compare: Annotated[int | None, typer.Option(min=1, help="So many different items are compared.")] = None,
    seed: Annotated[int, typer.Option(help="Of the random items.")] = 0,
    backend: Backend = None,
    tolerance: Tolerance = None,
    timeout: Seconds = "10min",
    remap: Annotated[bool, typer.Option("--remap", help="Place the part where there is room.")] = False,
    oversubscribe: Annotated[
        bool, typer.Option("--oversubscribe", help="Share cores where there are too few.")
    ] = False,
    logs: Annotated[Path | None, typer.Option(help="A folder for what workers print.")] = None,
    json: Json = False,
    output: Outputs = None,
    quiet: Quiet = False,
) -> None:
    """Run this machine's part of a plan over several hosts; exit code 7 when a host is lost for good."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # before torch is there: it warns of hosts without a name
    from mapper.execution.hosts.launch import launched
    from mapper.execution.hosts.run import Asked
    from mapper.units import parse_seconds

    results, measured = targets(output or [])
    asked = Asked(
        items=items, warmup=warmup, inputs=given, results=results, compare=compare, seed=seed, tolerance=tolerance,
        backend=backend, remap=remap, oversubscribe=oversubscribe, timeout_s=parse_seconds(timeout) or None, logs=logs,
    )  # fmt: skip
    if launched():
        _leave(_agent(number, bundles, asked, json, measured, quiet))
    raise typer.Exit(_launcher(number, bundles, front, address, restarts, parse_seconds(wait), parse_seconds(meet)))


def _launcher(
    number: int, bundles: list[Path], front: str, address: str, restarts: int, wait_s: float, meet_s: float
) -> int:
    """Runs this very command as an agent, as often as it takes."""
    from mapper.execution.hosts.launch import Start, launch
    from mapper.plans.file import load_plan
    from mapper.plans.hosts import hosts_used

    for path in bundles:
        if not path.is_dir():
            raise BadInput(str(path), "is no bundle", advice="mapper bundle makes one, of a plan with its model.")
    plans = [load_plan(path) for path in bundles]
    counts = [len(hosts_used(plan)) for plan in plans]
    if not front:
        named = plans[0].machine.hosts
        front = named[0].address if named and named[0].address else "localhost" if max(counts) == 1 else ""
    if not front:
        raise typer.BadParameter("where is host 0? --front takes its address, such as 10.0.0.1:29400")
    start = Start(front, number == 0, min(counts), max(counts), restarts, wait_s, meet_s, address)
    return launch(start, ["-P", "-m", "mapper", *sys.argv[1:]])


def _agent(number: int, bundles: list[Path], asked: Asked, json: bool, measured: Path | None, quiet: bool) -> int:
    """The exit code of this host's agent."""
    from mapper.execution.hosts.launch import conclude
    from mapper.execution.hosts.meeting import Place
    from mapper.execution.hosts.run import ends_all, run_host
    from mapper.execution.measurement import OutputsDiffer
    from mapper.execution.workers.following import end_with

    end_with(os.getppid(), signal.SIGKILL)  # nobody would start or end it any more
    with Progress(quiet) as line:
        try:
            measurement = run_host(
                number,
                bundles,
                asked,
                Place.from_environment(),
                say=line.say,
                progress=Rate(line.say, lambda: line.room).told,
            )
        except MapperError as error:
            line.clear()
            if isinstance(error, OutputsDiffer):
                emit_measurement(error.measurement, json, measured, [measured])
            print(f"mapper: host {number}: {error}", file=sys.stderr)
            return 0 if ends_all(error) and conclude(error.exit_code) else error.exit_code
    if measurement is not None:
        emit_measurement(measurement, json, measured, [asked.results, measured])
    return 0


def _leave(code: int) -> None:
    """Ends the process at once: a thread may hang in a call of the network."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
