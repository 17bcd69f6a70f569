"""The targets that only pin: their files letter by letter, and their scripts run, with the tools that are here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mapper.errors import UsageError
from mapper.exporters.export import export
from mapper.exporters.pinning.kubernetes import memory_mib
from mapper.exporters.pinning.run_cpu import calls
from mapper.exporters.workers import workers_of
from mapper.machine.pus import format_pus, parse_pus
from mapper.machine.restrict import restrict
from mapper.plans.model import Plan
from mapper.study.launcher import lacking
from tests.exporters.plans import nodes_of, pinned
from tests.tracing import machine_of

PUS = sorted(os.sched_getaffinity(0))[:2]
RECORD = (
    'exec >"$0/$MAPPER_RANK"; env | grep -E "^(MAPPER|OMP)_"; '
    "sed -n 's/^Cpus_allowed_list:[[:space:]]*/bound=/p' /proc/self/status; printf '%s\\n' \"$@\""
)
"""A command that writes what it was given into a folder, in a file that is called as its rank."""
ARGUMENTS = ("two words", "$(touch canary)", "it's", "")

two_pus = pytest.mark.skipif(len(PUS) < 2, reason="two PUs are needed")


def spread_over(replicas: list[int], threads: list[int], pus: list[int]) -> Plan:
    return pinned(replicas, threads, machine_of([pus]))


def launched(
    folder: Path, *command: str, script: str = "launch.sh", **environment: str
) -> subprocess.CompletedProcess[str]:
    """What a script of an export says when it is given `command`."""
    return subprocess.run([folder / script, *command], env=os.environ | environment, capture_output=True, text=True,
                          timeout=120, check=False, cwd=folder.parent)  # fmt: skip


def recorded(plan: Plan, folder: Path, script: str = "launch.sh", **environment: str) -> dict[int, dict[str, str]]:
    """The environment of each worker that `script` started, by rank; its arguments are compared here."""
    notes = folder.parent / "notes"
    notes.mkdir()
    done = launched(folder, "sh", "-c", RECORD, str(notes), *ARGUMENTS, script=script, **environment)
    assert done.returncode == 0, done.stderr
    found = {}
    for file in notes.iterdir():
        lines = file.read_text().split("\n")
        assert tuple(lines[-len(ARGUMENTS) - 1 : -1]) == ARGUMENTS
        found[int(file.name)] = dict(line.split("=", 1) for line in lines[: -len(ARGUMENTS) - 1])
    assert sorted(found) == [worker.rank for worker in workers_of(plan)]
    assert not list(folder.parent.rglob("canary"))
    return found


def require_variables(plan: Plan, found: dict[int, dict[str, str]]) -> None:
    """That each worker has the variables of its rank."""
    for worker in workers_of(plan):
        given = found[worker.rank]
        assert given["MAPPER_RANK"] == str(worker.rank) and given["MAPPER_WORKERS"] == str(len(found))
        assert given["MAPPER_STAGE"] == str(worker.stage) and given["MAPPER_STAGES"] == str(len(plan.stages))
        assert given["MAPPER_REPLICA"] == str(worker.replica) and given["MAPPER_HOST"] == str(worker.host)
        assert given["MAPPER_REPLICAS"] == str(len(plan.stages[worker.stage].replicas))
        assert parse_pus(given["MAPPER_PUS"]) == worker.pus and given["OMP_NUM_THREADS"] == str(worker.threads)


# the script that becomes a worker


def test_a_worker_is_bound_where_the_plan_has_it_or_says_so(tmp_path: Path) -> None:
    plan = spread_over([1], [1], PUS[:1])
    folder = export(plan, "numactl", tmp_path / "out")
    there = launched(folder, "0", "taskset", "-c", str(PUS[0]), "true", script="worker.sh")
    assert there.returncode == 0
    command = ["taskset", "-c", str(PUS[0]), str(folder / "worker.sh"), "bound", "sh", "-c", "echo $MAPPER_RANK"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


def test_a_worker_that_is_elsewhere_says_so(tmp_path: Path) -> None:
    folder = export(spread_over([1], [1], [4095]), "numactl", tmp_path / "out")
    done = launched(folder, "0", "echo", "it runs", script="worker.sh")
    assert (done.returncode, done.stdout) == (0, "it runs\n")
    assert done.stderr.startswith("worker.sh: rank 0 may use PUs ") and done.stderr.endswith(
        "the plan has it on 4095\n"
    )
    lost = launched(folder, "bound", "true", script="worker.sh")
    assert lost.returncode == 2 and "no worker of host 0 is bound to PUs" in lost.stderr


@pytest.mark.parametrize(
    ("words", "text"), [((), "usage:"), (("0",), "usage:"), (("7", "true"), "there is no rank 7: the plan has 0 to 0")]
)
def test_a_worker_needs_a_rank_and_a_command(words: tuple[str, ...], text: str, tmp_path: Path) -> None:
    done = launched(export(spread_over([1], [1], PUS[:1]), "numactl", tmp_path / "out"), *words, script="worker.sh")
    assert done.returncode == 2 and text in done.stderr


def test_hardware_threads_of_a_core_may_be_used_together(tmp_path: Path) -> None:
    plan = pinned([2], [2], nodes_of([[[0, 1], [4, 5]]], smt=2))
    text = (export(plan, "numactl", tmp_path / "out") / "worker.sh").read_text()
    assert "    0:4-5|0:4-5,1004-1005) rank=1 ;;" in text
    assert "planned='4-5' whole='4-5,1004-1005' ;;" in text


# the script that starts workers


def test_variables_of_all_workers(tmp_path: Path) -> None:
    plan = spread_over([2, 1], [1, 2], [0, 1, 2, 3])
    found = recorded(plan, export(plan, "omp-places", tmp_path / "out"))
    require_variables(plan, found)
    assert [found[rank]["OMP_PLACES"] for rank in range(3)] == ["{0}", "{1}", "{2},{3}"]
    assert {found[rank]["OMP_PROC_BIND"] for rank in range(3)} == {"close"}


def test_each_host_starts_its_own_workers(tmp_path: Path) -> None:
    plan = pinned([3], [1], nodes_of([[[0, 1]], [[0]]], hosts=[0, 1]))
    folder = export(plan, "omp-places", tmp_path / "out")
    for host, ranks in (("0", ["0", "1"]), ("1", ["2"])):
        done = launched(folder, "sh", "-c", "echo $MAPPER_RANK", MAPPER_HOST=host)
        assert sorted(done.stdout.split()) == ranks
    absent = launched(folder, "true", MAPPER_HOST="2")
    assert absent.returncode == 2 and "no workers on host 2: it has on 0, 1" in absent.stderr
    assert "MAPPER_HOST" in (folder / "README.md").read_text()


def test_no_command_is_an_error_of_use(tmp_path: Path) -> None:
    done = launched(export(spread_over([1], [1], [0]), "omp-places", tmp_path / "out"))
    assert done.returncode == 2 and done.stderr == "usage: launch.sh COMMAND [ARGUMENT...]\n"


def test_one_worker_that_fails_ends_all(tmp_path: Path) -> None:
    folder = export(spread_over([3], [1], [0, 1, 2]), "omp-places", tmp_path / "out")
    command = 'if [ "$MAPPER_RANK" = 1 ]; then sleep 0.5; exit 3; fi; sleep 600 & echo $$ $!; wait'
    done = launched(folder, "sh", "-c", command)
    assert done.returncode == 3
    assert len(done.stdout.split()) == 4, "and what they have started"
    assert all(gone(int(pid)) for pid in done.stdout.split())


@pytest.mark.parametrize(("command", "code"), [("true", 0), ("exit $((MAPPER_RANK * 3))", 3)])
def test_workers_that_are_done_before_it_waits_count(command: str, code: int, tmp_path: Path) -> None:
    """`wait -n` of bash answers 127 for those."""
    script = export(spread_over([2], [1], [0, 1]), "omp-places", tmp_path / "out") / "launch.sh"
    script.write_text(script.read_text().replace("\nwhile ", "\nsleep 0.5\nwhile ", 1))
    assert launched(script.parent, "sh", "-c", command).returncode == code


@pytest.mark.soak
def test_a_worker_that_does_not_go_is_ended_by_force(tmp_path: Path) -> None:
    folder = export(spread_over([2], [1], [0, 1]), "omp-places", tmp_path / "out")
    command = 'if [ "$MAPPER_RANK" = 1 ]; then sleep 0.5; exit 3; fi; trap "" TERM; echo $$; while :; do sleep 1; done'
    done = launched(folder, "sh", "-c", command)
    assert done.returncode == 3
    assert gone(int(done.stdout))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_all_workers(number: signal.Signals, code: int, tmp_path: Path) -> None:
    folder = export(spread_over([2], [1], [0, 1]), "omp-places", tmp_path / "out")
    with subprocess.Popen([folder / "launch.sh", "sh", "-c", "echo $$; exec sleep 600"], text=True,
                          stdout=subprocess.PIPE, start_new_session=True) as running:  # fmt: skip
        assert running.stdout is not None
        pids = [int(running.stdout.readline()) for _ in range(2)]
        running.send_signal(number)
        assert running.wait(60) == code
    assert all(gone(pid) for pid in pids)


def gone(pid: int) -> bool:
    """Whether a process that was told to end is no more, within ten seconds."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


