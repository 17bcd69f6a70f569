"""Hosts for tests: network namespaces of this machine, joined by shaped links; or, without them, the loopback."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

ROOT = Path(__file__).resolve().parents[3]
PORT = 29400


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def _in(name: str, *words: str) -> None:
    done = subprocess.run(["ip", "netns", "exec", name, *words], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")


@dataclass
class Network:
    """`count` namespaces, host i at 10.77.0.(i+1), each joined to a switch by a link of `rate` (as tc says it) in each
    direction. Two are joined directly."""

    count: int
    rate: str | None = None
    names: list[str] = field(default_factory=list)
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    folder: tempfile.TemporaryDirectory[str] = field(default_factory=tempfile.TemporaryDirectory)

    def __enter__(self) -> Self:
        try:
            self._make()
        except OSError:
            self._remove()
            raise
        return self

    def _make(self) -> None:
        made = [f"mapper{os.getpid()}-{i}" for i in range(self.count)]
        switch = f"mapper{os.getpid()}-s"
        for name in [*made, *([switch] if self.count > 2 else [])]:
            _ip("netns", "add", name)
            self.names.append(name)
            _in(name, "ip", "link", "set", "lo", "up")
        if self.count > 2:
            _in(switch, "ip", "link", "add", "br0", "type", "bridge")
            _in(switch, "ip", "link", "set", "br0", "up")
        pairs = [(made[0], made[1])] if self.count == 2 else [(name, switch) for name in made]
        for i, (a, b) in enumerate(pairs):
            ends = ("eth0", "eth0" if self.count == 2 else f"port{i}")
            _ip("link", "add", ends[0], "netns", a, "type", "veth", "peer", "name", ends[1], "netns", b)
            for name, end in zip((a, b), ends, strict=True):
                if name == switch:
                    _in(name, "ip", "link", "set", end, "master", "br0")
                _in(name, "ip", "link", "set", end, "up")
                self._shape(name, end)
        for i, name in enumerate(made):
            _in(name, "ip", "address", "add", f"{self.address(i)}/24", "dev", "eth0")

    def _shape(self, name: str, end: str) -> None:
        if self.rate is not None:
            _in(
                name,
                "tc",
                "qdisc",
                "add",
                "dev",
                end,
                "root",
                "tbf",
                "rate",
                self.rate,
                "burst",
                "64kb",
                "latency",
                "200ms",
            )

    def address(self, host: int) -> str:
        """Where a host is reached."""
        return f"10.77.0.{host + 1}"

    def sent_bytes(self, host: int) -> int:
        """What has left a host, frames and all."""
        name = self.names[host]
        shown = subprocess.run(["ip", "-n", name, "-s", "-j", "link", "show", "eth0"], capture_output=True, check=True)
        return int(json.loads(shown.stdout)[0]["stats64"]["tx"]["bytes"])

    def start(self, host: int, *words: object, pus: Sequence[int] = ()) -> subprocess.Popen[str]:
        """Starts `mapper WORDS` on a host, with these PUs [all]."""
        bound = ["taskset", "-c", ",".join(map(str, pus))] if pus else []
        command = ["ip", "netns", "exec", self.names[host], *bound, sys.executable, "-m", "mapper", *map(str, words)]
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"TMPDIR": self.folder.name}, start_new_session=True,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def pids(self, host: int) -> list[int]:
        """The processes on a host: all were started there by a test, since it made the namespace."""
        shown = subprocess.run(["ip", "netns", "pids", self.names[host]], capture_output=True, text=True, check=True)
        return [int(pid) for pid in shown.stdout.split()]

    def kill(self, host: int) -> None:
        """Ends everything on a host at once, as a loss of power does to its processes."""
        for pid in self.pids(host):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def unplug(self, host: int) -> None:
        """Takes a host's network away: nothing is closed, nothing comes any more."""
        _in(self.names[host], "ip", "link", "set", "eth0", "down")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._remove()

    def _remove(self) -> None:
        for host in range(min(self.count, len(self.names))):
            self.kill(host)
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=10)
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)
        self.folder.cleanup()  # what is killed leaves its own there


@contextlib.contextmanager
def network(count: int, rate: str | None = None) -> Iterator[Network]:
    """A network of `count` hosts; the test is skipped where this machine does not let us make one."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "tc"))):
        pytest.skip("network namespaces need root, ip and tc")
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(Network(count, rate))
        except OSError as error:
            pytest.skip(f"no network namespaces here: {error}")
        yield made


def ended(process: subprocess.Popen[str], within_s: float = 120) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command, waited for."""
    out, err = process.communicate(timeout=within_s)
    return process.returncode, out, err


def until(there: Callable[[], object], within_s: float = 60) -> None:
    """Waits until `there()` is true."""
    end = time.monotonic() + within_s
    while not there():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)
