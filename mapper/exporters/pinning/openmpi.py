"""The target `openmpi-rankfile`: a rankfile, a hostfile and a script that calls mpirun with them.

From the manual pages mpirun(1) of Open MPI 4.1 and 5.0, section *Rankfiles*: a line a process,
`rank N=HOST slot=LIST`. The numbers of the list are *logical*: the cores of the host as hwloc counts them, from 0 (4.1
can be told to take PUs, 5.0 cannot). HOST is a name of the hostfile, which has lines `NAME slots=N`; `+nX`, the X-th
host, is refused by 4.1.4 where no resource manager names the hosts. 4.1 has the option `--rankfile FILE`, 5.0 `--map-by
rankfile:file=FILE`. Each process finds its rank in `OMPI_COMM_WORLD_RANK`.

hwloc numbers cores as they come in its tree, in which siblings are sorted by their least PU (hwloc manual, *Indexes*).
"""

from __future__ import annotations

import re
from pathlib import Path

from mapper import jsonio
from mapper.errors import UsageError
from mapper.exporters.pinning.launch import (
    CHECKED,
    LAUNCH,
    VARIABLES,
    WORKER,
    heading,
    usage,
    write_script,
    write_worker,
)
from mapper.exporters.readme import write_readme
from mapper.exporters.registry import Export
from mapper.exporters.workers import hosts_of, workers_of
from mapper.machine.model import Machine
from mapper.plans.model import Plan

_HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
RANKFILE, HOSTFILE = "rankfile", "hostfile"
NOTES = (
    "The numbers in `rankfile` are cores as hwloc counts those of the host (`lstopo`), not what Linux calls them. "
    "Where Open MPI sees some cores only, as in a container, it counts those. `MPIRUN_OPTIONS=--report-bindings` shows "
    "what was bound.",
    "Open MPI binds processes, not their memory: pages lie where a process touches them first, which is on the node of "
    "its PUs. Weights that the plan interleaves over nodes are not: put `numactl --interleave=NODES` before your "
    "command for that.",
    VARIABLES,
    CHECKED,
)
ONE_HOST = "`hostfile` and `rankfile` name this machine (localhost)."
SEVERAL_HOSTS = (
    "Hosts are called by the addresses that the machine of the plan gives, or else host0, host1, …: write the names of "
    "yours in their place, in `hostfile` and `rankfile`. This folder has to be there, under the same path, on each."
)
AS_WORKER = '\'exec "$0" "$OMPI_COMM_WORLD_RANK" "$@"\''
"""What each process runs: `worker.sh`, which is its word 0, with the rank."""
MPIRUN = (
    "version=$(mpirun --version 2>/dev/null | sed -n 's/^mpirun (Open MPI) \\([0-9]*\\).*/\\1/p')",
    'if [ -z "$version" ]; then',
    f'    echo "{LAUNCH}: there is no mpirun of Open MPI" >&2',
    "    exit 127",
    "fi",
    'if [ "$version" -ge 5 ]; then',
    f'    set -- --map-by "rankfile:file=$here/{RANKFILE}" "$@"',
    "else",
    f'    set -- --rankfile "$here/{RANKFILE}" "$@"',
    "fi",
)
"""Lines of sh that put the option for the rankfile before the words that follow."""


def write(export: Export, folder: Path) -> None:
    """Writes the rankfile, the hostfile and the scripts. Raises: UsageError as `hwloc_numbers` does."""
    plan = export.plan
    jsonio.write_text(folder / RANKFILE, "\n".join([*heading(plan, "rank N=HOST slot=CORES"), *ranks(plan)]) + "\n")
    hosts = hosts_of(plan)
    slots = [f"{host_name(plan, host)} slots={len(workers)}\n" for host, workers in hosts.items()]
    jsonio.write_text(folder / HOSTFILE, "".join(slots))
    write_script(folder / LAUNCH, launch_lines(plan))
    write_worker(folder, plan)
    hosts_note = ONE_HOST if len(hosts) == 1 else SEVERAL_HOSTS
    write_readme(folder, plan, "Open MPI", ["./launch.sh COMMAND [ARGUMENT...]"], [hosts_note, *NOTES])


def host_name(plan: Plan, host: int) -> str:
    """What to reach `host` by: of a plan for one host the machine that it is started on; else what the machine says,
    where that can be an address, or a name to be replaced."""
    if len(hosts_of(plan)) == 1:
        return "localhost"
    known = plan.machine.hosts[host].address if plan.machine.hosts else ""
    return known if _HOST_NAME.fullmatch(known) else f"host{host}"


def ranks(plan: Plan) -> list[str]:
    """The lines of the rankfile."""
    numbers, names = hwloc_numbers(plan.machine), {host: host_name(plan, host) for host in hosts_of(plan)}
    return [
        f"rank {worker.rank}={names[worker.host]} slot={','.join(str(numbers[core]) for core in worker.cores)}"
        for worker in workers_of(plan)
    ]


def launch_lines(plan: Plan) -> list[str]:
    """The lines of `launch.sh`."""
    count = len(workers_of(plan))
    return [
        "#!/bin/sh",
        *heading(plan, "Starts all workers with mpirun: launch.sh COMMAND [ARGUMENT...]"),
        "set -eu",
        *usage(LAUNCH),
        'here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)',
        # the words of mpirun: its options, then what each process runs
        f'set -- -n {count} ${{MPIRUN_OPTIONS:-}} sh -c {AS_WORKER} "$here/{WORKER}" "$@"',
        *MPIRUN,
        f'exec mpirun --hostfile "$here/{HOSTFILE}" "$@"',
    ]


def hwloc_numbers(machine: Machine) -> dict[int, int]:
    """What hwloc calls each core of `machine` on its host, by the core's logical number.

    A part of a machine has the numbers of the whole. Raises: UsageError for a part of several hosts, which does not say
    how many cores the others have.
    """
    if machine.part_of is not None:
        if any(node.host for node in machine.nodes):
            raise UsageError("the plan is for a part of several hosts, and hwloc counts the cores of each host",
                             advice="Plan for the whole machine, with --max-cores.")  # fmt: skip
        return dict(enumerate(machine.part_of.cores))
    least: dict[tuple[str, int], int] = {}
    for core in machine.cores:
        for part in _parts(machine, core.logical):
            least[part] = min(least.get(part, min(core.pus)), *core.pus)
    order = sorted(
        range(len(machine.cores)),
        key=lambda core: (machine.nodes[machine.cores[core].node].host, *(least[p] for p in _parts(machine, core))),
    )
    numbers: dict[int, int] = {}
    first: dict[int, int] = {}
    for place, logical in enumerate(order):
        host = machine.nodes[machine.cores[logical].node].host
        numbers[logical] = place - first.setdefault(host, place)
    return numbers


def _parts(machine: Machine, core: int) -> list[tuple[str, int]]:
    """What holds `core`, the largest first."""
    found = machine.cores[core]
    node = found.node
    return [("package", machine.nodes[node].package), ("node", node), ("group", found.group), ("core", core)]
