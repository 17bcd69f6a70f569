"""Explorations that end before they are done: killed, interrupted, with a process that dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mapper.errors import ExecutionFailed, UsageError
from mapper.study import processes
from mapper.study.exploration.dimensions import Dimensions
from mapper.study.exploration.explore import Settings, explore
from mapper.study.exploration.outcomes import Outcome, Searcher, Subject
from mapper.study.exploration.points import Search
from mapper.study.exploration.tables import document
from tests.study.exploration.small import FEW, MACHINE, explored, graph_of

KEPT = 6
"""Searches after which a run is ended."""


def journal(cache: Path) -> list[Path]:
    return list(cache.glob("explore-*.jsonl"))


def started(rows: Path, processes: int) -> subprocess.Popen[str]:
    """The small exploration in a process of its own, which leads a group."""
    command = [sys.executable, "-m", "tests.study.exploration.small", str(rows), str(processes)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def kept(cache: Path) -> int:
    """How many searches the journal has."""
    return sum(max(0, path.read_bytes().count(b"\n") - 1) for path in journal(cache))


def wait_for(cache: Path, process: subprocess.Popen[str]) -> None:
    """Until the journal has a few searches."""
    while kept(cache) < KEPT:
        assert process.poll() is None, "it ended before"
        time.sleep(0.005)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def workers_of(pid: int) -> list[int]:
    """Those of its children that search."""
    return [child for child in children(pid) if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_killed_and_started_again_it_gives_the_same_rows(cache: Path, tmp_path: Path) -> None:
    expected = json.loads(json.dumps(document(explored(FEW))))
    rows = tmp_path / "rows.json"
    first = started(rows, 2)
    wait_for(cache, first)
    searching = workers_of(first.pid)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert not rows.exists() and len(searching) == 2
    before = kept(cache)
    second = started(rows, 2)
    told = second.communicate()[0].split()
    assert second.returncode == 0
    searches, resumed, points = map(int, told)
    assert resumed >= min(before, KEPT) and searches > resumed and points == len(expected)
    assert json.loads(rows.read_text()) == expected
    assert not journal(cache), "it is done"
    for pid in searching:  # they notice that their parent is gone
        while Path(f"/proc/{pid}").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
            time.sleep(0.02)


def test_interrupted_it_gives_the_rows_that_it_has_and_leaves_no_process(cache: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    process = started(rows, 2)
    wait_for(cache, process)
    searching = workers_of(process.pid)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    process.communicate()
    assert process.returncode == 130
    assert not any(Path(f"/proc/{pid}").exists() for pid in searching)
    found, whole = json.loads(rows.read_text()), document(explored(FEW))
    complete = {row["number"]: row for row in json.loads(json.dumps(whole))}
    assert 0 < len(found) < len(complete)
    assert all(row | {"front": 0} == complete[row["number"]] | {"front": 0} for row in found)


def interrupting(after: int) -> Callable[[Searcher, Search], tuple[Outcome, ...]]:
    """Searches that are interrupted after some of them."""
    real, count = Searcher.outcomes, iter(range(after))

    def outcomes(self: Searcher, search: Search) -> tuple[Outcome, ...]:
        if next(count, None) is None:
            raise KeyboardInterrupt
        return real(self, search)

    return outcomes


def test_an_interrupted_one_goes_on_or_begins_anew(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr(Searcher, "outcomes", interrupting(5))
        part = explored(FEW)
    assert part.interrupted and part.searches == 5 and len(journal(cache)) == 1
    with monkeypatch.context() as patched:
        patched.setattr(Searcher, "outcomes", interrupting(3))
        more = explore(graph_of, FEW, settings=Settings(processes=1), tell=told.append)
    assert told == ["going on after 5 searches"]
    assert (more.resumed, more.searches) == (5, 8)
    fresh = explore(graph_of, FEW.model_copy(update={"stages": (1,)}), settings=Settings(processes=1))
    assert fresh.resumed == 0, "another exploration has another journal"
    whole = explore(graph_of, FEW, settings=Settings(processes=1, fresh=True))
    assert (whole.resumed, whole.interrupted) == (0, False)


def test_a_search_that_took_the_interrupt_as_its_end_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    from mapper.study.exploration import outcomes

    searcher = Searcher(Subject({1: graph_of(1)}, (FEW.machines()[0].machine,), ("optimal",)))
    real = outcomes.fitting

    def fitting(case: Any, *rest: Any) -> Any:
        case.space.stop.now()
        return real(case, *rest)

    monkeypatch.setattr(outcomes, "fitting", fitting)
    with pytest.raises(KeyboardInterrupt):
        searcher.outcomes(Search(0, 1, 2, 2, None))


def test_a_torn_line_of_the_journal_is_searched_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Searcher, "outcomes", interrupting(5))
        explored(FEW)
    (path,) = journal(cache)
    path.write_bytes(path.read_bytes()[:-20])
    again = explored(FEW)
    assert again.resumed == 4
    assert document(again) == document(explored(FEW))


def test_a_process_that_dies_is_named_and_nothing_is_lost(cache: Path) -> None:
    real, done = processes.shared_out, 0

    def killing(*given: Any) -> Any:
        nonlocal done
        for each in real(*given):
            done += 1
            if done == KEPT:
                for child in workers_of(os.getpid()):
                    os.kill(child, signal.SIGKILL)
            yield each

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("mapper.study.exploration.explore.shared_out", killing)
        with pytest.raises(ExecutionFailed, match="died: killed by SIGKILL"):
            explored(FEW, 2)
    assert kept(cache) >= KEPT - 1
    assert explored(FEW).resumed >= KEPT - 1


def test_errors_of_a_worker_reach_the_user(cache: Path) -> None:
    def unknown(batch: int) -> Any:
        graph, reference = graph_of(batch)
        ops = tuple(op.model_copy(update={"kind": "pool"}) for op in graph.ops)
        return graph.model_copy(update={"ops": ops}), reference

    grid = Dimensions(topos=(MACHINE,), stages=(1, 2))
    machine = grid.machines()[0].machine
    compute = machine.compute.model_copy(update={"seconds_per_element": {}})
    bare = machine.model_copy(update={"compute": compute})
    with pytest.MonkeyPatch.context() as patched:
        variant = grid.machines()[0]
        changed = type(variant)(variant.topo, (), bare)
        patched.setattr(Dimensions, "machines", lambda self: (changed,))
        for processes in (1, 2):
            with pytest.raises(Exception, match="no figure for ops of kind 'pool'") as error:
                explore(unknown, grid, settings=Settings(processes=processes))
            assert error.value.exit_code == 3  # type: ignore[attr-defined]


def test_too_many_points_are_refused() -> None:
    many: Sequence[int] = range(1, 1200)
    grid = Dimensions(topos=(MACHINE,), stages=tuple(many), replicas=tuple(many))
    with pytest.raises(UsageError, match="1437601 points are too many"):
        explore(graph_of, grid)
