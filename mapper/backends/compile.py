"""Compiles stages that are not in the cache, each in a process of its own (`python -m mapper.backends.compile`)."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mapper import jsonio
from mapper.backends.artefacts import Artefacts, compiled_folder, install, key_of, lock, trim, work_folder
from mapper.backends.artefacts import weight_hash as hash_of
from mapper.backends.registry import Backend, backend_called
from mapper.cache import ADVICE, limit_bytes, refused
from mapper.child import how_ended, search_path
from mapper.errors import BadInput, ExecutionFailed, MapperError, SystemRefused
from mapper.jsonio import Record
from mapper.program.model import Program

if TYPE_CHECKING:
    import torch

Say = Callable[[str], None]
_FULL = ("No space left on device", "Disk quota exceeded", "Read-only file system")
_LOG_BYTES = 3000


@dataclass(frozen=True)
class Team:
    """A stage for teams of so many threads."""

    stage: int
    threads: int
    program: Program


class Order(Record):
    """What the process is told: back end, stage, threads, where the program is and where the result goes, and the
    inherited descriptors: a safetensors file, what the parent holds open while it lives, and where to report."""

    backend: str
    threads: int
    program: str
    folder: str
    weights: int
    control: int
    status: int


def artefacts(
    backend: Backend, teams: Sequence[Team], weights: Mapping[str, torch.Tensor], weights_fd: int,
    say: Say = lambda message: None, note: Say = lambda message: None,
) -> Artefacts:  # fmt: skip
    """For each stage and number of threads the folder with what `backend` compiled, from the cache or made now.

    `weights_fd` is a safetensors file with `weights`. `say` is told what is being done, `note` what was amiss.
    Raises: MissingFeature, or MachineMismatch where the processor lacks something; BadInput naming stage and op of what
    cannot be compiled; SystemRefused when the cache folder cannot be written; ExecutionFailed when a compiler dies.
    """
    backend.require(compiling=False)
    if backend.slow:
        note(backend.slow)
    found = Artefacts()
    if backend.compile is None:
        return found
    for team in teams:
        backend.require_dtypes(team.program, team.stage)
    hashes = {name: hash_of(weights[name]) for name in {w.name for team in teams for w in team.program.weights}}
    folder = compiled_folder()
    paths = {(t.stage, t.threads): folder / key_of(backend, t.program, hashes, t.threads) for t in teams}
    missing = [team for team in teams if not found.take(team.stage, team.threads, paths[team.stage, team.threads])]
    if not missing:
        return found
    backend.require()
    limit = limit_bytes(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with work_folder(folder) as work:
            for i, team in enumerate(missing):
                path = paths[team.stage, team.threads]
                with lock(folder / f".{path.name}.lock"):
                    if found.take(team.stage, team.threads, path):
                        continue  # another process, or a stage like this one, was faster
                    if path.exists():
                        path.rename(work / f"damaged{i}")
                        note(f"what {backend.name} had compiled for stage {team.stage} was damaged ({path}); made anew")
                    say(f"Compiling stage {i + 1} of {len(missing)} for {backend.name} ...")
                    made = _made(backend, team, weights_fd, work / str(i))
                    install(made, path, backend.name, team.program.name)
                    found.take(team.stage, team.threads, path)
        trim(folder, limit)
    except OSError as error:
        raise refused(folder, error) from error
    return found


def _made(backend: Backend, team: Team, weights_fd: int, work: Path) -> Path:
    """The folder in `work` with what was compiled for `team`."""
    folder = work / "artefact"
    folder.mkdir(parents=True)
    order, log = work / "program.json", work / "log"
    order.write_bytes(jsonio.canonical(jsonio.plain(team.program)))
    control_end, control = os.pipe()
    status, status_end = os.pipe()
    process = None
    try:
        told = Order(
            backend=backend.name, threads=team.threads, program=str(order), folder=str(folder), weights=weights_fd,
            control=control_end, status=status_end,
        )  # fmt: skip
        with log.open("wb") as out:
            process = _started(told, out, work.parent)
        os.close(status_end)
        status_end = -1
        heard = b"".join(iter(lambda: os.read(status, 65536), b""))
        code = process.wait()
    finally:
        if process is not None and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # it and the compilers that it started
            process.wait()
        for fd in (control_end, control, status, status_end):
            if fd >= 0:
                os.close(fd)
    _require_made(backend, team, json.loads(heard) if heard else None, code, log)
    return folder


def _started(order: Order, log: IO[bytes], work: Path) -> subprocess.Popen[bytes]:
    """The process that follows `order`, in a session of its own with the compilers that it starts."""
    words = [sys.executable, "-P", "-m", "mapper.backends.compile", order.model_dump_json()]
    try:
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment(order.threads, work),
            pass_fds=(order.weights, order.control, order.status), start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise SystemRefused(f"no process could be started to compile in: {error.strerror}") from error


def _require_made(backend: Backend, team: Team, event: dict[str, Any] | None, code: int, log: Path) -> None:
    """Raises what the process reported, or that it died."""
    if event is not None and event["event"] == "done":
        return
    printed = log.read_bytes()[-_LOG_BYTES:].decode(errors="replace")
    if event is None:
        raise ExecutionFailed(
            f"compiling stage {team.stage} for {backend.name} ended without a result: {how_ended(code)}",
            advice=f"What it printed last:\n{printed}",
        )
    if any(words in event["error"] or words in printed for words in _FULL):
        raise SystemRefused(f"the cache folder {compiled_folder()} cannot be written: {event['error']}", advice=ADVICE)
    raise BadInput(
        f"stage {team.stage}", f"{backend.name} cannot compile it: {event['error']}",
        place=culprit(team.program, event["error"] + event["trace"]),
        advice=event["advice"] or "Another back end may: eager can compute every op.",
    )  # fmt: skip


def culprit(program: Program, text: str) -> str:
    """The op of `program` that an error's `text` names, by its name or by what it calls; where a library had taken it
    apart, what it reads; else how many ops there are."""
    for op in program.ops:
        words = (f"%{op.name} ", op.target, op.target.rpartition(".")[0].replace(".", "::"))
        if op.target != "getitem" and any(word in text for word in words):
            return f"op {op.name} ({op.target})"
    read = [op.name for op in program.ops if f"%{op.name}," in text or f"%{op.name})" in text]
    if read:
        return f"an op that reads {read[-1]}"
    return f"{len(program.ops)} ops, {program.ops[0].name} to {program.ops[-1].name}" if program.ops else "no ops"


def _environment(threads: int, work: Path) -> dict[str, str]:
    """The environment of a compilation: all that it writes goes into `work`, and it computes with `threads`."""
    return os.environ | {
        "TMPDIR": str(work), "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor"), "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": search_path(),
    }  # fmt: skip


def main() -> None:
    """Compiles one stage as its one argument says, and reports."""
    order = Order.model_validate_json(sys.argv[1])
    threading.Thread(target=_follow, args=(order.control,), daemon=True).start()
    try:
        _compile(order)
        event: dict[str, object] = {"event": "done"}
    except BaseException as error:
        event = {
            "event": "failed", "error": first_cause(error), "trace": traceback.format_exc()[-20_000:],
            "advice": error.advice if isinstance(error, MapperError) else "",
        }  # fmt: skip
    data = json.dumps(event).encode()
    while data:
        data = data[os.write(order.status, data) :]
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0 if event["event"] == "done" else 1)  # libraries' threads and pools go with it


def first_cause(error: BaseException) -> str:
    """What `error` began with, in a few lines: libraries wrap it in advice on how to report it to them."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: " + "\n".join(str(error).strip().splitlines()[:8])[:1500]


def _compile(order: Order) -> None:
    from mapper.program.weights import map_weights

    backend = backend_called(order.backend)
    program = jsonio.validated(Program, jsonio.read_json(Path(order.program)), order.program)
    weights = map_weights(order.weights, "weights", names=program.weight)
    assert backend.compile is not None, "asked only of back ends that compile"
    backend.compile(program, weights, order.threads, Path(order.folder))


def _follow(control: int) -> None:
    """Ends this process and the compilers that it started as soon as the parent is gone."""
    poll = select.poll()
    poll.register(control, 0)
    poll.poll()
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main()
