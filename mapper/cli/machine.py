"""The machine that several commands plan for or show: which one, and which of its cores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mapper.cli import completion

if TYPE_CHECKING:
    from mapper.machine.model import Machine

SPEC = (
    "A file, a bundled name, host, a shape such as 'pack:2 numa:4 group:4 core:4', or uniform:K; each also with other "
    "figures, such as sg2042+l2_bytes=2MiB; a cluster file, or several hosts, such as sg2042*4 or a.json+b.json*2."
)
Topo = Annotated[str, typer.Option(help=SPEC, autocompletion=completion.machines)]
Cores = Annotated[str | None, typer.Option("--cores", help="Only these cores, by logical number, such as 0-31.")]
Groups = Annotated[
    str | None, typer.Option("--groups", help="Only the first N groups, or those of a list such as 0-3,8.")
]
Reserve = Annotated[
    str | None, typer.Option("--reserve", help="Leave cores to others: 2, 1/group, 1/node, 1/package or 1/host.")
]
Hosts = Annotated[str | None, typer.Option("--hosts", help="Only these hosts, such as 0,1; the first one feeds them.")]
LinkOption = Annotated[
    str | None,
    typer.Option("--link", help="The network between several hosts: bandwidth and latency, such as 10Gbit,20us."),
]


def machine_of(
    spec: str, cores: str | None = None, groups: str | None = None, reserve: str | None = None,
    hosts: str | None = None, link: str | None = None,
) -> Machine:  # fmt: skip
    """The machine that `spec` names, its hosts linked as `link` says, with the cores that the options leave."""
    from mapper.machine.files import load_machine
    from mapper.machine.restrict import restrict

    return restrict(load_machine(spec, link), cores=cores, groups=groups, reserve=reserve, hosts=hosts)
