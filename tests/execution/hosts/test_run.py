"""Runs over hosts, with real launchers, agents and workers: outputs, order, losses, ends."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from mapper.backends import eager
from mapper.execution.hosts.parts import cut
from mapper.plans.model import Plan
from tests.execution import models
from tests.execution.hosts.clusters import bundle_of, plan_over
from tests.execution.hosts.namespaces import PORT, Network, ended, network, until
from tests.tracing import Traced, cuts

pytestmark = pytest.mark.machine

MLP, SKIP = models.mlp(), models.skip()
SLOW = "3mbit"
"""A link on which a run takes long enough to be disturbed."""


def items_of(model: Traced, count: int) -> list[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(count)
    return [[torch.randn(x.type.shape, generator=generator) for x in model.program.inputs] for _ in range(count)]


def wanted(model: Traced, items: Sequence[Sequence[torch.Tensor]]) -> np.ndarray:
    """The outputs of the unsplit model."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            whole = eager.prepare(model.program, model.weights, 1)
            return np.stack([whole(*item)[0].numpy() for item in items])
    finally:
        torch.set_num_threads(before)


def bundled(
    tmp_path: Path, model: Traced, hosts: Sequence[Sequence[int]], name: str = "plan.bundle"
) -> tuple[Path, Plan]:
    """A bundle with a stage for each of `hosts`."""
    ops = len(model.graph.ops)
    plan = plan_over(model, cuts(model.graph, [ops // len(hosts)] * len(hosts)), hosts)
    return bundle_of(tmp_path / name, plan, model, items_of(model, 1)[0]), plan


def with_items(tmp_path: Path, model: Traced, count: int) -> tuple[list[str], np.ndarray]:
    """Options for a file of so many different items, and what their outputs are."""
    items = items_of(model, count)
    (name,) = (x.name for x in model.program.inputs)
    np.savez(tmp_path / "items.npz", **{name: np.stack([item[0].numpy() for item in items])})
    options = ["--input", str(tmp_path / "items.npz"), "-o", str(tmp_path / "results.npz")]
    return options, wanted(model, items)


def results(tmp_path: Path) -> np.ndarray:
    with np.load(tmp_path / "results.npz") as found:
        (name,) = found.files
        return np.array(found[name])


def begin(net: Network, host: int, bundle: Path | Sequence[Path], *options: str) -> subprocess.Popen[str]:
    paths = [bundle] if isinstance(bundle, Path) else bundle
    return net.start(host, "host", host, *paths, "--front", f"{net.address(0)}:{PORT}", "--oversubscribe", *options)


def ran_well(net: Network, hosts: int, bundle: Path, *options: str) -> dict[str, object]:
    """Runs a plan on all hosts; what the front measured."""
    others = [begin(net, host, bundle) for host in range(1, hosts)]
    code, out, err = ended(begin(net, 0, bundle, "--json", *options))
    for process in others:
        assert ended(process)[0] == 0
    assert code == 0, err
    measurement: dict[str, object] = json.loads(out)
    assert measurement["outputs_identical"]
    return measurement


def delivered(tmp_path: Path) -> int:
    """Bytes in the journal."""
    with contextlib.suppress(FileNotFoundError):
        return (tmp_path / "results.npz.journal").stat().st_size
    return 0


def test_a_plan_split_over_two_hosts_gives_what_the_model_gives(tmp_path: Path) -> None:
    bundle, plan = bundled(tmp_path, MLP, [[0], [1]])
    options, expected = with_items(tmp_path, MLP, 30)
    with network(2, "1gbit") as net:
        measurement = ran_well(net, 2, bundle, *options)
        link = cut(plan, MLP.program).link_bytes_per_call
        assert sum(host["sent_bytes"] for host in measurement["hosts"]) == link == 2 * 8 * 64 * 4  # type: ignore[attr-defined]
        assert net.sent_bytes(0) > 30 * 8 * 64 * 4
    assert [(w["stage"], w["host"]) for w in measurement["workers"]] == [(0, 0), (1, 1)]  # type: ignore[attr-defined]
    assert np.array_equal(results(tmp_path), expected), "in order, bit by bit"
    assert not (tmp_path / "results.npz.journal").exists()


@pytest.mark.soak
@pytest.mark.parametrize(
    ("hosts", "spread"),
    [
        (2, [[0, 1], [0, 1]]),
        (2, [[1], [1]]),
        (4, [[0, 1], [2, 3], [0, 1, 2, 3]]),
        (4, [[0], [1, 2, 3], [0, 1]]),
        (2, [[0], [1, 1], [0]]),
    ],
    ids=["copies", "all elsewhere", "mixed", "fan", "there and back"],
)
def test_plans_spread_in_other_ways(tmp_path: Path, hosts: int, spread: Sequence[Sequence[int]]) -> None:
    bundle, plan = bundled(tmp_path, SKIP if len(spread) == 3 else MLP, spread)
    model = SKIP if len(spread) == 3 else MLP
    options, expected = with_items(tmp_path, model, 41)
    with network(hosts, "1gbit") as net:
        measurement = ran_well(net, hosts, bundle, "--warmup", "12", *options)
    assert np.array_equal(results(tmp_path), expected)
    workers = [(w["stage"], w["replica"], w["host"]) for w in measurement["workers"]]  # type: ignore[attr-defined]
    assert workers == [(s, r, host) for s, replicas in enumerate(spread) for r, host in enumerate(replicas)]
    calls = sum(len(list(cut(plan, model.program).between(lane, a, b, 53))) * lane.bytes
                for lane, a, b in cut(plan, model.program).links())  # fmt: skip
    sent = sum(host["sent_bytes"] for host in measurement["hosts"]) * 53  # type: ignore[attr-defined]
    assert round(sent) == calls


@pytest.mark.soak
def test_items_in_micro_batches_cross_hosts_call_by_call(tmp_path: Path) -> None:
    bundle, plan = bundled(tmp_path, MLP, [[0, 1], [1]])
    doubled = plan.model_copy(update={"request": plan.request.model_copy(update={"micro_batches": 2, "batch": 16})})
    bundle = bundle_of(tmp_path / "doubled.bundle", doubled, MLP, items_of(MLP, 1)[0])
    items = items_of(MLP, 20)
    (name,) = (x.name for x in MLP.program.inputs)
    np.savez(tmp_path / "items.npz", **{name: np.concatenate([item[0].numpy() for item in items]).reshape(10, 16, 64)})
    with network(2) as net:
        ran_well(net, 2, bundle, "--input", str(tmp_path / "items.npz"), "-o", str(tmp_path / "results.npz"))
    assert np.array_equal(results(tmp_path).reshape(20, 8, 64), wanted(MLP, items))


@pytest.mark.soak
@pytest.mark.parametrize("round_", range(3))
def test_a_host_killed_in_the_middle_and_started_again_loses_and_repeats_nothing(tmp_path: Path, round_: int) -> None:
    bundle, _ = bundled(tmp_path, MLP, [[0], [1, 0]])
    options, expected = with_items(tmp_path, MLP, 600)
    with network(2, SLOW) as net:
        front = begin(net, 0, bundle, "--json", *options)
        begin(net, 1, bundle)
        until(lambda: delivered(tmp_path) > 20_000 * (1 + 5 * round_))
        net.kill(1)
        before = (tmp_path / "results.npz.journal").read_bytes()
        until(lambda: not net.pids(1))
        again = begin(net, 1, bundle)
        until(lambda: delivered(tmp_path) > len(before) + 20_000)
        assert (tmp_path / "results.npz.journal").read_bytes().startswith(before[: len(before) // 2100 * 2100])
        code, out, err = ended(front)
        assert ended(again)[0] == 0
    assert code == 0, err
    assert "host 1 is lost" in err
    assert np.array_equal(results(tmp_path), expected)
    notes = " ".join(json.loads(out)["notes"])
    assert "of 600 items were delivered before a restart" in notes and json.loads(out)["items"] == 600


@pytest.mark.soak
@pytest.mark.parametrize("host", [0, 1])
def test_a_killed_worker_is_named_and_the_run_goes_on(tmp_path: Path, host: int) -> None:
    bundle, _ = bundled(tmp_path, MLP, [[0], [1]])
    options, expected = with_items(tmp_path, MLP, 1000)
    with network(2, SLOW) as net:
        front, other = begin(net, 0, bundle, *options), begin(net, 1, bundle)
        until(lambda: delivered(tmp_path) > 20_000)
        worker = next(pid for pid in net.pids(host) if Path(f"/proc/{pid}/comm").read_text().startswith("mapper "))
        os.kill(worker, signal.SIGKILL)
        ends = [ended(front), ended(other)]
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert f"({worker}" in ends[host][2] or f"process {worker}" in ends[host][2]
    assert f"its stage 0 is stage {host} of the plan" in ends[host][2]
    assert "killed by SIGKILL" in ends[0][2] and "killed by SIGKILL" in ends[1][2]
    assert np.array_equal(results(tmp_path), expected)


@pytest.mark.soak
@pytest.mark.parametrize("host", [0, 1])
def test_an_agent_that_is_killed_is_started_again_and_goes_on_from_the_journal(tmp_path: Path, host: int) -> None:
    bundle, _ = bundled(tmp_path, MLP, [[0], [1]])
    options, expected = with_items(tmp_path, MLP, 1000)
    with network(2, SLOW) as net:
        front, other = begin(net, 0, bundle, "--json", *options), begin(net, 1, bundle)
        until(lambda: delivered(tmp_path) > 20_000)
        commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in net.pids(host)}
        (agent,) = (pid for pid, words in commands.items() if words[1:5] == [b"-P", b"-m", b"mapper", b"host"])
        os.kill(agent, signal.SIGKILL)
        code, out, err = ended(front)
        assert (code, ended(other)[0]) == (0, 0), err
    assert np.array_equal(results(tmp_path), expected)
    assert "were delivered before a restart" in " ".join(json.loads(out)["notes"])


@pytest.mark.soak
def test_a_worker_that_hangs_is_named_by_its_own_host(tmp_path: Path) -> None:
    bundle, _ = bundled(tmp_path, MLP, [[0], [1]])
    options, _ = with_items(tmp_path, MLP, 1000)
    with network(2, SLOW) as net:
        last = ["--restarts", "0", "--timeout", "3s"]
        ends = [begin(net, 0, bundle, *last, *options), begin(net, 1, bundle, *last)]
        until(lambda: delivered(tmp_path) > 20_000)
        worker = next(pid for pid in net.pids(1) if Path(f"/proc/{pid}/comm").read_text().startswith("mapper "))
        os.kill(worker, signal.SIGSTOP)
        found = [ended(process) for process in ends]
    assert [code for code, _, _ in found] == [7, 7], found
    assert "hangs: no result within 3 s" in found[1][2] and "host 1 ended the run" in found[0][2]


@pytest.mark.soak
def test_a_lost_front_ends_the_others_and_its_journal_is_taken_up_by_the_next_run(tmp_path: Path) -> None:
    bundle, _ = bundled(tmp_path, MLP, [[0], [1]])
    options, expected = with_items(tmp_path, MLP, 1000)
    with network(2, SLOW) as net:
        begin(net, 0, bundle, *options)
        other = begin(net, 1, bundle)
        until(lambda: delivered(tmp_path) > 20_000)
        net.kill(0)
        code, _, err = ended(other, 20)
        assert code == 7 and "host 0 is lost" in err and "do not meet" in err
        assert not (tmp_path / "results.npz").exists() and delivered(tmp_path) > 20_000
        measurement = ran_well(net, 2, bundle, *options)
    assert "were delivered before a restart" in " ".join(measurement["notes"])  # type: ignore[arg-type]
    assert np.array_equal(results(tmp_path), expected)


@pytest.mark.soak
def test_a_host_that_does_not_come_back_ends_the_run(tmp_path: Path) -> None:
    bundle, _ = bundled(tmp_path, MLP, [[0], [1]])
    options, _ = with_items(tmp_path, MLP, 1000)
    with network(2, SLOW) as net:
        front = begin(net, 0, bundle, "--meet", "5s", *options)
        begin(net, 1, bundle)
        until(lambda: delivered(tmp_path) > 20_000)
        net.kill(1)
        code, _, err = ended(front)
    assert code == 7 and "host 1 is lost: " in err and "not all hosts that a plan needs came within 5 s" in err
    assert "Traceback" not in err and delivered(tmp_path) > 20_000


@pytest.mark.soak
@pytest.mark.parametrize("host", [0, 1])
def test_a_host_without_network_is_noticed(tmp_path: Path, host: int) -> None:
    bundle, _ = bundled(tmp_path, MLP, [[0], [1]])
    options, _ = with_items(tmp_path, MLP, 1000)
    with network(2, SLOW) as net:
        ends = [begin(net, 0, bundle, "--restarts", "0", *options), begin(net, 1, bundle, "--restarts", "0")]
        until(lambda: delivered(tmp_path) > 20_000)
        net.unplug(host)
        left = 1 - host
        code, _, err = ended(ends[left], 45)
    assert code == 7 and f"host {host} is lost: no sign of it" in err


@pytest.mark.soak
def test_with_a_plan_for_fewer_hosts_the_run_goes_on_without_the_lost_one(tmp_path: Path) -> None:
    two, _ = bundled(tmp_path, MLP, [[0], [1]])
    one, _ = bundled(tmp_path, MLP, [[0], [0]], "one.bundle")
    options, expected = with_items(tmp_path, MLP, 1000)
    with network(2, SLOW) as net:
        front = begin(net, 0, [two, one], "--wait", "4s", "--json", *options)
        begin(net, 1, [two, one], "--wait", "4s")
        until(lambda: delivered(tmp_path) > 20_000)
        net.kill(1)
        code, out, err = ended(front)
    assert code == 0, err
    assert {worker["host"] for worker in json.loads(out)["workers"]} == {0}
    assert np.array_equal(results(tmp_path), expected)


@pytest.mark.soak
def test_wrong_outputs_end_all_hosts_with_9_at_once(tmp_path: Path) -> None:
    bundle, _ = bundled(tmp_path, MLP, [[0], [1]])
    wrong = Path(shutil.copytree(bundle, tmp_path / "wrong.bundle"))
    raw = bytearray((wrong / "weights.safetensors").read_bytes())
    raw[-30_000:] = bytes(30_000)
    (wrong / "weights.safetensors").write_bytes(raw)
    options, _ = with_items(tmp_path, MLP, 20)
    with network(2) as net:
        ends = [begin(net, 0, bundle, *options), begin(net, 1, wrong)]
        found = [ended(process) for process in ends]
    assert [code for code, _, _ in found] == [9, 9], found
    assert "is not that of" in found[0][2] and "host 0 ended the run" in found[1][2]
    assert not (tmp_path / "results.npz").exists()


@pytest.mark.soak
def test_hosts_that_run_different_plans_are_told(tmp_path: Path) -> None:
    bundle, _ = bundled(tmp_path, MLP, [[0], [1]])
    other, _ = bundled(tmp_path, MLP, [[1], [0]], "other.bundle")
    with network(2) as net:
        found = [ended(process) for process in (begin(net, 0, bundle), begin(net, 1, other))]
    assert [code for code, _, _ in found] == [3, 3], found
    assert "run different plans" in found[0][2]


@pytest.mark.soak
def test_memory_stays_bounded_where_a_later_stage_is_slow(tmp_path: Path) -> None:
    """Items of 1 MiB; the link to the second host takes 0.4 s for one, and the front must not run ahead."""
    torch.manual_seed(0)
    wide = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.ReLU())
    from tests.tracing import traced

    model = traced(wide, torch.randn(64, 4096), name="wide")
    bundle, _ = bundled(tmp_path, model, [[0], [1]])
    with network(2, "50mbit") as net:
        front = begin(net, 0, bundle, "--items", "120", "--warmup", "2", "-o", str(tmp_path / "results.npz"))
        other = begin(net, 1, bundle)
        until(lambda: delivered(tmp_path) > 10 * 2**20)
        early = resident(net)
        until(lambda: delivered(tmp_path) > 60 * 2**20)
        grown = {pid: size - early[pid] for pid, size in resident(net).items() if pid in early}
        assert max(grown.values()) < 24 * 2**20, grown
        assert ended(front)[0] == 0 and ended(other)[0] == 0


def resident(net: Network) -> dict[int, int]:
    """Bytes in memory of every process on all hosts."""
    found = {}
    for host in range(net.count):
        for pid in net.pids(host):
            with contextlib.suppress(FileNotFoundError):
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                found[pid] = pages * os.sysconf("SC_PAGE_SIZE")
    return found


def descendants(pid: int) -> Iterator[int]:
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield int(child)
        yield from descendants(int(child))


@pytest.mark.soak
def test_ctrl_c_at_the_front_leaves_nothing_behind(tmp_path: Path) -> None:
    """Without namespaces: two hosts on the loopback."""
    bundle, _ = bundled(tmp_path, MLP, [[0], [1]])
    command = [sys.executable, "-m", "mapper", "host"]
    options = ["--front", f"127.0.0.1:{PORT + os.getpid() % 1000}", "--oversubscribe", "--restarts", "0"]
    run: Callable[..., subprocess.Popen[str]] = lambda number, *more: subprocess.Popen(  # noqa: E731
        [*command, str(number), str(bundle), *options, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    front = run(0, "--items", "100000000", "-o", str(tmp_path / "results.npz"))
    other = run(1)
    until(lambda: delivered(tmp_path) > 20_000)
    pids = [*descendants(front.pid), *descendants(other.pid)]
    os.killpg(front.pid, signal.SIGINT)
    assert ended(front, 40)[0] == 130
    assert ended(other, 40)[0] == 7
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 10)
