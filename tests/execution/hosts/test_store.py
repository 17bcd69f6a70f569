"""The store in which hosts meet: every build of torch has it."""

from __future__ import annotations

import socket

import pytest
from torch.distributed.elastic.rendezvous import (
    RendezvousConnectionError,
    RendezvousHandler,
    RendezvousParameters,
    rendezvous_handler_registry,
)

from mapper.execution.hosts.store import RENDEZVOUS, register, tcp_store


def handler(port: int, serve: bool) -> RendezvousHandler:
    register()
    return rendezvous_handler_registry.create_handler(
        RendezvousParameters(RENDEZVOUS, f"127.0.0.1:{port}", "run", 1, 1, local_addr="127.0.0.1",
                             is_host="true" if serve else "false", read_timeout=2, join_timeout=20)
    )  # fmt: skip


def test_what_one_host_writes_another_reads_without_libuv() -> None:
    front = tcp_store("127.0.0.1", 0, serve=True, timeout_s=5, world=2)
    other = tcp_store("127.0.0.1", front.port, serve=False, timeout_s=5, world=2)
    front.set("plan", "abc")
    assert other.get("plan") == b"abc"
    assert not front.libuvBackend and not other.libuvBackend


def test_the_launcher_meets_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    register()  # a second time changes nothing
    met = handler(0, serve=True).next_rendezvous()
    assert (met.rank, met.world_size) == (0, 1)
    assert met.bootstrap_store_info is not None and met.bootstrap_store_info.master_addr == "127.0.0.1"


@pytest.mark.parametrize("serve", [True, False])
def test_a_store_that_is_not_to_be_had_is_an_error_of_the_rendezvous(serve: bool) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        with pytest.raises(RendezvousConnectionError):
            handler(int(taken.getsockname()[1]), serve)
