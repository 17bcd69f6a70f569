"""`mapper topo`: draw a machine, read this one, validate a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mapper.cli.output import Json

if TYPE_CHECKING:
    from mapper.machine.model import Machine

app = typer.Typer(help="Machines: draw, read from this host, validate.", no_args_is_help=True)

Output = Annotated[Path | None, typer.Option("-o", "--output", help="Write the topology file here.")]


@app.command()
def show(spec: Annotated[str, typer.Argument(help="A file, a bundled name, or host.")], json: Json = False) -> None:
    """Draw a machine, with its figures and where each is from."""
    from mapper.machine.files import load_machine

    _emit(load_machine(spec), json)


@app.command()
def discover(
    output: Output = None,
    root: Annotated[Path, typer.Option(help="Read sys and proc below this folder.")] = Path("/"),
    json: Json = False,
) -> None:
    """Read this machine, as far as this process may use it, or one whose sys and proc were copied."""
    from mapper.machine.discover import discover as read
    from mapper.machine.files import save_machine

    machine = read(root)
    if output is not None:
        save_machine(machine, output)
    _emit(machine, json)
    if output is not None:
        typer.echo(f"Written to {output}.", err=json)


@app.command()
def check(file: Annotated[Path, typer.Argument(help="A topology file.")], json: Json = False) -> None:
    """Validate a topology file; exit code 3 with the place and the reason when it is not right."""
    from mapper.machine.draw import shape
    from mapper.machine.files import load_machine

    machine = load_machine(file)
    if json:
        _emit(machine, json)
    else:
        typer.echo(f"{file} is right: {machine.name}, {shape(machine)}, fingerprint {machine.fingerprint}")


def _emit(machine: Machine, json: bool) -> None:
    if json:
        from mapper import jsonio

        typer.echo(jsonio.dumps(document(machine)), nl=False)
        return
    import shutil

    from mapper.machine.draw import drawing

    width = shutil.get_terminal_size((100, 24)).columns
    typer.echo("\n".join([*drawing(machine, width=width), "", *_figures(machine)]))


def document(machine: Machine) -> dict[str, Any]:
    """What `--json` gives: the machine as in its file, with `counts` and `fingerprint`."""
    from mapper import jsonio

    return {**jsonio.plain(machine), "counts": machine.counts, "fingerprint": machine.fingerprint}


def _figures(machine: Machine) -> list[str]:
    """The figures that decide most, each with its kind; the rest is in the file."""
    from mapper.machine.pus import format_pus
    from mapper.units import format_count, format_seconds

    compute, memory, overheads = machine.compute, machine.memory, machine.overheads
    rows = [
        ("arithmetic", f"{format_count(compute.peak_flop_per_s.value)}FLOP/s a core", compute.peak_flop_per_s),
        *((f"memory, {what}", f"{format_count(figure.value)}B/s", figure)
          for what, figure in (("package", memory.package_bandwidth_bytes_per_s),
                               ("node", memory.node_bandwidth_bytes_per_s),
                               ("core", memory.core_bandwidth_bytes_per_s)) if figure),
        ("dispatch", f"{format_seconds(overheads.dispatch_s.value)} an op", overheads.dispatch_s),
        ("hand-off", f"{format_seconds(overheads.handoff_s.value)} a tensor", overheads.handoff_s),
        *((f"line, same {name}", format_seconds(link.line_s.value), link.line_s)
          for name, link in machine.links.items()),
    ]  # fmt: skip
    lines = [f"{name:20} {value:24} {figure.kind}" for name, value, figure in rows]
    for n, node in enumerate(machine.nodes):
        pus = sorted(pu for group in node.groups for core in group for pu in core)
        lines.append(f"{f'node {n}':20} PUs {format_pus(pus)}")
    return [*lines, *(f"Note: {note}" for note in machine.notes), f"fingerprint {machine.fingerprint}"]
