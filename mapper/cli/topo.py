"""`mapper topo`: draw a machine, read this one, validate a description, compare two."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mapper.cli import completion
from mapper.cli.help import Group
from mapper.cli.machine import SPEC, Cores, Groups, Hosts, LinkOption, Reserve, machine_of
from mapper.cli.output import Json, emit_json, emit_rich, emit_text, width

if TYPE_CHECKING:
    from mapper.machine.model import Machine
    from mapper.plans.model import Plan

app = typer.Typer(
    cls=Group,
    help="Machines: draw, read from this host, validate, compare.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Spec = Annotated[str, typer.Argument(help=SPEC, autocompletion=completion.machines)]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Write it here: .json the topology file, .svg or .png a picture."),
]


@app.command()
def show(
    spec: Annotated[
        str | None, typer.Argument(help=f"{SPEC} [the plan's machine, else host]", autocompletion=completion.machines)
    ] = None,
    plan: Annotated[Path | None, typer.Option(help="Colour the cores by the stages of this plan.")] = None,
    cores: Cores = None,
    groups: Groups = None,
    reserve: Reserve = None,
    hosts: Hosts = None,
    link: LinkOption = None,
    json: Json = False,
    output: Output = None,
) -> None:
    """Draw a machine, with its figures and where each is from."""
    from mapper.errors import MachineMismatch
    from mapper.plans.file import load_plan

    made = load_plan(plan) if plan is not None else None
    given = (cores, groups, reserve, hosts, link)
    machine = made.machine if made is not None and spec is None else machine_of(spec or "host", *given)
    if made is not None and made.fingerprint != machine.fingerprint:
        raise MachineMismatch(
            f"{plan} is for {made.machine.name}, which has another shape than {machine.name}",
            advice="Leave the machine out to see the plan on the one that it was made for.",
        )
    _write(machine, output, made)
    _emit(machine, json, made)
    _told(output, json)


@app.command()
def discover(
    output: Output = None,
    root: Annotated[Path, typer.Option(help="Read sys and proc below this folder.")] = Path("/"),
    like: Annotated[
        str | None,
        typer.Option(
            help="Complete what the system does not show from this machine, such as sg2042.",
            autocompletion=completion.machines,
        ),
    ] = None,
    cores: Cores = None,
    groups: Groups = None,
    reserve: Reserve = None,
    json: Json = False,
) -> None:
    """Read this machine, as far as this process may use it, or one whose sys and proc were copied."""
    from mapper.machine.complete import fewer_nodes
    from mapper.machine.complete import like as completed_like
    from mapper.machine.discover import discover as read
    from mapper.machine.files import load_machine, similar
    from mapper.machine.restrict import restrict

    machine = read(root)
    resembling = similar(machine) if like is None else []
    if like is not None:
        machine = completed_like(machine, load_machine(like))
    machine = restrict(machine, cores=cores, groups=groups, reserve=reserve)
    _write(machine, output, None)
    _emit(machine, json, None)
    _told(output, json)
    if resembling:
        names = " or ".join(f"--like {name}" for name in resembling)
        typer.echo(f"It has the shape of a machine that is known: {names} completes what the system does not show.",
                   err=True)  # fmt: skip
        for told in (told for name in resembling for told in fewer_nodes(machine, load_machine(name))):
            typer.echo(told, err=True)


@app.command()
def cluster(
    spec: Annotated[
        str,
        typer.Argument(help="Several hosts, such as sg2042*4 or a.json*2+b.json.", autocompletion=completion.machines),
    ],
    link: LinkOption = None,
    names: Annotated[str | None, typer.Option(help="What the hosts are called, in their order, with commas.")] = None,
    json: Json = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the cluster file here (JSON).")] = None,
) -> None:
    """Describe several hosts with a network between them, as a file to be completed by hand."""
    from mapper import jsonio
    from mapper.errors import UsageError
    from mapper.machine.cluster_file import cluster_document

    machine = machine_of(spec, link=link)
    if machine.counts["hosts"] == 1:
        raise UsageError(f"{spec} is one host", advice=f"Several are {spec}*4.")
    called = [name.strip() for name in names.split(",")] if names else []
    described = cluster_document(spec, link, called, output or Path("cluster.json"))
    if output is not None:
        jsonio.write_text(output, jsonio.dumps(described))
    if json or output is None:
        emit_json(described)
    _told(output, json)


@app.command()
def check(spec: Spec, link: LinkOption = None, json: Json = False) -> None:
    """Validate a machine; exit code 3 with the place and the reason when it is not right."""
    from mapper.machine.draw import shape

    machine = machine_of(spec, link=link)
    if json:
        _emit(machine, json, None)
    else:
        typer.echo(f"{spec} is right: {machine.name}, {shape(machine)}, fingerprint {machine.fingerprint}")


@app.command()
def diff(a: Spec, b: Spec, json: Json = False) -> None:
    """Say what differs between two machines: shape, numbering, caches, figures."""
    from mapper.machine.diff import compare
    from mapper.reports.diff import diff_text

    found = compare(machine_of(a), machine_of(b))
    if json:
        emit_json({**found.model_dump(mode="json"), "equal": found.equal})
    else:
        emit_text(diff_text(found, a, b))


def _write(machine: Machine, output: Path | None, plan: Plan | None) -> None:
    if output is None:
        return
    from mapper.machine.files import save_machine

    if output.suffix.lower() in (".svg", ".png"):
        from mapper.reports.machine import stages_of
        from mapper.reports.picture import draw_machine

        draw_machine(machine, output, stage_of=stages_of(plan) if plan is not None else None)
    else:
        save_machine(machine, output)


def _told(output: Path | None, json: bool) -> None:
    if output is not None:
        typer.echo(f"Written to {output}.", err=json)


def _emit(machine: Machine, json: bool, plan: Plan | None) -> None:
    if json:
        emit_json(document(machine))
        return
    from mapper.reports.machine import machine_rich, stages_of

    emit_rich(machine_rich(machine, stages_of(plan) if plan is not None else None, width()), wrap=False)


def document(machine: Machine) -> dict[str, Any]:
    """What `--json` gives: the machine as in its file, with `counts` and `fingerprint`."""
    from mapper import jsonio

    return {**jsonio.plain(machine), "counts": machine.counts, "fingerprint": machine.fingerprint}
