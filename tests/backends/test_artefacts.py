"""Compiled stages in the cache: found again, made anew when damaged, made once when several want the same."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mapper.backends import compile as compiling
from mapper.backends.artefacts import (
    Artefacts,
    compiled_folder,
    hold,
    kept,
    key_of,
    lock,
    sound,
    trim,
    weight_hash,
    work_folder,
)
from mapper.backends.compile import Team, artefacts, culprit
from mapper.backends.registry import Backend, Loaded
from mapper.errors import BadInput, ExecutionFailed, SystemRefused
from mapper.execution.executor import Executor
from mapper.execution.run import run
from mapper.plans.file import save_plan
from mapper.program.split import split
from tests.backends.stages import MLP, need, two_stages
from tests.tracing import cuts

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = split(MLP.program, cuts(MLP.graph, [4, 4]))
TEAMS = [Team(s, 1, program) for s, program in enumerate(PROGRAMS)]
HASHES = {name: weight_hash(tensor) for name, tensor in MLP.weights.items()}


def never(*_: object) -> Loaded:
    raise AssertionError("nothing is loaded here")


FAKE = Backend("fake", load=never, compile=lambda *_: None, packages={"torch": "torch"})


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> list[int]:
    """The stages that were compiled, in order: each a folder with two files, without a process."""
    stages: list[int] = []

    def make(backend: Backend, team: Team, weights: int, work: Path) -> Path:
        stages.append(team.stage)
        folder = work / "artefact"
        folder.mkdir(parents=True)
        (folder / "a").write_text(team.program.name)
        (folder / "b").write_bytes(bytes(1000))
        time.sleep(0.05)
        return folder

    monkeypatch.setattr(compiling, "_made", make)
    return stages


def folders(**changes: object) -> Artefacts:
    return artefacts(FAKE, TEAMS, MLP.weights, -1, **changes)  # type: ignore[arg-type]


def test_what_is_there_is_not_made_again(made: list[int]) -> None:
    found = folders()
    assert made == [0, 1] and all(map(sound, found.values()))
    assert folders() == found and made == [0, 1]
    assert {path.name for path in compiled_folder().iterdir()} == {path.name for path in found.values()}
    assert compiled_folder().stat().st_mode & 0o77 == 0


@pytest.mark.parametrize("name", ["manifest.json", "a", "b", "more"])
@pytest.mark.parametrize("how", ["gone", "cut", "flipped"])
def test_what_is_damaged_is_made_anew_with_a_note(made: list[int], name: str, how: str) -> None:
    path, notes = folders()[1, 1], []
    file = path / name
    data = file.read_bytes() if file.exists() else b"x"
    file.unlink(missing_ok=True)
    if how != "gone" or name == "more":
        file.write_bytes(data[:-2] if how == "cut" else bytes([data[0] ^ 1]) + data[1:])
    assert folders(note=notes.append)[1, 1] == path
    assert made == [0, 1, 1] and sound(path)
    assert len(notes) == 1 and "stage 1 was damaged" in notes[0]
    assert len(list(compiled_folder().iterdir())) == 2


def test_what_is_damaged_is_neither_held_nor_kept(made: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it cannot be made anew: nothing that is of no use stays, or stays locked, in the cache."""
    path, notes = folders()[1, 1], []
    (path / "a").write_text("x")
    found = Artefacts()
    assert not found.take(1, 1, path) and found == {}
    trim(compiled_folder(), 0)
    assert not path.exists(), "nobody holds it"
    folders()
    (path / "a").write_text("x")

    def fails(*_: object) -> Path:
        raise ExecutionFailed("the compiler died")

    monkeypatch.setattr(compiling, "_made", fails)
    with pytest.raises(ExecutionFailed):
        folders(note=notes.append)
    assert not path.exists() and len(notes) == 1 and str(path) in notes[0]


def test_the_key_follows_all_that_matters_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    program = PROGRAMS[0]
    key = key_of(FAKE, program, HASHES, 1)
    assert key == key_of(FAKE, program, HASHES, 2) == key_of(FAKE, program.model_copy(update={"name": "x"}), HASHES, 1)
    team = replace(FAKE, per_team=True)
    changed = dict.fromkeys(HASHES, "0")
    keys = [key, key_of(team, program, HASHES, 1), key_of(team, program, HASHES, 2),
            key_of(FAKE, PROGRAMS[1], HASHES, 1), key_of(FAKE, program, changed, 1),
            key_of(replace(FAKE, name="other"), program, HASHES, 1)]  # fmt: skip
    from mapper.backends import registry

    monkeypatch.setattr(registry, "_version", lambda name: "9.9")
    keys.append(key_of(FAKE, program, HASHES, 1))
    assert len(set(keys)) == len(keys)
    elsewhere = dict(HASHES) | {name: "0" for name in HASHES if name not in program.weight}
    monkeypatch.undo()
    assert key_of(FAKE, program, elsewhere, 1) == key


