"""The target `omp-places`: a file of variables for each worker, with which OpenMP binds its threads.

From the OpenMP specification (5.2, chapter 21): `OMP_PLACES` is a list of places, `{0},{1}` a PU each; with
`OMP_PROC_BIND=close` the threads of a team go to consecutive places, a thread each where there are as many. From
libgomp's manual: the initial thread is bound to the first place as soon as the runtime starts.

A file has a line NAME=VALUE for each variable: for shells, `docker run --env-file`, `EnvironmentFile` of systemd.
"""

from __future__ import annotations

from pathlib import Path

from mapper import jsonio
from mapper.exporters.pinning.launch import SEVERAL, VARIABLES, starts_of, variables, write_launch
from mapper.exporters.readme import write_readme
from mapper.exporters.registry import Export
from mapper.exporters.workers import Worker, hosts_of, workers_of

WORKERS = "workers"
NOTES = (
    "`workers/RANK.env` has the variables of a worker: one NAME=VALUE a line, for a shell (`set -a; . FILE`), `docker "
    "run --env-file`, or `EnvironmentFile=` of a systemd unit.",
    "OpenMP binds its own threads and nothing else. Its runtime binds the thread that starts it to the first place, "
    "and threads that this one starts inherit that: a library with threads of its own would find them all on one core. "
    "The memory is where threads touch it first. The targets numactl and slurm bind whole processes.",
    VARIABLES,
)
VARIABLES_OF = (
    "with_variables() {",
    "    set -a",
    '    . "$1"',
    "    set +a",
    "    shift",
    '    exec "$@"',
    "}",
)


def write(export: Export, folder: Path) -> None:
    """Writes `launch.sh` and a file for each worker."""
    plan = export.plan
    (folder / WORKERS).mkdir()
    for worker in workers_of(plan):
        given = variables(plan, worker) | places(worker)
        lines = (f"{name}={value}\n" for name, value in given.items())
        jsonio.write_text(folder / WORKERS / f"{worker.rank}.env", "".join(lines))
    words = {w.rank: ["with_variables", f"$here/{WORKERS}/{w.rank}.env"] for w in workers_of(plan)}
    write_launch(folder, plan, "Starts the workers of this host", starts_of(plan, words), VARIABLES_OF)
    several = [SEVERAL] if len(hosts_of(plan)) > 1 else []
    write_readme(folder, plan, "OMP_PLACES", ["./launch.sh COMMAND [ARGUMENT...]"], [*several, *NOTES])


def places(worker: Worker) -> dict[str, str]:
    """What binds the OpenMP threads of `worker`, one a PU."""
    return {
        "OMP_PLACES": ",".join(f"{{{pu}}}" for pu in worker.pus),
        "OMP_PROC_BIND": "close",
        "OMP_DYNAMIC": "false",
    }
