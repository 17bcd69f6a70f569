"""What is settled before any host meets another: addresses, plans for so many hosts, which ends are final."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from mapper.cli.doctor import hosts_fact
from mapper.errors import BadInput, ExecutionFailed, MachineMismatch, MissingFeature, UsageError
from mapper.execution.executor import Executor
from mapper.execution.hosts.launch import (
    PORT,
    Start,
    conclude,
    endpoint,
    failed_with,
    interface_of,
    launch,
    own_address,
    own_folder,
)
from mapper.execution.hosts.meeting import EndedElsewhere, HostLost, Place
from mapper.execution.hosts.run import chosen_bundle, ends_all, item_types
from tests.cli.commands import mapper
from tests.execution import models
from tests.execution.hosts.clusters import bundle_of, plan_over
from tests.tracing import cuts

MLP = models.mlp()


def bundle(path: Path, hosts: list[list[int]]) -> Path:
    return bundle_of(path, plan_over(MLP, cuts(MLP.graph, [4, 4]), hosts), MLP, [torch.ones(8, 64)])


def test_the_meeting_place_is_an_address_and_maybe_a_port() -> None:
    assert endpoint("10.0.0.1:1234") == ("10.0.0.1", 1234)
    assert endpoint("front") == ("front", PORT)
    assert endpoint("[fe80::1]:7") == ("fe80::1", 7)
    for wrong in (":7", "a:b", "a:0", "a:70000"):
        with pytest.raises(UsageError, match="no address and port"):
            endpoint(wrong)


def test_a_host_knows_its_address_and_interface() -> None:
    assert own_address("127.0.0.1", PORT) == "127.0.0.1"
    assert interface_of("127.0.0.1") == interface_of("localhost") == "lo"
    assert interface_of("203.0.113.7") == "" and interface_of("no such name") == ""
    with pytest.raises(UsageError, match="no way to"):
        own_address("no such name", PORT)


def test_doctor_says_whether_plans_over_hosts_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (hosts_fact().state, hosts_fact().value) == ("ok", "torch.distributed with gloo")
    monkeypatch.setattr(torch.distributed, "is_gloo_available", lambda: False)
    assert hosts_fact().state == "warn" and "no torch.distributed" in hosts_fact().value
    with pytest.raises(MissingFeature, match=r"no torch\.distributed"):
        launch(Start("127.0.0.1", True, 2, 2), ())


def test_what_a_killed_launcher_has_left_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with own_folder() as alive:
        for name in ("mapper-host-killed", "mapper-host-new", "another"):
            (tmp_path / name / "logs").mkdir(parents=True)
        for path in (alive, tmp_path / "mapper-host-killed", tmp_path / "another"):
            os.utime(path, (0, 0))
        with own_folder() as second:
            assert {path.name for path in tmp_path.iterdir()} == {alive.name, second.name, "mapper-host-new", "another"}
    assert {path.name for path in tmp_path.iterdir()} == {"mapper-host-new", "another"}


def test_the_plan_is_that_for_as_many_hosts_as_there_are(tmp_path: Path) -> None:
    one, two = bundle(tmp_path / "one", [[0], [0]]), bundle(tmp_path / "two", [[0], [1]])
    again, three = bundle(tmp_path / "again", [[1], [0]]), bundle(tmp_path / "three", [[1], [2]])
    paths = [one, two, three]
    assert [chosen_bundle(paths, count) for count in (1, 2, 3)] == paths
    with pytest.raises(UsageError, match=r"none of the plans is for 4 hosts, .*two: 2"):
        chosen_bundle(paths, 4)
    with pytest.raises(UsageError, match="two of the plans are for 2"):
        chosen_bundle([two, again], 2)


def test_only_what_a_new_start_may_mend_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not ends_all(HostLost(1, "gone")) and not ends_all(HostLost(0, "gone"))
    assert not ends_all(HostLost(1, "gone", silent=True)) and ends_all(HostLost(0, "gone", silent=True))
    assert not ends_all(ExecutionFailed("a worker died")) and ends_all(MachineMismatch("other cores"))
    assert ends_all(EndedElsewhere(2, "outputs differ", 9)) and not ends_all(EndedElsewhere(2, "a worker died", 7))
    monkeypatch.delenv("MAPPER_VERDICT", raising=False)
    assert not conclude(9)
    monkeypatch.setenv("MAPPER_VERDICT", str(tmp_path / "verdict"))
    assert conclude(9) and (tmp_path / "verdict").read_text() == "9"
    assert failed_with(7) == 7
    with pytest.raises(ExecutionFailed, match="killed by SIGKILL"):
        failed_with(-9)


def test_the_place_of_an_agent_comes_from_its_launcher() -> None:
    given = {"RANK": "1", "WORLD_SIZE": "3", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "4000"}
    assert Place.from_environment(given) == Place(1, 3, "10.0.0.1", 4000)
    shared = Place.from_environment(
        {**given, "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "2"}
    )
    assert shared.shared_store and shared.restarts == 2
    with pytest.raises(UsageError, match="not started by"):
        Place.from_environment({"RANK": "1"})


def test_outputs_of_items_are_those_of_all_micro_batches() -> None:
    plan = plan_over(MLP, cuts(MLP.graph, [8]), [[0]])
    assert [kind.shape for kind in item_types(plan, MLP.program)] == [(8, 64)]
    tripled = plan.model_copy(update={"request": plan.request.model_copy(update={"micro_batches": 3})})
    assert [(kind.shape, kind.strides) for kind in item_types(tripled, MLP.program)] == [((24, 64), (64, 1))]


def test_a_plan_over_hosts_is_refused_on_one_with_what_to_do(tmp_path: Path) -> None:
    plan = plan_over(MLP, cuts(MLP.graph, [4, 4]), [[0], [1]])
    with pytest.raises(MachineMismatch, match="several hosts") as raised:
        Executor(plan, MLP.module, oversubscribe=True)
    assert "mapper host" in raised.value.advice
    done = mapper("run", bundle(tmp_path / "two", [[0], [1]]), "--oversubscribe")
    assert done.code == 6 and "mapper host" in done.err


def test_the_command_refuses_what_cannot_begin(tmp_path: Path) -> None:
    two = bundle(tmp_path / "two", [[0], [1]])
    assert (done := mapper("host", 0, two)).code == 2 and "where is host 0" in done.err
    assert (done := mapper("host", 0, two / "plan.json", "--front", "a")).code == BadInput.exit_code
    assert "no bundle" in done.err
    assert (done := mapper("host", 1, two, "--front", "a:b")).code == 2 and "no address" in done.err
    assert (done := mapper("host", 0, two, "--front", "a", "-o", "a.npz", "-o", "b.npz")).code == 2
    assert (done := mapper("host", 1, two, "--front", "127.0.0.1:1", "--meet", "1ms")).code == 7
    assert "host 0 does not answer at 127.0.0.1, port 1" in done.err
