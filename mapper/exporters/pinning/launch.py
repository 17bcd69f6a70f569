"""What the targets that only pin share: the variables of a worker, and the scripts that start workers.

Nothing but numbers of the plan gets into a script, names only into comments (`as_comment`). The user's command is what
the script is given: it is never read from a file or put together as text.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from mapper import jsonio
from mapper.exporters.readme import as_comment
from mapper.exporters.workers import Worker, hosts_of, workers_of
from mapper.machine.pus import format_pus
from mapper.plans.model import Plan

WORKER, LAUNCH = "worker.sh", "launch.sh"
VARIABLES = (
    "Each worker is one process of your command, with `MAPPER_RANK` (0 to `MAPPER_WORKERS` - 1), `MAPPER_STAGE` (of "
    "`MAPPER_STAGES`), `MAPPER_REPLICA` (of `MAPPER_REPLICAS`: item n goes to replica n mod r), `MAPPER_HOST`, "
    "`MAPPER_PUS` (one a core) and `OMP_NUM_THREADS` in its environment."
)
SEVERAL = (
    "The plan has workers on several hosts. Start it on each of them, with `MAPPER_HOST` set to the number that the "
    "table gives to the host."
)
CHECKED = (
    "`worker.sh` compares the PUs that its process is bound to with those of the plan, and says on stderr where they "
    "differ."
)


def variables(plan: Plan, worker: Worker) -> dict[str, str]:
    """The environment of `worker`."""
    found = {
        "MAPPER_RANK": worker.rank, "MAPPER_WORKERS": sum(len(stage.replicas) for stage in plan.stages),
        "MAPPER_STAGE": worker.stage, "MAPPER_STAGES": len(plan.stages),
        "MAPPER_REPLICA": worker.replica, "MAPPER_REPLICAS": len(plan.stages[worker.stage].replicas),
        "MAPPER_HOST": worker.host, "MAPPER_PUS": ",".join(map(str, worker.pus)), "OMP_NUM_THREADS": worker.threads,
    }  # fmt: skip
    return {name: str(value) for name, value in found.items()}


def whole_pus(plan: Plan, worker: Worker) -> tuple[int, ...]:
    """All PUs of the worker's cores, ascending."""
    return tuple(sorted(pu for core in worker.cores for pu in plan.machine.cores[core].pus))


def write_script(path: Path, lines: Sequence[str]) -> None:
    """Writes a script that can be executed."""
    jsonio.write_text(path, "\n".join(lines) + "\n")
    path.chmod(path.stat().st_mode | (path.stat().st_mode & 0o444) >> 2)  # executed by who may read it


def heading(plan: Plan, what: str) -> list[str]:
    """Comments at the top of a script: `what` it is, and of which plan."""
    return [f"# {what}", f"# Plan: {as_comment(plan.model.name)} on {as_comment(plan.machine.name)}"]


def write_worker(folder: Path, plan: Plan) -> None:
    """Writes `worker.sh`, which becomes a worker: `worker.sh RANK COMMAND [ARGUMENT...]`.

    RANK can be `bound`: the worker whose PUs the process is bound to.
    """
    write_script(folder / WORKER, worker_lines(plan))


def worker_lines(plan: Plan) -> list[str]:
    """The lines of `worker.sh`, for any POSIX shell. `bound_to` is what Linux calls PUs that a process may use: runs
    in ascending order."""
    workers = workers_of(plan)
    lines = [
        "#!/bin/sh",
        *heading(plan, "Becomes a worker of the plan: worker.sh RANK COMMAND [ARGUMENT...]"),
        "# RANK bound: the worker whose PUs this process is bound to.",
        "set -eu",
        'if [ "$#" -lt 2 ]; then',
        '    echo "usage: worker.sh RANK COMMAND [ARGUMENT...]" >&2',
        "    exit 2",
        "fi",
        "rank=$1",
        "shift",
        "bound_to=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status)",
        'if [ "$rank" = bound ]; then',
        '    case "${MAPPER_HOST:-0}:$bound_to" in',
        *(f"    {_patterns(plan, worker)}) rank={worker.rank} ;;" for worker in workers),
        '    *) echo "worker.sh: no worker of host ${MAPPER_HOST:-0} is bound to PUs $bound_to" >&2; exit 2 ;;',
        "    esac",
        "fi",
        'case "$rank" in',
    ]
    for worker in workers:
        given = " ".join(f"{name}={value}" for name, value in variables(plan, worker).items())
        bound = f"planned='{format_pus(sorted(worker.pus))}' whole='{format_pus(whole_pus(plan, worker))}'"
        lines.append(f"{worker.rank}) export {given}; {bound} ;;")
    return [
        *lines,
        f'*) echo "worker.sh: there is no rank $rank: the plan has 0 to {len(workers) - 1}" >&2; exit 2 ;;',
        "esac",
        'case "$bound_to" in',
        '"$planned"|"$whole") ;;',
        '*) echo "worker.sh: rank $rank may use PUs $bound_to; the plan has it on $planned" >&2 ;;',
        "esac",
        'exec "$@"',
    ]


