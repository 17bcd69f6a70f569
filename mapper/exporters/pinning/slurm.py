"""The target `slurm`: a batch script with a job step for each host, whose tasks are the workers there.

From the manual page srun(1) (Slurm 20.11 to 24.05) and its multi-core guide: `--cpu-bind=map_cpu:LIST` binds the tasks
of a host, in order, to the CPUs of the list; `mask_cpu:LIST` to sets of them, always hexadecimal. Both are honoured
only where the job has all CPUs of the host, so it asks for whole hosts (`--exclusive`), and its steps for no
`--cpus-per-task`, since that would leave a step those CPUs only. `--mem-bind=map_mem:LIST` and `mask_mem:LIST` do the
same for NUMA nodes, without interleaving. `--relative=N` begins with the N-th host of the job.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from mapper.exporters.pinning.launch import (
    CHECKED,
    STARTING,
    VARIABLES,
    WAITING,
    WORKER,
    heading,
    usage,
    write_script,
    write_worker,
)
from mapper.exporters.readme import write_readme
from mapper.exporters.registry import Export
from mapper.exporters.workers import Worker, hosts_of
from mapper.plans.model import Plan

SCRIPT = "job.sbatch"
NOTES = (
    "Submit it from this folder, which the hosts of the job have to see: the script finds `worker.sh` in "
    "`SLURM_SUBMIT_DIR`. Options such as `--partition` and `--time` go before the name of the script.",
    "A step is started on each host, so that hosts can have different workers. `MAPPER_RANK` counts through all of "
    "them; `SLURM_PROCID` begins anew on each host, and so would the ranks of an MPI program.",
    "The bindings need Slurm's plug-in task/affinity. `--cpu-bind=verbose` in `SLURM_CPU_BIND` shows them. Memory is "
    "bound to the nodes of a worker's weights; Slurm does not interleave it over several.",
    VARIABLES,
    CHECKED,
    "The tests of mapper run the script with a stand-in for srun. By hand it was run by Slurm 22.05 on two hosts (two "
    "slurmd on one machine): workers were bound as planned, and one that failed ended the job with its code.",
)


def write(export: Export, folder: Path) -> None:
    """Writes the batch script and `worker.sh`."""
    plan = export.plan
    write_script(folder / SCRIPT, job_lines(plan))
    write_worker(folder, plan)
    write_readme(folder, plan, "Slurm", [f"sbatch {SCRIPT} COMMAND [ARGUMENT...]"], NOTES)


def job_lines(plan: Plan) -> list[str]:
    """The lines of the batch script."""
    hosts = hosts_of(plan)
    return [
        "#!/bin/bash",
        *heading(plan, f"sbatch {SCRIPT} COMMAND [ARGUMENT...]"),
        "#SBATCH --job-name=mapper",
        f"#SBATCH --nodes={len(hosts)}",
        f"#SBATCH --ntasks-per-node={max(map(len, hosts.values()))}",
        "#SBATCH --exclusive",
        "#SBATCH --mem=0",
        *usage(SCRIPT),
        *STARTING,
        *(f"start {step(workers, place)}" for place, workers in enumerate(hosts.values())),
        *WAITING,
    ]


def step(workers: Sequence[Worker], place: int) -> str:
    """The words that start `workers`, which are those of the host at `place` of the job."""
    ranks = " ".join(f"{task}) rank={worker.rank} ;;" for task, worker in enumerate(workers))
    options = [
        "--nodes=1", f"--relative={place}", f"--ntasks={len(workers)}", "--kill-on-bad-exit=1",
        f"--cpu-bind={binding('cpu', [worker.pus for worker in workers])}",
        f"--mem-bind={binding('mem', [worker.nodes for worker in workers])}",
    ]  # fmt: skip
    become = f'sh -c \'case $SLURM_PROCID in {ranks} esac; exec "$0" "$rank" "$@"\''
    return f'srun {" ".join(options)} {become} "${{SLURM_SUBMIT_DIR:?}}/{WORKER}" "$@"'


def binding(what: str, sets: Sequence[Iterable[int]]) -> str:
    """A list of numbers where each task has one, else of masks."""
    each = [tuple(numbers) for numbers in sets]
    if all(len(numbers) == 1 for numbers in each):
        return f"map_{what}:{','.join(str(numbers[0]) for numbers in each)}"
    return f"mask_{what}:{','.join(hex(sum(1 << n for n in set(numbers))) for numbers in each)}"
