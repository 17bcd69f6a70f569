"""Exports to torch.distributed.pipelining, run by torchrun where mapper cannot be imported."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mapper.errors import UsageError
from mapper.execution.run import sampled
from mapper.exporters.export import export
from mapper.plans.file import save_plan
from tests.cli.commands import TINY, mapper
from tests.exporters.pipelines.exported import (
    TIMEOUT_S,
    change_byte,
    environment,
    exported,
    launched,
    on_hosts,
    plan_of,
    planned_pus,
    run,
    source_of,
)

BRIEF = ("--items", "19", "--warmup", "2")


@pytest.fixture(scope="module")
def strides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with tensors of all layouts, two inputs of which one is handed through, and integers, in two stages."""
    return exported("strides", plan_of("strides", [3, 99]), "torch-pipelining", tmp_path_factory.mktemp("t") / "out")


def test_stages_give_the_models_outputs(strides: Path, tmp_path: Path) -> None:
    ran = launched(strides, tmp_path, *BRIEF)
    found = ran.document
    assert ran.code == 0 and found["items"] == 19 and found["within_tolerance"] and found["outputs"] == "identical"
    assert ran.pus == planned_pus(plan_of("strides", [3, 99])) and [w["threads"] for w in found["workers"]] == [1, 1]


@pytest.mark.soak
def test_torchrun_starts_it_and_a_wrong_output_ends_it(strides: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    environ = environment(tmp_path)
    ran = run([*words, "2", strides / "run.py", "--json", "--items", "3"], tmp_path, environ)
    assert ran.code == 0 and ran.document["items"] == 3 and ran.document["outputs"] == "identical"
    output = strides / "tensors" / f"{json.loads((strides / 'pipeline.json').read_text())['outputs'][0]}.bin"
    before = output.read_bytes()
    try:
        change_byte(output)
        ran = launched(strides, tmp_path, "--items", "3")
        assert ran.code == 9 and "output 0 is" in ran.err and not ran.document["within_tolerance"]
    finally:
        output.write_bytes(before)


def test_pus_and_processes_that_are_not_the_plans_end_it(strides: Path, tmp_path: Path) -> None:
    text = (strides / "pipeline.json").read_text()
    document = json.loads(text)
    document["stages"][1]["workers"][0]["pus"] = [4095]
    try:
        (strides / "pipeline.json").write_text(json.dumps(document))
        ran = launched(strides, tmp_path)
        assert (ran.code, ran.out) == (6, "") and "PU 4095 may not be used" in ran.err
    finally:
        (strides / "pipeline.json").write_text(text)
    environ = environment(tmp_path) | {"RANK": "0", "WORLD_SIZE": "3", "GROUP_RANK": "0"}
    ran = run([sys.executable, strides / "run.py"], tmp_path, environ)
    assert (ran.code, ran.out) == (6, "") and "the plan has 2 processes (2 on host 0); this is one of 3" in ran.err


def test_the_command_writes_it_from_a_plan(tmp_path: Path) -> None:
    plan = plan_of("attention", [3, 99], source=TINY)
    save_plan(plan, tmp_path / "plan.json")
    words = ("export", tmp_path / "plan.json", "--to", "torch-pipelining", "--model", TINY, "-o", tmp_path / "out")
    done = mapper(*words, "--backend", "inductor")
    assert done.code == 2 and "takes no stages of the back end inductor" in done.err
    for _ in range(2):
        done = mapper(*words)
        assert done.code == 0 and done.out.startswith(f"{tmp_path / 'out'}: ") and "README.md" in done.err
    text = (tmp_path / "out" / "README.md").read_text()
    assert "torchrun --standalone --nproc-per-node 2 run.py" in text and "is handed through" in text
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.p*")}
    assert found == {"command.py", "run.py", "seats.py", "stages.py", "stages/0.pt2", "stages/1.pt2"}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    done = mapper(*words[:-1], tmp_path / "mine")
    assert done.code == 3 and "is no export" in done.err and (tmp_path / "mine" / "thesis.txt").exists()


def test_uneven_replicas_are_refused(tmp_path: Path) -> None:
    plan, source = plan_of("mlp", [2, 99], replicas=[2, 1]), source_of("mlp")
    with pytest.raises(UsageError, match="2, 1 replicas") as raised:
        export(plan, "torch-pipelining", tmp_path / "out", source, sampled(plan, source))
    assert "--replicas 1" in raised.value.advice and not (tmp_path / "out").exists()


def test_the_readme_says_how_to_start_it_on_several_hosts(tmp_path: Path) -> None:
    plan, source = plan_of("mlp", [2, 2, 99]), source_of("mlp")
    sample = sampled(plan, source)
    folder = export(on_hosts(plan, (0, 1, 1)), "torch-pipelining", tmp_path / "out", source, sample)
    text = (folder / "README.md").read_text()
    assert "--nnodes 2 --node-rank 0 --nproc-per-node 1" in text and "--node-rank 1 --nproc-per-node 2" in text
    ran = launched(folder, tmp_path)
    assert ran.code == 6 and "for several hosts" in ran.err


@pytest.mark.soak
@pytest.mark.parametrize(
    ("name", "sizes", "changes"),
    [
        ("cnn", [2, 2, 99], {"threads": [2, 1, 1]}),
        ("attention", [3, 99], {"replicas": [2, 2]}),
        ("tied", [3, 2, 99], {}),
        ("ends", [2, 99], {}),
        ("unlike", [2, 2, 99], {}),
        ("views", [2, 2, 99], {}),
        ("mlp", [99], {"replicas": [3]}),
        ("skip", [1, 1, 1, 1, 99], {}),
    ],
)
def test_models_run(name: str, sizes: list[int], changes: dict[str, list[int]], tmp_path: Path) -> None:
    plan = plan_of(name, sizes, **changes)
    ran = launched(exported(name, plan, "torch-pipelining", tmp_path / "out"), tmp_path, *BRIEF)
    assert ran.code == 0 and ran.document["within_tolerance"] and ran.pus == planned_pus(plan)
    assert ran.document["outputs"] == "identical"


@pytest.mark.soak
def test_two_hosts_join(tmp_path: Path) -> None:
    """Two agents of torchrun as on two hosts, over the loopback interface; the first stage is on the second host."""
    plan, source = plan_of("cnn", [2, 2, 99]), source_of("cnn")
    sample = sampled(plan, source)
    folder = export(on_hosts(plan, (1, 0, 1)), "torch-pipelining", tmp_path / "out", source, sample)
    environ = environment(tmp_path) | {"GLOO_SOCKET_IFNAME": "lo"}
    port = free_port()
    words = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--master-addr", "127.0.0.1",
             "--master-port", str(port)]  # fmt: skip
    node = [[*words, "--node-rank", str(n), "--nproc-per-node", str(n + 1), str(folder / "run.py"), "--json", *BRIEF]
            for n in (0, 1)]  # fmt: skip
    with subprocess.Popen(node[1], cwd=tmp_path, env=environ) as other:
        ran = run(node[0], tmp_path, environ)
        assert ran.code == 0 and ran.document["outputs"] == "identical" and len(ran.pus) == 3
        assert other.wait(TIMEOUT_S) == 0


def free_port() -> int:
    """A port of the loopback interface that nobody listens at now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