# numactl


def test_numactl_takes_memory_from_the_nodes_of_the_weights(tmp_path: Path) -> None:
    plan = pinned([2, 1], [2, 4], nodes_of([[[0, 1], [2, 3]], [[8, 9]], [[4, 5]]]))
    text = (export(plan, "numactl", tmp_path / "out") / "launch.sh").read_text()
    starts = [line.strip() for line in text.splitlines() if line.startswith("    start ")]
    assert starts == [
        'start numactl --physcpubind=0-1 --membind=0 -- "$here"/worker.sh 0 "$@"',
        'start numactl --physcpubind=2-3 --membind=0 -- "$here"/worker.sh 1 "$@"',
        'start numactl --physcpubind=8-9,4-5 --interleave=1-2 -- "$here"/worker.sh 2 "$@"',
    ]  # fmt: skip


def numactl_works() -> bool:
    if shutil.which("numactl") is None:
        return False
    words = ["numactl", f"--physcpubind={PUS[0]}", "--membind=0", "--", "true"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


@two_pus
@pytest.mark.skipif(not numactl_works(), reason="numactl is not installed, or may not set memory policies here")
def test_numactl_binds_workers(tmp_path: Path) -> None:
    plan = spread_over([1, 1], [1, 1], PUS)
    found = recorded(plan, export(plan, "numactl", tmp_path / "out"))
    require_variables(plan, found)
    assert [found[rank]["bound"] for rank in range(2)] == [str(pu) for pu in PUS]


# run_cpu


def test_replicas_are_one_call_where_the_launcher_deals_their_pus_out() -> None:
    machine = nodes_of([[[0, 1], [2, 3]], [[8, 9], [4, 5]]])
    (one,) = calls(workers_of(pinned([4], [2], machine)))
    assert one[:5] == ["run_cpu", "--core-list", "0,1,2,3,4,5,8,9", "--ncores-per-instance", "2"] and one[-1] == "bound"
    torn = calls(workers_of(pinned([2], [2], nodes_of([[[0, 2], [1, 3]]]))))
    assert [words[2] for words in torn] == ["0,2", "1,3"] and [words[-1] for words in torn] == ["0", "1"]


@two_pus
@pytest.mark.slow
@pytest.mark.skipif(lacking() is not None, reason=f"run_cpu cannot be run: {lacking()}")
@pytest.mark.parametrize("replicas", [[2], pytest.param([1, 1], marks=pytest.mark.soak)])
def test_run_cpu_binds_workers(replicas: list[int], tmp_path: Path) -> None:
    plan = spread_over(replicas, [1] * len(replicas), PUS)
    found = recorded(plan, export(plan, "run-cpu", tmp_path / "out"), PYTHON=sys.executable)
    require_variables(plan, found)
    assert [found[rank]["bound"] for rank in range(2)] == [str(pu) for pu in PUS]


# Slurm: a stand-in for srun that starts tasks as its manual says; there is none here

SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do
    case $1 in
    --ntasks=*) tasks=${1#*=} ;;
    --cpu-bind=map_cpu:*) given=${1#*:} ;;
    --nodes=1|--relative=[0-9]*|--kill-on-bad-exit=1|--mem-bind=*) ;;
    *) echo "srun: what is $1?" >&2; exit 1 ;;
    esac
    shift