def _patterns(plan: Plan, worker: Worker) -> str:
    """What `worker` is bound to: a PU a core, or all of them."""
    pus = (sorted(worker.pus), whole_pus(plan, worker))
    return "|".join(dict.fromkeys(f"{worker.host}:{format_pus(each)}" for each in pus))


def write_launch(
    folder: Path, plan: Plan, what: str, starts: Mapping[int, Sequence[Sequence[str]]], functions: Sequence[str] = ()
) -> None:
    """Writes `launch.sh`, which starts workers and waits for them: `launch.sh COMMAND [ARGUMENT...]`.

    `starts` are, for each host, the words before the command, a process each; `$here` in a word is the folder of the
    script. As soon as one fails, or with SIGINT and SIGTERM, all are ended. `functions` are lines of bash.
    """
    lines = ["#!/usr/bin/env bash", *heading(plan, f"{what}: launch.sh COMMAND [ARGUMENT...]"), *usage(LAUNCH)]
    lines += ['here=$(CDPATH= cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)', *STARTING, *functions]
    lines.append('case "${MAPPER_HOST:-0}" in')
    for host, commands in starts.items():
        lines += [f"{host})", *(f'    start {" ".join(map(_word, words))} "$@"' for words in commands), "    ;;"]
    known = ", ".join(map(str, starts))
    lines += [
        f'*) echo "{LAUNCH}: the plan has no workers on host ${{MAPPER_HOST:-0}}: it has on {known}" >&2; exit 2 ;;',
        "esac",
        *WAITING,
    ]
    write_script(folder / LAUNCH, lines)


def usage(script: str) -> list[str]:
    """Lines that end a script which was given no command."""
    return ['if [ "$#" -eq 0 ]; then', f'    echo "usage: {script} COMMAND [ARGUMENT...]" >&2', "    exit 2", "fi"]


STARTING = (
    "pids=()",
    "family() {",
    '    for pid in "$@"; do',
    '        echo "$pid"',
    '        family $(cat "/proc/$pid/task"/*/children 2>/dev/null)',
    "    done",
    "}",
    "end() {",
    "    trap - INT TERM",
    "    kill $(family $(jobs -rp)) 2>/dev/null",
    "    for ((n = 0; n < 50; n++)); do",
    '        [ -n "$(jobs -rp)" ] || break',
    "        sleep 0.1",
    "    done",
    "    kill -KILL $(family $(jobs -rp)) 2>/dev/null",
    "    wait",
    '    exit "$1"',
    "}",
    "trap 'end 130' INT",
    "trap 'end 143' TERM",
    "start() {",
    '    "$@" &',
    "    pids+=($!)",
    "}",
)
"""Lines of bash: `start WORD...` starts a process; `end CODE` ends all of them, what they have started, and the
script, by force where they have not gone after five seconds."""
WAITING = (
    'while [ "${#pids[@]}" -gt 0 ]; do',
    "    sleep 0.1",
    '    for i in "${!pids[@]}"; do',
    '        kill -0 "${pids[i]}" 2>/dev/null && continue',
    '        wait "${pids[i]}" || end "$?"',
    '        unset "pids[i]"',
    "    done",
    "done",
)
"""Lines of bash: wait for all processes, and end them all as soon as one fails. `wait -n` knows nothing of those that
were gone before (seen with bash 5.2)."""


def _word(word: str) -> str:
    """`word` for a shell; one that begins with `$here` is a path in the folder of the script."""
    if word.startswith("$here/"):
        return f'"$here"/{shlex.quote(word.removeprefix("$here/"))}'
    return shlex.quote(word)


def starts_of(plan: Plan, words: Mapping[int, Sequence[str]]) -> dict[int, list[Sequence[str]]]:
    """For each host what is started there: `words` has those of each rank."""
    return {host: [words[worker.rank] for worker in workers] for host, workers in hosts_of(plan).items()}
