"""Cores of a plan on the PUs of a machine, and claims on them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mapper.errors import MachineMismatch
from mapper.execution.place import Claim, resolve_pus
from mapper.machine.model import Machine
from mapper.machine.restrict import with_cores
from mapper.plans.model import Plan
from tests.execution.models import mlp
from tests.tracing import cuts, machine_of, plan_for

MLP = mlp()


def plan_on(groups: list[list[int]], threads: list[int]):  # type: ignore[no-untyped-def]
    return plan_for(MLP, cuts(MLP.graph, [4, 4][: len(threads)]), threads=threads, machine=machine_of(groups))


def test_cores_are_looked_up_by_logical_number() -> None:
    plan = plan_on([[0, 1], [2, 3]], [2, 1])
    assert resolve_pus(plan, machine_of([[8, 3], [9, 5]])) == (((8, 3),), ((9,),))


def test_another_shape_needs_room() -> None:
    plan = plan_on([[0, 1], [2, 3]], [2, 1])
    other = machine_of([[0, 1, 2, 3], [4]])
    with pytest.raises(MachineMismatch, match=r"2 groups of 2 cores\), this machine is test .*2 groups of 1 or 4"):
        resolve_pus(plan, other)
    assert resolve_pus(plan, other, remap=True) == (((0, 1),), ((4,),))
    with pytest.raises(MachineMismatch, match="do not fit"):
        resolve_pus(plan, machine_of([[0], [1], [2]]), remap=True)


def test_oversubscribed_cores_wrap_around() -> None:
    plan = plan_on([list(range(64))], [48, 16])
    allowed = tuple(sorted(os.sched_getaffinity(0)))
    first, second = resolve_pus(plan, machine_of([[0]]), oversubscribe=True)
    assert first == (allowed,) and set(second[0]) <= set(allowed)


def plan_on_part(whole: Machine, cores: list[int], threads: list[int]) -> Plan:
    return plan_for(MLP, cuts(MLP.graph, [4, 4]), threads=threads, machine=with_cores(whole, cores))


def test_a_plan_for_a_part_runs_on_these_very_cores_whatever_the_os_calls_them() -> None:
    plan = plan_on_part(machine_of([[0, 1], [2, 3], [4, 5]]), [2, 3], [1, 1])
    assert resolve_pus(plan, machine_of([[9, 8], [7, 6], [4, 5]])) == (((7,),), ((6,),))


def test_a_restricted_process_runs_what_it_has_the_cores_for() -> None:
    whole = machine_of([[0, 1], [2, 3], [4, 5]])
    plan = plan_on([[0, 1], [2, 3], [4, 5]], [2, 1])
    assert resolve_pus(plan, with_cores(whole, [0, 1, 2])) == (((0, 1),), ((2,),))
    with pytest.raises(MachineMismatch, match="this process may not use cores 0-1"):
        resolve_pus(plan, with_cores(whole, [2, 3, 4, 5]))


def test_parts_of_equal_shape_stand_in_for_each_other() -> None:
    whole = machine_of([[0, 1], [2, 3]])
    plan = plan_on_part(whole, [0, 1], [1, 1])
    assert resolve_pus(plan, with_cores(whole, [2, 3])) == (((2,),), ((3,),))
    with pytest.raises(MachineMismatch):
        resolve_pus(plan, with_cores(machine_of([[0], [1], [2], [3], [4]]), [0, 1]))


def test_a_claim_tells_who_holds_a_pu_and_vanishes_with_its_process() -> None:
    number = 900_000 + os.getpid() % 1000 * 10
    claim = f"c = Claim([{number}, {number + 1}]).__enter__()"
    code = f"from mapper.execution.place import Claim\n{claim}\nprint(1, flush=True)\ninput()"
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"1\n"
        with pytest.raises(MachineMismatch, match=rf"PU {number + 1} by process {holder.pid}"):
            Claim([number + 1, number + 2]).__enter__()
        with Claim([number + 2]):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with Claim([number, number + 1, number + 1]), pytest.raises(MachineMismatch, match="this one"):
        Claim([number]).__enter__()
