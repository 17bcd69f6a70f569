"""The target `numactl`: a script that starts each worker on its PUs, with its memory on the nodes of its weights.

From the manual page (numactl(8), numactl 2.0.14 to 2.0.19): `--physcpubind` takes the numbers of /proc/cpuinfo, and
fails for one that the process may not use. `--membind` takes memory from the given nodes only and fails where they have
none left; `--preferred` takes it from elsewhere then, and knows one node only; `--interleave` goes round robin.
"""

from __future__ import annotations

from pathlib import Path

from mapper.exporters.pinning.launch import CHECKED, SEVERAL, VARIABLES, WORKER, starts_of, write_launch, write_worker
from mapper.exporters.readme import write_readme
from mapper.exporters.registry import Export
from mapper.exporters.workers import Worker, hosts_of, workers_of
from mapper.machine.pus import format_pus

NOTES = (
    "A worker whose weights lie on one node gets all of its memory there (`--membind`), and fails when that is full. "
    "To let it take memory elsewhere then, write `--preferred` for `--membind` in `launch.sh`. Weights that lie on "
    "several nodes are interleaved over them, and so is the rest of such a worker's memory.",
    VARIABLES,
    CHECKED,
    "In a container, setting a memory policy may be forbidden (`set_mempolicy: Operation not permitted`): it takes the "
    "capability SYS_NICE.",
)


def write(export: Export, folder: Path) -> None:
    """Writes `launch.sh` and `worker.sh`."""
    plan = export.plan
    words = {worker.rank: [*numactl(worker), f"$here/{WORKER}", str(worker.rank)] for worker in workers_of(plan)}
    write_launch(folder, plan, "Starts the workers of this host with numactl", starts_of(plan, words))
    write_worker(folder, plan)
    several = [SEVERAL] if len(hosts_of(plan)) > 1 else []
    write_readme(folder, plan, "numactl", ["./launch.sh COMMAND [ARGUMENT...]"], [*several, *NOTES])


def numactl(worker: Worker) -> list[str]:
    """The words that put what follows on the PUs and nodes of `worker`."""
    policy = "interleave" if len(worker.nodes) > 1 else "membind"
    return ["numactl", f"--physcpubind={format_pus(worker.pus)}", f"--{policy}={format_pus(worker.nodes)}", "--"]
