"""Feeding: how items come in and results go out, whoever asks: a loop, futures, asyncio, a batcher."""
