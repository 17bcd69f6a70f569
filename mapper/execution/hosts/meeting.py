"""Where the hosts of a run meet: who is there, what they tell each other, and who is lost.

All of it goes through the key-value store that torch's elastic launcher gives a start of the run: JSON, never pickles.
Each host counts up a number of its own there every second; one whose number stands still is lost.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]  # it exports them without saying so

from mapper import jsonio
from mapper.errors import BadInput, ExecutionFailed, MapperError, UsageError
from mapper.execution.hosts.passage import Threads
from mapper.execution.hosts.store import tcp_store

MEET_S = 600.0
"""How long hosts wait for each other when they have been started."""
BEAT_S = 1.0
LOST_S = 10.0
"""How long a host may be silent."""
_LOOK_S = 0.02
_TELL_S = 1.0
"""How long news of a failure may take, and the host with the store stays so that others hear of it."""
_FAILED, _OVER = "failed", "over"


class HostLost(ExecutionFailed):
    """A host is gone. `silent`: it has not closed its connections, as one without power or network."""

    def __init__(self, host: int, how: str, *, silent: bool = False) -> None:
        self.host, self.silent = host, silent
        super().__init__(f"host {host} is lost: {how}", advice="What was delivered stays delivered.")


class EndedElsewhere(MapperError):
    """Another host has ended the run, with an exit code that is this one's, too."""

    def __init__(self, host: int, what: str, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(f"host {host} ended the run: {what}")


@dataclass(frozen=True)
class Place:
    """The place of this process in a start of a run, as the elastic launcher says it."""

    rank: int
    world: int
    address: str
    port: int
    restarts: int = 0
    shared_store: bool = False

    @classmethod
    def from_environment(cls, given: Mapping[str, str] = os.environ) -> Place:
        """What the launcher has left in the environment. Raises: UsageError when it has not."""
        try:
            return cls(
                int(given["RANK"]), int(given["WORLD_SIZE"]), given["MASTER_ADDR"], int(given["MASTER_PORT"]),
                int(given.get("TORCHELASTIC_RESTART_COUNT", "0")),
                given.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
            )  # fmt: skip
        except (KeyError, ValueError):
            raise UsageError(
                "not started by torch's elastic launcher", advice="Use: mapper host, or torchrun."
            ) from None


class Present(jsonio.Record):
    """What a host says of itself when it comes: its number, and what it is about to run."""

    host: int
    plan: str
    backend: str
    torch: str


class Meeting:
    """The hosts of one start, by rank; `threads` are ended when one of them fails or is lost."""

    def __init__(self, place: Place, threads: Threads) -> None:
        if place.shared_store:
            raise UsageError("the launcher shares one store between starts of a run, where old numbers would be found",
                             advice="Set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 for torchrun.")  # fmt: skip
        self.place, self.threads = place, threads
        self.hosts: tuple[int, ...] = ()
        self._heard_s: dict[int, float] = {}
        self._over = False
        try:
            self._store = self._client(place.rank == 0, MEET_S)
            self._beats = self._client(False, LOST_S)
        except RuntimeError as error:
            raise ExecutionFailed(
                f"the hosts did not meet at {place.address}, port {place.port}: {_line(error)}"
            ) from None

    def _client(self, serve: bool, timeout_s: float) -> TCPStore:
        place = self.place
        return tcp_store(place.address, place.port, serve=serve, timeout_s=timeout_s, world=place.world)

    def call_roll(self, me: Present) -> tuple[int, ...]:
        """The numbers of all hosts by rank, once all are here.

        Raises: BadInput when two have one number, or not all run the same; ExecutionFailed when one does not come.
        """
        self.tell(f"present/{self.place.rank}", jsonio.plain(me))
        seen = [
            jsonio.validated(Present, self.hear(f"present/{rank}"), f"rank {rank}") for rank in range(self.place.world)
        ]
        self.hosts = tuple(one.host for one in seen)
        if len(set(self.hosts)) < len(seen):
            raise BadInput("hosts", f"their numbers are {', '.join(map(str, self.hosts))}: each needs one of its own")
        for one in seen:
            if (one.plan, one.backend) != (me.plan, me.backend):
                raise BadInput("hosts", f"host {one.host} and host {me.host} run different plans",
                               advice="Copy one bundle to all hosts, and give all the same options.")  # fmt: skip
        self.threads.start("beats", self._beat)
        self.threads.start("watch", self._watch)
        return self.hosts

    def tell(self, key: str, document: Any) -> None:
        """Leaves `document` at `key`, for all hosts."""
        self._guarded(lambda: self._store.set(key, jsonio.canonical(document).decode()))

    def hear(self, key: str, within_s: float = MEET_S) -> Any:
        """What a host leaves at `key`, waited for. Raises: ExecutionFailed; what ended the run meanwhile."""
        until = time.monotonic() + within_s
        while not self._guarded(lambda: self._store.check([key])):
            self.threads.require()
            if time.monotonic() > until:
                raise ExecutionFailed(f"nothing was heard of {key.replace('/', ' ')} within {within_s:g} s")
            time.sleep(_LOOK_S)
        return jsonio.parse_json(self._guarded(lambda: self._store.get(key)), key)

    def _guarded(self, call: Any) -> Any:
        try:
            return call()
        except RuntimeError as error:
            raise HostLost(self._keeper, f"its store is gone ({_line(error)})") from None

    @property
    def _keeper(self) -> int:
        """The host that has the store."""
        return self.hosts[0] if self.hosts else 0

    def _beat(self) -> None:
        """Counts up this host's number, and looks at those of the others and for bad news."""
        others = {host: f"beat/{rank}" for rank, host in enumerate(self.hosts) if rank != self.place.rank}
        now = time.monotonic()
        self._heard_s = dict.fromkeys(others, now)
        counts: dict[int, int] = {}
        while not self._over:
            try:
                self._beats.add(f"beat/{self.place.rank}", 1)
                for host, key in others.items():
                    count = self._beats.add(key, 0)
                    if counts.get(host) != count:
                        counts[host], self._heard_s[host] = count, time.monotonic()
                failed = self._beats.check([_FAILED])
            except RuntimeError as error:
                if self._over:
                    return
                raise HostLost(self._keeper, f"its store is gone ({_line(error)})") from None
            if failed:
                raise self._news(jsonio.parse_json(self._beats.get(_FAILED), _FAILED))
            time.sleep(BEAT_S)

    def _watch(self) -> None:
        """Notices who is silent, also when this host cannot ask. A time in which this process was stopped itself does
        not count."""
        silent_s: dict[int, float] = {}
        heard, before = dict(self._heard_s), time.monotonic()
        while not self._over:
            time.sleep(BEAT_S)
            now = time.monotonic()
            passed, before = min(now - before, 2 * BEAT_S), now
            for host, at in self._heard_s.items():
                silent_s[host] = silent_s.get(host, 0.0) + passed if heard.get(host) == at else 0.0
                heard[host] = at
            quiet = [host for host, s in silent_s.items() if s > LOST_S - 2 * BEAT_S]
            if quiet and max(silent_s.values()) > LOST_S and not self._over:
                lost = self._keeper if self._keeper in quiet else quiet[0]  # without its store nobody can be heard
                raise HostLost(lost, f"no sign of it for {LOST_S:g} s", silent=True)

    def _news(self, told: Any) -> MapperError:
        return EndedElsewhere(int(told["host"]), str(told["what"]), int(told["exit"]))

    def why(self, error: Exception) -> Exception:
        """The reason behind `error`: what another host has told of its end, where a connection to one broke."""
        if not isinstance(error, HostLost):
            return error
        told: list[MapperError] = []
        _briefly(lambda: told.append(self._awaited_news()))
        return told[0] if told else error

    def _awaited_news(self) -> MapperError:
        while not self._store.check([_FAILED]):
            time.sleep(_LOOK_S)
        return self._news(jsonio.parse_json(self._store.get(_FAILED), _FAILED))

    def fail(self, host: int, error: Exception) -> None:
        """Tells all hosts that the run has failed here, if they have not heard of a failure yet."""
        self._over = True
        if isinstance(error, EndedElsewhere):
            return
        told = {"host": host, "what": str(error)[:4000], "exit": getattr(error, "exit_code", 1)}
        _briefly(lambda: self._store.compare_set(_FAILED, "", jsonio.canonical(told).decode()))
        if self.place.rank == 0 and self.place.world > 1:
            time.sleep(_TELL_S)

    def connect(self, timeout_s: float | None) -> None:
        """Connects all hosts for `Links`; a transfer may take so long. Raises: ExecutionFailed."""
        if self.place.world == 1:
            return
        limit = timedelta(days=30) if timeout_s is None else timedelta(seconds=timeout_s)
        try:
            dist.init_process_group(
                "gloo", store=PrefixStore("gloo", self._store), rank=self.place.rank,
                world_size=self.place.world, timeout=limit,
            )  # fmt: skip
        except RuntimeError as error:
            raise ExecutionFailed(
                f"the hosts cannot connect: {_line(error)}",
                advice="GLOO_SOCKET_IFNAME names the network interface to use.",
            ) from None

    def leave(self) -> None:
        """The good end: nobody leaves before the front has said that it is over, and who has the store leaves last."""
        self._over = True
        if dist.is_initialized():
            dist.destroy_process_group()
        if self.place.rank != 0:
            _briefly(lambda: self._store.set(f"left/{self.place.rank}", "true"))
            return
        for rank in range(1, self.place.world):
            try:
                self.hear(f"left/{rank}", LOST_S)
            except MapperError:
                return  # what there was to do is done

    def end(self) -> None:
        """Of the front: all is done."""
        self.tell(_OVER, True)

    def wait_for_end(self) -> None:
        """Of the others: waits until the front says so."""
        self.hear(_OVER, math.inf)


class Links:
    """Messages between hosts, point to point, over gloo; in order for each lane and pair of hosts. `ranks` has the
    rank of each other host of the plan, `numbers` what the user calls the host of each rank."""

    def __init__(self, ranks: Mapping[int, int], numbers: Sequence[int]) -> None:
        self._rank, self._numbers = ranks, numbers
        self.sent_bytes = dict.fromkeys(ranks, 0)

    def send(self, host: int, lane: int, message: torch.Tensor) -> None:
        """Sends `message`, when its receiver has room. Raises: HostLost."""
        try:
            work = dist.isend(message, dst=self._rank[host], tag=lane)
            assert work is not None, "there is a group, and this process is in it"
            work.wait()
        except RuntimeError as error:
            raise self._lost(host, error) from None
        self.sent_bytes[host] += message.numel()

    def post(self, host: int, lane: int, message: torch.Tensor) -> Posted:
        """Makes room for the next message of a lane."""
        try:
            work = dist.irecv(message, src=self._rank[host], tag=lane)
        except RuntimeError as error:
            raise self._lost(host, error) from None
        assert work is not None, "there is a group, and this process is in it"
        return Posted(self._numbers[self._rank[host]], work, message)

    def _lost(self, host: int, error: Exception) -> HostLost:
        return HostLost(self._numbers[self._rank[host]], _line(error))


@dataclass(frozen=True)
class Posted:
    """Room for a message that a host may send."""

    host: int
    work: dist.Work
    message: torch.Tensor

    def wait(self) -> torch.Tensor:
        """The message. Raises: HostLost."""
        try:
            self.work.wait()
        except RuntimeError as error:
            raise HostLost(self.host, _line(error)) from None
        return self.message


def _briefly(call: Callable[[], object]) -> None:
    """Makes a call of the store, and gives up after a while: its host may be silent."""

    def made() -> None:
        with contextlib.suppress(RuntimeError):  # the store is gone: the others see that
            call()

    thread = threading.Thread(target=made, daemon=True)
    thread.start()
    thread.join(_TELL_S)


def _line(error: Exception) -> str:
    """What libraries say, without where in their sources they say it."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    said = text.rpartition(".cc:")[2].partition("] ")[2] or text
    return said.partition(". ")[0][:300]
