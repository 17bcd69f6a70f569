"""The key-value store in which hosts meet: torch's, and without libuv, which not every build of torch has (Debian's has
not) and which torch's own launcher asks for."""

from __future__ import annotations

from datetime import timedelta

from torch.distributed import TCPStore  # type: ignore[attr-defined]  # it exports it without saying so
from torch.distributed.elastic.rendezvous import (
    RendezvousConnectionError,
    RendezvousHandler,
    RendezvousParameters,
    rendezvous_handler_registry,
)
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import C10dRendezvousBackend
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import create_handler
from torch.distributed.elastic.rendezvous.utils import parse_rendezvous_endpoint

RENDEZVOUS = "mapper"
"""What the launcher knows this way of meeting by, once `register` was called."""


def tcp_store(address: str, port: int, *, serve: bool, timeout_s: float, world: int | None = None) -> TCPStore:
    """The store at `address`, which this process holds (`serve`) or joins, for `world` hosts. Raises: RuntimeError."""
    return TCPStore(
        address, port, world, serve, timeout=timedelta(seconds=timeout_s), wait_for_workers=False, multi_tenant=True,
        use_libuv=False,
    )  # fmt: skip


def register() -> None:
    """Makes torch's launcher meet as its `c10d` does, but in a `tcp_store`."""
    rendezvous_handler_registry.register(RENDEZVOUS, _handler)


class _Meeting(C10dRendezvousBackend):
    """As torch's own, by the name under which it is registered."""

    @property
    def name(self) -> str:
        return RENDEZVOUS


def _handler(parameters: RendezvousParameters) -> RendezvousHandler:
    """Raises: RendezvousConnectionError where the store cannot be held or joined."""
    address, port = parse_rendezvous_endpoint(parameters.endpoint, default_port=-1)
    serve, timeout_s = bool(parameters.get_as_bool("is_host")), float(parameters.get("read_timeout", 60))
    try:
        store = tcp_store(address, port, serve=serve, timeout_s=timeout_s)
    except (RuntimeError, ValueError) as error:
        raise RendezvousConnectionError("the store is not to be had") from error
    return create_handler(store, _Meeting(store, parameters.run_id), parameters)