done
IFS=, read -ra cpus <<<"$given"
for ((task = 0; task < tasks; task++)); do
    SLURM_PROCID=$task taskset -c "${cpus[task]}" "$@" &
done
wait
"""


@two_pus
def test_the_batch_script_starts_each_task_as_its_worker(tmp_path: Path) -> None:
    plan = spread_over([1, 1], [1, 1], PUS)
    folder = export(plan, "slurm", tmp_path / "out")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").write_text(SRUN)
    (tmp_path / "bin" / "srun").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    found = recorded(plan, folder, "job.sbatch", PATH=path, SLURM_SUBMIT_DIR=str(folder))
    require_variables(plan, found)
    assert [found[rank]["bound"] for rank in range(2)] == [str(pu) for pu in PUS]


def test_steps_of_several_hosts(tmp_path: Path) -> None:
    plan = pinned([3], [2], nodes_of([[[0, 1], [4, 5]], [[2, 3]]], hosts=[0, 1]))
    lines = (export(plan, "slurm", tmp_path / "out") / "job.sbatch").read_text().splitlines()
    directives = [line for line in lines if line.startswith("#SBATCH")]
    assert directives[1:] == [
        "#SBATCH --nodes=2",
        "#SBATCH --ntasks-per-node=2",
        "#SBATCH --exclusive",
        "#SBATCH --mem=0",
    ]
    steps = [line for line in lines if line.startswith("start srun")]
    assert "--relative=0 --ntasks=2 " in steps[0] and "--cpu-bind=mask_cpu:0x3,0x30 --mem-bind=map_mem:0,0 " in steps[0]
    assert "--relative=1 --ntasks=1 " in steps[1] and "--cpu-bind=mask_cpu:0xc --mem-bind=map_mem:0 " in steps[1]
    assert "case $SLURM_PROCID in 0) rank=2 ;; esac" in steps[1]


def test_memory_of_several_nodes_is_a_mask(tmp_path: Path) -> None:
    plan = pinned([1, 1], [4, 1], nodes_of([[[0, 1]], [[2, 3]], [[4]]]))
    text = (export(plan, "slurm", tmp_path / "out") / "job.sbatch").read_text()
    assert "--cpu-bind=mask_cpu:0xf,0x10 --mem-bind=mask_mem:0x3,0x4 " in text


# Kubernetes


def test_pods_have_cpus_of_their_own(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    plan = pinned([2], [2], nodes_of([[[0, 1], [2, 3], [4, 5]]], smt=2))
    folder = export(plan, "kubernetes", tmp_path / "out")
    pods = list(yaml.safe_load_all((folder / "pods.yaml").read_text()))
    assert [pod["metadata"]["name"] for pod in pods] == ["mapper-worker-0", "mapper-worker-1"]
    for pod, worker in zip(pods, workers_of(plan), strict=True):
        (container,) = pod["spec"]["containers"]
        amounts = container["resources"]
        assert amounts["requests"] == amounts["limits"] == {"cpu": "4", "memory": f"{memory_mib(plan, worker)}Mi"}
        given = {variable["name"]: variable["value"] for variable in container["env"]}
        assert given["OMP_NUM_THREADS"] == "2" and given["MAPPER_PUS"] == ",".join(map(str, worker.pus))
        assert pod["spec"]["nodeSelector"] == {"mapper/host": "0"}
    kubelet = yaml.safe_load((folder / "kubelet-0.yaml").read_text())
    assert kubelet["cpuManagerPolicy"] == "static" and kubelet["topologyManagerPolicy"] == "single-numa-node"
    assert kubelet["cpuManagerPolicyOptions"] == {"full-pcpus-only": "true"}
    assert kubelet["reservedSystemCPUs"] == "4-5,1004-1005"


def test_names_in_pods_are_strings(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    name = 'a "b": {c}\n- $(touch canary) \\ \u202e\x07\U000e0001 größe'
    plan = pinned([1], [1], machine_of([[0, 1]]))
    plan = plan.model_copy(update={"model": plan.model.model_copy(update={"name": name})})
    (pod,) = yaml.safe_load_all((export(plan, "kubernetes", tmp_path / "out") / "pods.yaml").read_text())
    assert pod["metadata"]["annotations"] == {"mapper/model": name, "mapper/machine": "test"}


def test_workers_over_nodes_are_admitted(tmp_path: Path) -> None:
    plan = pinned([1], [4], nodes_of([[[0, 1]], [[2, 3], [4]]]))
    text = (export(plan, "kubernetes", tmp_path / "out") / "kubelet-0.yaml").read_text()
    assert "topologyManagerPolicy: best-effort\n" in text and 'reservedSystemCPUs: "4"\n' in text


def test_a_kubelet_keeps_a_core(tmp_path: Path) -> None:
    machine = machine_of([[0, 1], [2, 3]])
    with pytest.raises(UsageError, match="--reserve 1/host"):
        export(pinned([2], [2], machine), "kubernetes", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    plan = pinned([1], [3], restrict(machine, reserve="1/host"))
    text = (export(plan, "kubernetes", tmp_path / "out") / "kubelet-0.yaml").read_text()
    assert text.endswith('kubeReserved:\n  cpu: "1"\n')


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_puts_image_and_command_into_all_pods(tmp_path: Path) -> None:
    folder = export(pinned([2], [1], machine_of([range(3)])), "kubernetes", tmp_path / "out")
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("image: YOUR-IMAGE:latest") == done.stdout.count("- YOUR-COMMAND") == 2


# READMEs


def test_a_readme_lists_the_workers(tmp_path: Path) -> None:
    plan = pinned([2, 1], [2, 4], nodes_of([[[0, 1], [2, 3]], [[8, 9], [4, 5]]]))
    for target in ("run-cpu", "numactl", "omp-places", "slurm", "openmpi-rankfile"):
        text = (export(plan, target, tmp_path / target) / "README.md").read_text()
        assert "| 2 | 1 | 0 | 0 | 8-9,4-5 | 1 | 4 |" in text
        assert format_pus(workers_of(plan)[0].pus) == "0-1"
