"""The machine that several commands plan for or show: which one, and which of its cores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mapper.machine.model import Machine

SPEC = (
    "A file, a bundled name, host, a shape such as 'pack:2 numa:4 group:4 core:4', or uniform:K; each also with other "
    "figures, such as sg2042+l2_bytes=2MiB."
)
Topo = Annotated[str, typer.Option(help=SPEC)]
Cores = Annotated[str | None, typer.Option("--cores", help="Only these cores, by logical number, such as 0-31.")]
Groups = Annotated[
    str | None, typer.Option("--groups", help="Only the first N groups, or those of a list such as 0-3,8.")
]
Reserve = Annotated[
    str | None, typer.Option("--reserve", help="Leave cores to others: 2, 1/group, 1/node, 1/package or 1/host.")
]


def machine_of(spec: str, cores: str | None = None, groups: str | None = None, reserve: str | None = None) -> Machine:
    """The machine that `spec` names, with the cores that the options leave."""
    from mapper.machine.files import load_machine
    from mapper.machine.restrict import restrict

    return restrict(load_machine(spec), cores=cores, groups=groups, reserve=reserve)
