"""Streams for asyncio: outputs in order, and the event loop never waits for a worker."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def streamed(
    submit: Callable[[T], Future[R]], items: Iterable[T] | AsyncIterable[T], limit: int
) -> AsyncIterator[R]:
    """What `submit` gives for each of `items`, in their order, with at most `limit` of them begun and not yet handed
    out. An item is taken while the oldest result is awaited; what is left when the stream is left is cancelled.
    """
    source = items.__aiter__() if isinstance(items, AsyncIterable) else _one_by_one(items)
    begun: deque[asyncio.Future[R]] = deque()
    coming: asyncio.Future[T] | None = None
    exhausted = False
    try:
        while True:
            if coming is None and not exhausted and len(begun) < limit:
                coming = asyncio.ensure_future(source.__anext__())
            if begun and begun[0].done():
                yield begun.popleft().result()
                continue
            waited: list[asyncio.Future[Any]] = [
                *([coming] if coming is not None else []),
                *([begun[0]] if begun else []),
            ]
            if not waited:
                return
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if coming is not None and coming.done():
                done, coming = coming, None
                try:
                    item = done.result()
                except StopAsyncIteration:
                    exhausted = True
                else:
                    begun.append(asyncio.wrap_future(submit(item)))
    finally:
        for left in (coming, *begun):
            if left is not None:
                left.cancel()


async def _one_by_one(items: Iterable[T]) -> AsyncIterator[T]:
    for item in items:
        yield item
