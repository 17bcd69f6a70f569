"""`mapper doctor`: what this machine and installation can and cannot do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from mapper.cli.output import Json, emit_json, emit_rich

if TYPE_CHECKING:
    from mapper.host.facts import Fact


def backend_facts() -> list[Fact]:
    """For each back end whether it can be used here, and in which version."""
    from mapper.backends.registry import BACKENDS
    from mapper.host.facts import Fact

    found = []
    for backend in BACKENDS.values():
        lack, name = backend.available(), f"back end {backend.name}"
        if lack is None:
            versions = backend.versions()
            main = next(iter(backend.packages or versions))
            found.append(Fact(name, ", ".join([f"{main} {versions[main]}", *filter(None, [versions.get("compiler")])])))
        elif backend.available(compiling=False) is None:
            found.append(Fact(name, "runs what is compiled, compiles nothing", "warn", lack.advice))
        else:
            found.append(Fact(name, "not available", "warn", f"{lack.what}: {lack.advice}"))
    return found


def doctor_command(json: Json = False) -> None:
    """Say what this machine and installation can and cannot do, and what follows from it."""
    import dataclasses

    from mapper.host.facts import facts

    found = [*facts(), *backend_facts()]
    if json:
        emit_json({"facts": [dataclasses.asdict(fact) for fact in found]})
        return
    from rich.table import Table
    from rich.text import Text

    amiss = sum(fact.state != "ok" for fact in found)
    table = Table(box=None, pad_edge=False, show_header=False)
    for fact in found:
        style = {"ok": "green", "warn": "yellow", "bad": "red"}[fact.state]
        table.add_row(Text(fact.state, style=style), Text(fact.name), Text(fact.value), Text(fact.consequence))
    typer.echo(f"{amiss} of {len(found)} facts limit what can be done here." if amiss else "Nothing is amiss.")
    emit_rich(table)
