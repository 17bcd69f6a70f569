"""Starts a host's agent under torch's elastic launcher (torchrun), which starts it again when a host or worker is lost.

The launchers meet at a store on the front's host, and start all agents anew when one of them fails or a host comes or
goes. What must not be tried again (wrong outputs, a plan that does not fit) an agent leaves in a file, and ends as if
all were well: so all launchers end, and each gives the exit code.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mapper.child import how_ended, search_path
from mapper.errors import ExecutionFailed, MissingFeature, UsageError

PORT = 29400
VERDICT = "MAPPER_VERDICT"
"""The variable that names the file for an agent's exit code."""
_LEAVE_S = 10.0
"""How long the launcher may take to end after its agent has said that all is over."""
_RUN = "mapper"
_FOLDER = "mapper-host-"
_FRESH_S = 10.0
"""A folder that is younger may be one that is not locked yet."""


@dataclass(frozen=True)
class Start:
    """How a host takes part: `front` is where the launchers meet, on the host that feeds (`at_front`); from `least` to
    `most` hosts run, and `wait_s` is waited for more than the least. `address` is this host's own [the one by which it
    reaches the front]."""

    front: str
    at_front: bool
    least: int
    most: int
    restarts: int = 3
    wait_s: float = 30.0
    meet_s: float = 600.0
    address: str = ""


def launched() -> bool:
    """Whether this process was started by the elastic launcher: it is an agent."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def conclude(exit_code: int) -> bool:
    """Leaves this agent's exit code as final to its launcher; False where that is not ours."""
    path = os.environ.get(VERDICT)
    if path is None:
        return False
    Path(path).write_text(str(exit_code))
    return True


def lack_here() -> str:
    """What this installation lacks to run plans over several hosts; nothing where it can."""
    known = torch.distributed.is_available() and torch.distributed.is_gloo_available()
    return "" if known else "this build of torch has no torch.distributed with gloo"


def launch(start: Start, words: Sequence[str]) -> int:
    """Runs `python WORDS` as this host's agent, again after failures, until the run is over; its exit code.

    Raises: UsageError for an address that is none; MissingFeature where torch has no distributed part; ExecutionFailed
    when the launchers do not meet, the front is gone, or the agent has failed too often.
    """
    if lack := lack_here():
        raise MissingFeature(lack, advice="Install a build that has.")
    host, port = endpoint(start.front)
    address = start.address or (host if start.at_front else own_address(host, port))
    if not start.at_front:
        await_front(host, port, start.meet_s)
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError, RendezvousTimeoutError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from mapper.execution.hosts.store import RENDEZVOUS, register

    register()
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # what matters is told by agents and here
    with own_folder() as folder:
        verdict = folder / "verdict"
        os.environ |= _environment(address, verdict)
        _end_after(verdict)
        config = LaunchConfig(
            min_nodes=start.least, max_nodes=start.most, nproc_per_node=1, run_id=_RUN, rdzv_backend=RENDEZVOUS,
            rdzv_endpoint=f"{host}:{port}", rdzv_configs=_rendezvous(start), max_restarts=start.restarts,
            local_addr=address, logs_specs=DefaultLogsSpecs(log_dir=str(folder)),
        )  # fmt: skip
        try:
            elastic_launch(config, sys.executable)(*words)
        except ChildFailedError as error:
            failure = next(iter(error.failures.values()))
            return failed_with(failure.exitcode)
        except SignalException as error:
            if error.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise SystemExit(128 + int(error.sigval)) from None
        except RendezvousTimeoutError:
            raise ExecutionFailed(
                f"not all hosts that a plan needs came within {start.meet_s:g} s",
                advice="Start the commands of the others, or give a bundle with a plan for fewer hosts.",
            ) from None
        except RendezvousError as error:
            reason = (str(error.__cause__ or error) or type(error).__name__).splitlines()[0]
            raise ExecutionFailed(
                f"the hosts do not meet at {start.front}: {reason[:300]}",
                advice="Is the front (host 0) there, and are all hosts that the plan needs?",
            ) from None
        return _concluded(verdict)


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """A folder for a launcher's files, locked while it lives. What those have left that were killed is taken away."""
    for left in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        with contextlib.suppress(OSError), _locked(left):
            seen = left.stat()
            if seen.st_uid == os.getuid() and time.time() - seen.st_mtime > _FRESH_S:
                shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=_FOLDER, ignore_cleanup_errors=True) as name, _locked(Path(name)):
        yield Path(name)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the lock of `folder` for a block. Raises: OSError where another process has it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def failed_with(code: int) -> int:
    """The exit code for an agent that has ended with `code` once too often. It has said itself why."""
    if code < 0:
        raise ExecutionFailed(f"the agent of this host ended: {how_ended(code)}")
    return code


