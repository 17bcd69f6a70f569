"""What must not go wrong while a plan runs: a clear error in time, nothing lost, nothing left behind."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from mapper.errors import ExecutionFailed, SystemRefused
from mapper.execution.executor import Executor
from mapper.host import anonymous
from mapper.plans.file import save_plan
from tests.execution.models import mlp
from tests.tracing import Traced, cuts, plan_for, traced

pytestmark = pytest.mark.machine

ROOT = Path(__file__).resolve().parents[2]
MLP = mlp()
LIMIT_S = 2.0


def model() -> tuple[nn.Module, torch.Tensor]:
    """What the plan of the command-line tests names as its source."""
    return MLP.module, torch.zeros(8, 64)


def words() -> Traced:
    """An embedding of ten rows: an item with a larger number makes its worker raise."""
    torch.manual_seed(0)
    return traced(
        nn.Sequential(nn.Embedding(10, 16), nn.Linear(16, 16)), torch.zeros(4, dtype=torch.long), name="words"
    )


def alive(pid: int) -> bool:
    """Whether the process `pid` runs; one that only waits to be reaped does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def gone(pids: list[int]) -> bool:
    """Whether all of `pids` end within the limit."""
    until = time.monotonic() + LIMIT_S
    while any(map(alive, pids)):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def traces() -> set[str]:
    """Names that a run could have left behind."""
    shared = os.listdir("/dev/shm") if os.path.isdir("/dev/shm") else []
    return {*shared, *(name for name in os.listdir(tempfile.gettempdir()) if name.startswith("mapper"))}


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before, open_before = traces(), len(os.listdir("/proc/self/fd"))
    yield
    left = {name for name in traces() - before if not name.endswith(".log")}
    assert not left
    gc.collect()  # errors keep the frames that they passed through, and those the shared memory
    assert len(os.listdir("/proc/self/fd")) <= open_before


def two_stages() -> Executor:
    plan = plan_for(MLP, cuts(MLP.graph, [4, 4]))
    return Executor(plan, (MLP.program, MLP.weights), oversubscribe=True, timeout_s=60)


def log_of(error: ExecutionFailed) -> str:
    """The log that the error names; it is removed."""
    found = re.search(r"Its log: (.*)", str(error))
    assert found is not None
    path = Path(found[1])
    text = path.read_text()
    path.unlink()
    return text


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_ends_the_run_and_all_others(victim: int) -> None:
    delivered, killed = [], 0.0
    with two_stages() as executor:
        pids = [worker.pid for worker in executor.statistics().workers]
        with pytest.raises(ExecutionFailed, match=rf"stage {victim}, replica 0 .*{pids[victim]}.*SIGKILL") as raised:
            for output in executor.map(itertools.repeat(torch.ones(8, 64))):
                delivered.append(output)
                if len(delivered) == 20:
                    killed = time.monotonic()
                    os.kill(pids[victim], signal.SIGKILL)
        assert time.monotonic() - killed < LIMIT_S
        assert raised.value.exit_code == 7
        assert not any(map(alive, pids))
        log_of(raised.value)
    with torch.inference_mode():
        assert torch.allclose(delivered[0], MLP.module(torch.ones(8, 64)), atol=1e-6)


DIES_WHEN_FORKED = """
import os, sys
def die(pus):
    print("from the worker")
    sys.stdout.flush()
    os._exit(3)
def after():
    if worker := sys.modules.get("mapper.execution.workers.worker"):
        worker.pin = die
os.register_at_fork(after_in_child=after)
"""


def test_a_worker_that_dies_while_starting_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(DIES_WHEN_FORKED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ExecutionFailed, match=r"stage \d, replica 0 .* died: exit code 3") as raised:
        two_stages().__enter__()
    assert "from the worker" in log_of(raised.value)


def test_workers_that_cannot_be_started_say_what_was_printed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os\nos.write(2, b'no torch today')\nos._exit(3)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ExecutionFailed, match=r"(?s)starts workers died: exit code 3.*no torch today") as raised:
        two_stages().__enter__()
    assert raised.value.exit_code == 7


def test_when_the_process_that_starts_workers_is_killed_all_are_gone() -> None:
    with two_stages() as executor:
        pids = [worker.pid for worker in executor.statistics().workers]
        parent = int(Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].split()[1])
        assert parent != os.getpid()
        os.kill(parent, signal.SIGKILL)
        with pytest.raises(ExecutionFailed, match=r"stage [01], replica 0") as raised:
            for _ in executor.map(itertools.repeat(torch.ones(8, 64))):
                pass
        assert gone(pids)
        log_of(raised.value)


