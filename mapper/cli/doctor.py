"""`mapper doctor`: what this machine and installation can and cannot do."""

from __future__ import annotations

import typer

from mapper.cli.output import Json, emit_json, emit_rich


def doctor_command(json: Json = False) -> None:
    """Say what this machine and installation can and cannot do, and what follows from it."""
    import dataclasses

    from mapper.host.facts import facts

    found = facts()
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