def test_hashes_are_of_elements_not_of_memory() -> None:
    a = torch.arange(6.0).reshape(2, 3)
    assert weight_hash(a) == weight_hash(a.t().contiguous().t()) != weight_hash(a + 1)
    assert weight_hash(torch.empty(0)) == weight_hash(torch.empty(0, 3))


def test_many_that_want_the_same_make_it_once(made: list[int]) -> None:
    results: list[dict[tuple[int, int], Path]] = []
    threads = [threading.Thread(target=lambda: results.append(folders())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [0, 1]
    assert len(results) == 6 and all(map(sound, results[0].values())) and len(set(map(str, results))) == 1
    assert len(list(compiled_folder().iterdir())) == 2


def test_what_a_killed_process_left_is_swept_and_what_another_uses_is_not(made: list[int]) -> None:
    folder = compiled_folder()
    (folder / ".work-left").mkdir(parents=True)
    (folder / ".work-left" / "x").write_text("x")
    with work_folder(folder) as used:
        assert [path.name for path in folder.iterdir()] == [used.name]
        folders()
        assert used.is_dir()
    assert not list(folder.glob(".*"))


def test_a_lock_is_a_file_only_while_it_is_held(tmp_path: Path) -> None:
    path, inside = tmp_path / "lock", []

    def take() -> None:
        with lock(path):
            inside.append(1)
            assert len(inside) == 1 and path.exists()
            time.sleep(0.01)
            inside.pop()

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not path.exists() and not inside


def test_a_compiled_folder_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(SystemRefused, match=f"the cache folder {tmp_path}/file/mapper/compiled cannot be written") as e:
        folders()
    assert e.value.exit_code == 10 and "XDG_CACHE_HOME" in e.value.advice
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert compiled_folder() == tmp_path / ".cache" / "mapper" / "compiled"


def test_a_full_disk_is_no_fault_of_the_stage(own_cache: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("ld: final link failed: No space left on device")
    event = {"event": "failed", "error": "CppCompileError: ld", "trace": "", "advice": ""}
    with pytest.raises(SystemRefused, match=str(own_cache)):
        compiling._require_made(FAKE, TEAMS[1], event, 1, log)
    with pytest.raises(ExecutionFailed, match="stage 1 for fake ended without a result: killed by SIGKILL"):
        compiling._require_made(FAKE, TEAMS[1], None, -9, log)
    log.write_text("")
    with pytest.raises(BadInput, match=r"stage 1, op linear_2 \(.*\): fake cannot compile it: Csomething"):
        compiling._require_made(FAKE, TEAMS[1], event | {"error": "Csomething: %linear_2 = ..."}, 1, log)


def test_an_op_is_found_by_its_name_or_by_what_it_calls() -> None:
    program = PROGRAMS[0]
    assert culprit(program, "cannot lower aten.relu.default").startswith("op relu")
    assert culprit(program, "no kernel for aten::linear").startswith("op linear (")
    assert culprit(program, "translating node %part: args = (%relu,)") == "an op that reads relu"
    assert culprit(program, "something else") == "4 ops, linear to relu_1"


def used(number: int, folder: Path) -> Path:
    """A compiled stage of 1000 bytes that was used `number` seconds after the first."""
    path = folder / f"stage{number}"
    path.mkdir(parents=True)
    (path / "file").write_bytes(bytes(1000))
    os.utime(path, (1e9 + number, 1e9 + number))
    return path


def test_what_was_used_longest_ago_goes_first_and_never_what_is_held(tmp_path: Path) -> None:
    paths = [used(number, tmp_path) for number in (3, 1, 0, 2, 4)]
    assert list(kept(tmp_path).items()) == [(tmp_path / f"stage{number}", 1000) for number in range(5)]
    (tmp_path / ".stage1.lock").touch()  # somebody is at it
    fds = [hold(tmp_path / "stage2"), hold(tmp_path / "stage2")]
    assert None not in fds
    os.utime(tmp_path / "stage2", (1e9 + 2, 1e9 + 2))
    trim(tmp_path, 3000)
    assert sorted(path.name for path in paths if path.exists()) == ["stage1", "stage2", "stage4"]
    trim(tmp_path, 0)
    assert sorted(path.name for path in paths if path.exists()) == ["stage1", "stage2"]
    os.close(fds[0] or -1)
    trim(tmp_path, 0)
    assert (tmp_path / "stage2").exists(), "one of two still holds it"
    os.close(fds[1] or -1)
    (tmp_path / ".stage1.lock").unlink()
    trim(tmp_path, 0)
    assert list(tmp_path.iterdir()) == [] and hold(tmp_path / "stage2") is None


def test_use_makes_a_stage_the_last_to_go(tmp_path: Path) -> None:
    for number in range(3):
        used(number, tmp_path)
    os.close(hold(tmp_path / "stage0") or -1)
    trim(tmp_path, 1000)
    assert [path.name for path in tmp_path.iterdir()] == ["stage0"]


def test_a_run_keeps_what_it_compiled_and_takes_away_what_others_left(
    made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = used(0, compiled_folder())
    monkeypatch.setenv("MAPPER_CACHE_SIZE", "1B")
    found = folders()
    assert not old.exists() and all(map(sound, found.values())), "more than the limit, but in use"
    first = dict(found)
    del found
    other = artefacts(replace(FAKE, name="other"), TEAMS[:1], MLP.weights, -1)
    assert all(map(sound, other.values())) and not any(path.exists() for path in first.values())


@pytest.mark.soak
def test_a_running_worker_holds_its_stage(own_cache: Path) -> None:
    need("openvino")
    with Executor(two_stages(), MLP.module, oversubscribe=True, backend="openvino"):
        trim(own_cache, 0)
        assert len(kept(own_cache)) == 2
    trim(own_cache, 0)
    assert kept(own_cache) == {}


@pytest.fixture
def command(tmp_path: Path, own_cache: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `mapper run` of the small model; ends what is left of it."""
    plan = tmp_path / "plan.json"
    save_plan(two_stages(source="tests.backends.stages:model"), plan)
    started: list[subprocess.Popen[str]] = []

    def start(*more: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "mapper", "run", str(plan), "--trust", "--oversubscribe", "--items", "3", *more]
        started.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def compilation(folder: Path, process: subprocess.Popen[str]) -> int:
    """The process that compiles, once it is at work on the first stage."""
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for child in children:
            if b"mapper.backends.compile" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        time.sleep(0.02)
    raise AssertionError(f"no compilation began: {process.communicate()}")


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.soak)])
def test_a_compilation_that_is_interrupted_leaves_nothing(
    how: signal.Signals, command: Callable[..., subprocess.Popen[str]], own_cache: Path
) -> None:
    need("openvino")
    process = command("--backend", "openvino")
    child = compilation(own_cache, process)
    time.sleep(0.3)
    process.send_signal(how)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 128 + how and "Traceback" not in err and out == ""
    assert not Path(f"/proc/{child}").exists()
    assert list(own_cache.iterdir()) == []


@pytest.mark.soak
def test_a_compilation_ends_with_its_parent(command: Callable[..., subprocess.Popen[str]], own_cache: Path) -> None:
    need("openvino")
    process = command("--backend", "openvino")
    child = compilation(own_cache, process)
    process.kill()
    process.communicate()
    until = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and time.monotonic() < until:
        state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":
            break
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{child}").exists()
    with work_folder(own_cache):
        assert len(list(own_cache.glob(".work-*"))) == 1  # its own: what was left is gone
    shutil.rmtree(own_cache)


@pytest.mark.soak
def test_two_commands_at_once_share_what_one_compiles(
    command: Callable[..., subprocess.Popen[str]], own_cache: Path
) -> None:
    need("onnxruntime")
    both = [command("--backend", "onnxruntime") for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert len(list(own_cache.iterdir())) == 2


@pytest.mark.soak
def test_a_damaged_stage_is_rebuilt_by_run_and_told() -> None:
    need("openvino")
    plan = two_stages()
    run(plan, MLP.module, items=2, oversubscribe=True, backend="openvino")
    folder = compiled_folder()
    for manifest in folder.glob("*/manifest.json"):
        if '"stage": "mlp.1"' in manifest.read_text() and "openvino" in manifest.read_text():
            (manifest.parent / "stage.bin").write_bytes(b"")
    m = run(plan, MLP.module, items=2, oversubscribe=True, backend="openvino")
    assert any("openvino had compiled for stage 1 was damaged" in note for note in m.notes)
