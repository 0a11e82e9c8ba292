"""Nodes that only say that they are there."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from broker.open import open_broker
from process.identity import new_incarnation, now_ms
from wire import codec
from wire.presence import PRESENCE_EVERY_S, Presence
from wire.topics import Topics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def presence(node: str, number: int, models: int, started_ms: int) -> Presence:
    """A heartbeat, of the size of a real one."""
    return Presence(
        node=node,
        name=f"crowd-{number}",
        model=f"crowd-{number % models}",
        type="remote",
        version="0",
        state="ready",
        slots=128,
        busy=number % 100,
        service_ms=400,
        sent_ms=now_ms(),
        started_ms=started_ms,
        since_ms=started_ms,
        host="host-of-a-node",
        endpoints=("chat/completions", "completions", "embeddings"),
        provider="api.example.com",
        credential="0123456789abcdef",
    )


@contextlib.asynccontextmanager
async def crowd(pulsar_url: str, nodes: int, models: int) -> AsyncIterator[None]:
    """So many nodes of so many models beat while the block runs, one after the other, each in its time."""
    broker = open_broker(pulsar_url)
    producer = await broker.producer(Topics().presence)
    names = [new_incarnation("node") for _ in range(nodes)]
    started_ms = now_ms()

    async def beat() -> None:
        loop = asyncio.get_running_loop()
        began, said = loop.time(), 0
        while True:
            producer.post(codec.encode(presence(names[said % nodes], said % nodes, models, started_ms)))
            said += 1
            await asyncio.sleep(began + said * PRESENCE_EVERY_S / nodes - loop.time())

    beating = asyncio.ensure_future(beat())
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        await broker.aclose()
