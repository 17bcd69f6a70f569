"""Runs the bundle in its folder and compares outputs, CPUs and memory with the plan; standard library only."""

from __future__ import annotations

import json
from pathlib import Path

import placement
import watched
from planned import planned
from report import check

ITEMS = 4


def main() -> None:
    """Reports three checks."""
    (bundle,) = Path.cwd().glob("*.bundle")
    plan, part = planned(bundle), f"run-{bundle.stem}"
    with check(f"{part}: outputs") as told:
        ended, measured = watched.measured(told, plan, bundle, ITEMS)
        told.require(measured["items_compared"] == ITEMS, f"{measured}")
        told.detail = (f"{ITEMS} items identical to {measured['compared_with']}, that near the bundle's sample; torch "
                       f"{measured['torch']}; workers there after {ended.there_s:.0f} s")  # fmt: skip
    pus = watched.pus(measured)
    with check(f"{part}: CPUs") as told:
        seen = sorted(ended.seen)
        told.require(sorted(pus) == sorted(plan) == seen, f"workers {sorted(pus)}, seen {seen}")
        placement.check_cpus(told, plan, pus, ended.seen)
        threads = sum(len(seen.cpus) for seen in ended.seen.values())
        told.detail = f"{len(plan)} workers with {threads} threads on {sum(map(len, pus.values()))} CPUs, as planned"
    with check(f"{part}: memory nodes") as told:
        nodes = placement.node_map(told, plan, pus)
        distances = json.loads((bundle / "plan.json").read_text())["machine"]["distances"]
        placement.check_distances(told, distances, nodes)
        told.detail = placement.check_memory(told, plan, nodes, ended.seen)
        told.require(not measured["notes"] or all("NUMA" not in note for note in measured["notes"]), f"{measured}")


if __name__ == "__main__":
    main()