def test_a_worker_that_raises_is_quoted_with_its_ops() -> None:
    model = words()
    plan = plan_for(model, [["linear"]] if len(model.graph.ops) == 1 else cuts(model.graph, [1, 1]))
    good, bad = torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 3, 40])
    with Executor(plan, model.module, oversubscribe=True, timeout_s=60) as executor:
        pids = [worker.pid for worker in executor.statistics().workers]
        results = executor.map([good, good, bad])
        assert next(results) is not None
        with pytest.raises(ExecutionFailed, match=r"stage 0, replica 0 .* raised .*IndexError") as raised:
            list(results)
        assert "The ops of the stage: embedding" in str(raised.value) and "Traceback" in str(raised.value)
        assert not any(map(alive, pids))
        assert "IndexError" in log_of(raised.value)


def test_a_worker_that_hangs_is_named_when_the_time_is_over() -> None:
    with two_stages() as executor:
        executor.timeout_s = 1
        pids = [worker.pid for worker in executor.statistics().workers]
        results = executor.map(itertools.repeat(torch.ones(8, 64)))
        next(results)
        os.kill(pids[1], signal.SIGSTOP)
        with pytest.raises(ExecutionFailed, match=r"stage 1, replica 0 .* hangs: no result within 1 s") as raised:
            list(results)
        assert not any(map(alive, pids))
        log_of(raised.value)


def test_leaving_the_block_early_or_by_an_error_leaves_no_worker() -> None:
    with two_stages() as executor:
        pids = [worker.pid for worker in executor.statistics().workers]
        for _ in executor.map(itertools.repeat(torch.ones(8, 64))):
            break
    assert not any(map(alive, pids))
    with pytest.raises(ZeroDivisionError), two_stages() as executor:
        pids = [worker.pid for worker in executor.statistics().workers]
        for _ in executor.map(itertools.repeat(torch.ones(8, 64))):
            raise ZeroDivisionError
    assert not any(map(alive, pids))


STREAM = """
import itertools, torch
from tests.failures.test_run_time import two_stages
with two_stages() as executor:
    print(*(worker.pid for worker in executor.statistics().workers), flush=True)
    for _ in executor.map(itertools.repeat(torch.ones(8, 64))):
        pass
"""


def started(arguments: list[str], **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.soak)])
def test_workers_of_a_parent_that_is_killed_go_too(number: signal.Signals) -> None:
    with started(["-c", STREAM]) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2 and all(map(alive, pids))
        parent.send_signal(number)
        assert parent.wait(LIMIT_S) == -number
        assert gone(pids)
        parent.communicate()


def descendants(pid: int) -> list[int]:
    """The process that starts workers, and they."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [later for child in children for later in descendants(child)]


@pytest.mark.parametrize("pause", [lambda pids: not pids, lambda pids: len(pids) < 3], ids=["starting", "running"])
def test_ctrl_c_ends_the_command_with_130(tmp_path: Path, pause: Callable[[list[int]], bool]) -> None:
    plan = plan_for(MLP, cuts(MLP.graph, [4, 4]), source="tests.failures.test_run_time:model")
    save_plan(plan, tmp_path / "plan.json")
    options = ["run", str(tmp_path / "plan.json"), "--trust", "--oversubscribe", "--items", "100000000"]
    with started(["-c", "from mapper.cli.main import main; main()", *options], start_new_session=True) as command:
        until = time.monotonic() + 60
        while pause(pids := descendants(command.pid)):
            assert command.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        time.sleep(0.5)
        os.killpg(command.pid, signal.SIGINT)  # as a terminal does: the whole group hears it
        assert command.wait(LIMIT_S) == 130
        assert gone(pids)
        assert "Traceback" not in command.communicate()[1]


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_memory_stays_flat_over_many_items() -> None:
    tiny = traced(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), torch.ones(1, 2), name="tiny")
    plan = plan_for(tiny, cuts(tiny.graph, [1, 1]), window=8, slots=4)
    with Executor(plan, tiny.module, oversubscribe=True, timeout_s=60) as executor:
        pids = [os.getpid(), *(worker.pid for worker in executor.statistics().workers)]
        early: list[int] = []
        for count, _ in enumerate(executor.map(itertools.repeat(torch.ones(1, 2), 20_000)), 1):
            if count == 2_000:
                early = [resident_bytes(pid) for pid in pids]
        grown = [resident_bytes(pid) - before for pid, before in zip(pids, early, strict=True)]
        assert count == 20_000 and max(grown) < 8 * 2**20


def test_no_shared_memory_at_all_is_a_clear_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "memfd_create", refuse)
    fd = anonymous.anonymous_file("x", 4096)  # an unlinked file does as well
    assert os.fstat(fd).st_nlink == 0
    os.close(fd)
    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.raises(SystemRefused, match=r"no shared memory of 4096 bytes \(memfd_create: No space left"):
        anonymous.anonymous_file("x", 4096)
