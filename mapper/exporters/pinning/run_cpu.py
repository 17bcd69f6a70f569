"""The target `run-cpu`: a script that calls torch's launcher for servers, `python -m torch.backends.xeon.run_cpu`.

Read in its source (torch 2.6 to 2.13): with `--core-list` and `--ncores-per-instance N` it sorts the list and gives the
first N PUs to instance 0, the next N to instance 1, and so on, each with `numactl -C ... -m NODES OF THE PUS`, or with
`taskset -c` where numactl does not work. `OMP_NUM_THREADS` is N unless it is set. Instances do not learn their number.
Its exit code is 0 whatever becomes of them.

So replicas of a stage are one call where their PUs, sorted, are theirs one after the other, and find their rank by the
PUs that they are bound to; otherwise each worker is a call of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mapper.exporters.pinning.launch import CHECKED, SEVERAL, VARIABLES, WORKER, write_launch, write_worker
from mapper.exporters.readme import write_readme
from mapper.exporters.registry import Export
from mapper.exporters.workers import Worker, hosts_of

MODULE = "torch.backends.xeon.run_cpu"
NOTES = (
    "`PYTHON` names the interpreter that has torch (python3 where it is not set). Your command is started as it is "
    "(`--no-python`): for a script, write `python script.py`.",
    "The launcher binds memory to the nodes of a worker's PUs (numactl), or not at all where there is only taskset. It "
    "cannot interleave. It loads tcmalloc, jemalloc and Intel's OpenMP before your command where it finds them; "
    "options for that can be given in `RUN_CPU_OPTIONS`, such as `--disable-iomp --use-default-allocator`.",
    "The launcher ends with 0 even where a worker failed; it tells of it on stderr.",
    VARIABLES,
    CHECKED,
)
RUN_CPU = (
    "run_cpu() {",
    '    exec "${PYTHON:-python3}" -m ' + MODULE + " ${RUN_CPU_OPTIONS:-} \"$@\"",
    "}",
)  # fmt: skip


def write(export: Export, folder: Path) -> None:
    """Writes `launch.sh` and `worker.sh`."""
    plan = export.plan
    starts = {host: [words for stage in range(len(plan.stages))
                     for words in calls([worker for worker in workers if worker.stage == stage])]
              for host, workers in hosts_of(plan).items()}  # fmt: skip
    write_launch(folder, plan, f"Starts the workers of this host with {MODULE}", starts, RUN_CPU)
    write_worker(folder, plan)
    several = [SEVERAL] if len(hosts_of(plan)) > 1 else []
    write_readme(folder, plan, "torch.backends.xeon.run_cpu", ["./launch.sh COMMAND [ARGUMENT...]"], [*several, *NOTES])


def calls(workers: Sequence[Worker]) -> list[list[str]]:
    """The calls of the launcher for `workers`, which are replicas of one stage on one host."""
    if len(workers) > 1 and shared_out(workers):
        return [_call([pu for worker in workers for pu in worker.pus], len(workers[0].pus), "bound")]
    return [_call(worker.pus, len(worker.pus), str(worker.rank)) for worker in workers]


def shared_out(workers: Sequence[Worker]) -> bool:
    """Whether the launcher gives all PUs of `workers` out just as these have them."""
    each = len(workers[0].pus)
    pus = sorted(pu for worker in workers for pu in worker.pus)
    given = {tuple(pus[i : i + each]) for i in range(0, len(pus), each)}
    return given == {tuple(sorted(worker.pus)) for worker in workers}


def _call(pus: Sequence[int], each: int, rank: str) -> list[str]:
    listed = ",".join(map(str, sorted(pus)))
    words = ["run_cpu", "--core-list", listed, "--ncores-per-instance", str(each), "--no-python"]
    return [*words, f"$here/{WORKER}", rank]
