"""Runs bundles that were planned for machines of another shape, without and with --remap; standard library only."""

from __future__ import annotations

from pathlib import Path

import kernel
import placement
import watched
from commands import mapper
from planned import planned
from report import check


def main() -> None:
    """Each bundle is refused, and then placed anew."""
    for bundle in sorted(Path.cwd().glob("*.bundle")):
        refuse(bundle)
        place(bundle)


def refuse(bundle: Path) -> None:
    """A plan for another shape is refused, and the message says what helps."""
    with check(f"{bundle.stem}: refused") as told:
        done = mapper("run", bundle, "--items", 1)
        told.require(done.code == 6, f"exit {done.code}: {done.err}")
        told.require("--remap" in done.err, done.err)
        told.detail = f"exit 6: {done.err.splitlines()[0]}"


def place(bundle: Path) -> None:
    """With --remap every worker gets cores in as many clusters, and the outputs are right."""
    plan = planned(bundle)
    with check(f"{bundle.stem}: --remap") as told:
        ended, measured = watched.measured(told, plan, bundle, 4, "--remap")
        told.require(any("--remap" in note for note in measured["notes"]), f"{measured['notes']}")
        pus = watched.pus(measured)
        placement.check_cpus(told, plan, pus, ended.seen)
        nodes = {node for node, cpus in kernel.nodes().items() for own in pus.values() if cpus & set(own)}
        told.detail = f"{len(plan)} workers on {len(nodes)} node(s), outputs identical"


if __name__ == "__main__":
    main()
