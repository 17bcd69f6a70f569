"""Set-ups outside mapper's executor as contenders: processes of their own, with a library's own pools and queues, or
through torch's launcher. They get the same items, and their outputs are checked in the same way."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO, Any

from mapper import jsonio
from mapper.child import search_path
from mapper.errors import ExecutionFailed, PromiseBroken, SystemRefused
from mapper.execution.reference import Reference
from mapper.host.anonymous import anonymous_file
from mapper.plans.model import Plan
from mapper.program.weights import map_weights, write_weights
from mapper.sources.backend import compiled
from mapper.sources.source import Source
from mapper.study.executed import Items, from_schedule, same
from mapper.study.outside import Job
from mapper.study.rounds import Say, Timed

TIMEOUT_S = 600.0
START_S = 0.05
"""An open-loop round begins so long after it is ordered, so that all instances know of it."""
_OWN = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
"""Left to the set-up."""


@dataclass(frozen=True)
class SetUp:
    """A set-up: how tables call it, how it computes (`engines`) with which back end, in so many `instances` with
    `threads` each, on which `pus` (OS numbers), and the words that launch an instance program (none: it is started
    directly, and binds itself to `pus`)."""

    name: str
    engine: str
    backend: str
    pus: tuple[int, ...]
    threads: int
    instances: int = 1
    launcher: tuple[str, ...] = ()


@dataclass
class _Instance:
    link: socket.socket
    lines: IO[bytes]
    pid: int


@dataclass
class Outside:
    """A set-up at work. `plan` is the whole model as one stage, with the set-up's back end. `unit`: what an item counts
    for, as of an executed plan."""

    set_up: SetUp
    plan: Plan
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    results: int
    instances: list[_Instance] = field(default_factory=list)
    width: int = 1
    identical: bool = True
    unit: int = 1

    @property
    def name(self) -> str:
        """The set-up's."""
        return self.set_up.name

    @property
    def pids(self) -> Sequence[int]:
        """Its processes, the launcher too."""
        return sorted({self.process.pid, *(instance.pid for instance in self.instances)})

    def sized(self, count: int) -> int:
        """As many for each instance, and at least as many as two times those in flight."""
        n = len(self.instances)
        return max(-(-count // (n * self.unit)), 4, 2 * self.width) * n * self.unit

    def closed(self, count: int) -> Timed:
        """A round of all instances at once. The rate is the sum of theirs, each timed by itself."""
        each = count // (len(self.instances) * self.unit)
        replies = self._all([{"do": "closed", "count": each}] * len(self.instances))
        latencies = tuple(latency for reply in replies for latency in reply["latencies_s"])
        return Timed(self.unit * sum(reply["rate_per_s"] for reply in replies), latencies)

    def open(self, due_s: Sequence[float]) -> Timed:
        """Items are dealt to the instances in turn."""
        n, start = len(self.instances), time.monotonic() + START_S
        orders = [{"do": "open", "start_s": start, "due_s": list(due_s[i::n])} for i in range(n)]
        done = [0.0] * len(due_s)
        for i, reply in enumerate(self._all(orders)):
            done[i::n] = reply["done_s"]
        return from_schedule(done, due_s)

    def check(self, reference: Reference) -> None:
        """Compares the outputs of each instance with what they have to be. Raises: PromiseBroken."""
        for instance in self.instances:
            self._send(instance, {"do": "check"})
            self._hear(instance)
            found = map_weights(self.results, "outputs")
            for i, wanted in enumerate(reference.outputs):
                tensors = [found[f"{i}.{j}"] for j in range(len(wanted))]
                self.identical &= same(self.name, self.plan, tensors, reference, i)

    def close(self) -> None:
        """Ends its processes; all are gone afterwards."""
        for instance in self.instances:
            with contextlib.suppress(OSError):
                instance.link.shutdown(socket.SHUT_RDWR)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            pids = [instance.pid for instance in self.instances if instance.pid != self.process.pid]
            for pid in pids if self.set_up.launcher else ():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.kill()
            self.process.wait()
        for instance in self.instances:
            instance.lines.close()
            instance.link.close()
        os.close(self.results)
        self.log.close()

    def _all(self, orders: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        for instance, order in zip(self.instances, orders, strict=True):
            self._send(instance, order)
        return [self._hear(instance) for instance in self.instances]

    def _send(self, instance: _Instance, order: dict[str, Any]) -> None:
        try:
            instance.link.sendall(json.dumps(order).encode() + b"\n")
        except OSError:
            self._fail("its process is gone")

    def _hear(self, instance: _Instance) -> dict[str, Any]:
        try:
            line = instance.lines.readline()
        except TimeoutError:
            self._fail(f"no answer within {TIMEOUT_S:g} s")
        if not line:
            self._fail("its process ended")
        reply: dict[str, Any] = json.loads(line)
        if reply.get("event") == "failed":
            self._fail(str(reply["error"]).strip(), str(reply["trace"]))
        return reply

    def _fail(self, what: str, trace: str = "") -> Any:
        self.log.seek(0)
        printed = self.log.read()[-3000:].decode(errors="replace")
        raise ExecutionFailed(f"{self.name}: {what}", advice=trace + (f"It printed:\n{printed}" if printed else ""))


def launched(
    stack: ExitStack, set_up: SetUp, plan: Plan, source: Source, items: Items, say: Say = lambda message: None
) -> Outside:
    """`set_up` at work until `stack` is left. `plan` has the whole model as one stage and the set-up's back end.

    Raises: ExecutionFailed when a process does not come up; what compiling raises.
    """
    say(f"Starting {set_up.name} ...")
    notes: list[str] = []
    with ExitStack() as files:
        weights = _kept(files, source.weights_fd())
        made = compiled(plan, [source.program], source.weights, weights, say, notes.append)
        artefact = next(iter(made.values()), None)
        job = Job(
            engine=set_up.engine, backend=set_up.backend, threads=set_up.threads, program=source.program,
            pus=() if set_up.launcher else set_up.pus, artefact=str(artefact or ""),
        )  # fmt: skip
        told = _kept(files, _written("mapper-job", lambda out: out.write(jsonio.canonical(jsonio.plain(job)))))
        named = {f"{i}.{j}": tensor for i, item in enumerate(items) for j, tensor in enumerate(item)}
        given = _kept(files, _written("mapper-items", lambda out: write_weights(out, named)))
        results = anonymous_file("mapper-results")
        listening = files.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        address = f"mapper-outside-{secrets.token_hex(16)}"
        listening.bind("\0" + address)
        listening.listen(set_up.instances)
        log = tempfile.TemporaryFile()  # noqa: SIM115  (it has no name, and is closed with the set-up)
        outside = Outside(set_up, plan, _process(set_up, address, log), log, results)
        stack.callback(outside.close)
        _connect(outside, listening, [told, weights, given, results])
    return outside


def _process(set_up: SetUp, address: str, log: IO[bytes]) -> subprocess.Popen[bytes]:
    """The launcher, or the only instance."""
    instance = [sys.executable, "-P", "-m", "mapper.study.outside", address]
    env = {name: value for name, value in os.environ.items() if name not in _OWN}
    env["PYTHONPATH"] = search_path()
    try:
        return subprocess.Popen([*set_up.launcher, *instance], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                env=env, start_new_session=True)  # fmt: skip
    except OSError as error:
        raise SystemRefused(f"{set_up.name}: no process could be started: {error.strerror}") from error


def _connect(outside: Outside, listening: socket.socket, fds: Sequence[int]) -> None:
    """Waits for all instances, gives each its job, and waits until they are ready."""
    until = time.monotonic() + TIMEOUT_S
    listening.settimeout(0.2)
    while len(outside.instances) < outside.set_up.instances:
        try:
            link, _ = listening.accept()
        except TimeoutError:
            if outside.process.poll() is not None or time.monotonic() > until:
                outside._fail("its processes did not come up")
            continue
        link.settimeout(TIMEOUT_S)
        uid = struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))[1]
        if uid != os.getuid():
            link.close()
            continue
        instance = _Instance(link, link.makefile("rb"), 0)
        outside.instances.append(instance)
        instance.pid = int(outside._hear(instance)["pid"])
        socket.send_fds(link, [b"j"], fds)
    ready = [outside._hear(instance) for instance in outside.instances]
    outside.width = max(int(event["width"]) for event in ready)
    strays = {pu for event in ready for pu in event["pus"]} - set(outside.set_up.pus)
    if strays:
        raise PromiseBroken(
            f"{outside.name}: it may run on PUs {sorted(strays)}, which are not those of the comparison"
        )


def _kept(stack: ExitStack, fd: int) -> int:
    stack.callback(os.close, fd)
    return fd


def _written(name: str, write: Callable[[IO[bytes]], object]) -> int:
    """A new anonymous file with what `write` writes."""
    fd = anonymous_file(name)
    with os.fdopen(os.dup(fd), "wb") as out:
        write(out)
    return fd