def _rendezvous(start: Start) -> dict[str, str | int]:
    """How the launchers meet: a host that is not heard of for three seconds is out."""
    return {
        "is_host": "true" if start.at_front else "false", "join_timeout": max(1, round(start.meet_s)),
        "last_call_timeout": max(1, round(start.wait_s)), "keep_alive_interval": 1, "keep_alive_max_attempt": 3,
        "read_timeout": 60,
    }  # fmt: skip


def _environment(address: str, verdict: Path) -> dict[str, str]:
    """What agents find in their environment."""
    found = {
        VERDICT: str(verdict), "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "PYTHONPATH": search_path(),
    }  # fmt: skip
    interface = interface_of(address)
    if interface and "GLOO_SOCKET_IFNAME" not in os.environ:
        found["GLOO_SOCKET_IFNAME"] = interface
    return found


def _concluded(verdict: Path) -> int:
    """What the agent has left as final."""
    with contextlib.suppress(OSError, ValueError):
        return int(verdict.read_text())
    return 0


def _end_after(verdict: Path) -> None:
    """Ends this process some seconds after the agent has left a verdict: without its network the launcher would wait
    for ever."""

    def watch() -> None:
        while not verdict.exists():
            time.sleep(0.5)
        time.sleep(_LEAVE_S)
        code = _concluded(verdict)
        shutil.rmtree(verdict.parent, ignore_errors=True)
        os._exit(code)

    threading.Thread(target=watch, daemon=True).start()


def endpoint(text: str) -> tuple[str, int]:
    """Address and port of `text`, such as 10.0.0.1:29400 or a name alone. Raises: UsageError."""
    host, separator, port = text.rpartition(":")
    if not separator:
        return text, PORT
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UsageError(f"{text!r} is no address and port, such as 10.0.0.1:{PORT}")
    return host.strip("[]"), int(port)


def own_address(host: str, port: int) -> str:
    """The address of this machine that it reaches `host` by; nothing is sent. Raises: UsageError."""
    try:
        kind, _, _, _, there = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(kind, socket.SOCK_DGRAM) as asking:
            asking.connect(there)
            return str(asking.getsockname()[0])
    except OSError as error:
        raise UsageError(
            f"there is no way to {host}: {error.strerror}", advice="--address names this host's own."
        ) from None


def await_front(host: str, port: int, within_s: float) -> None:
    """Waits until something answers there: torch's store gives up after a minute, and cannot be interrupted.

    Raises: ExecutionFailed when nothing does in time.
    """
    until = time.monotonic() + within_s
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() >= until:
                raise ExecutionFailed(
                    f"host 0 does not answer at {host}, port {port}: {error}",
                    advice="Start its command, with the same --front, and open the port.",
                ) from None
        time.sleep(0.2)


def interface_of(address: str) -> str:
    """The network interface that has `address` (a name or IPv4), empty where none is found."""
    import struct

    get_address = 0x8915  # SIOCGIFADDR of Linux
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking, contextlib.suppress(OSError):
        wanted = socket.gethostbyname(address)
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):
                answer = fcntl.ioctl(asking.fileno(), get_address, struct.pack("256s", name.encode()[:15]))
                if socket.inet_ntoa(answer[20:24]) == wanted:
                    return name
    return ""
