"""Runs the cross-compiled C++ export of a plan and compares its CPUs with the plan; standard library only."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import kernel
from planned import planned
from report import check

ITEMS = 4


def main() -> None:
    """The export, with the sample item: its outputs are compared by the export itself."""
    plan = planned(Path("plan.bundle"))
    with check("C++ export: outputs") as told:
        done = subprocess.run(["./pipeline", "export", "--items", str(ITEMS), "--json"], capture_output=True, text=True)
        told.require(done.returncode == 0, f"exit {done.returncode}: {done.stderr or done.stdout}")
        measured = json.loads(done.stdout)
        told.require(measured["within_tolerance"] and measured["items"] == ITEMS, f"{measured}")
        told.detail = f"{ITEMS} items, largest difference from the sample: {measured['outputs']} (relative)"
    with check("C++ export: CPUs") as told:
        stages = json.loads(Path("export/pipeline.json").read_text())["stages"]
        given = {(s["id"], r): worker["pus"] for s in stages for r, worker in enumerate(s["workers"])}
        clusters = kernel.clusters()
        for worker in measured["workers"]:
            at = (worker["stage"], worker["replica"])
            own, team = set(worker["pus"]), worker["thread_pus"]
            told.require(own == set(given[at]), f"worker {at} has {own}, the export says {given[at]}")
            told.require(len(team) == plan[at].threads, f"worker {at} has {len(team)} threads")
            told.require(all(set(one) <= own for one in team), f"worker {at} has threads on {team}")
            whole = [cluster for cluster in clusters if cluster <= own]
            told.require(len(whole) == len(plan[at].groups), f"worker {at} is on no whole cluster: {sorted(own)}")
        told.require(len(measured["workers"]) == len(plan), f"{len(measured['workers'])} workers")
        told.detail = f"{len(plan)} workers of {worker['threads']} threads, each on a cluster of its own"


if __name__ == "__main__":
    main()
