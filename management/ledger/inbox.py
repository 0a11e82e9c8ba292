"""Gathers the messages of a consumer into batches, by count, size and age."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.interface import Consumer, Delivery


class Inbox:
    """Reads ahead of whoever writes the batches, one batch at most.

    ``events_max`` and ``bytes_max`` make a batch complete, and stop the reading until it is taken.
    """

    def __init__(self, consumer: Consumer, *, events_max: int, bytes_max: int) -> None:
        self._consumer = consumer
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._waiting: list[Delivery] = []
        self._bytes = 0
        self._hurried = False
        self._some = asyncio.Event()
        self._enough = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._reader = asyncio.get_running_loop().create_task(self._read(), name="inbox")
        self._reader.add_done_callback(lambda _: self.hurry())

    async def batch(self, age_s: float) -> list[Delivery]:
        """The next batch: complete, or ``age_s`` after its first message.

        After :meth:`hurry` it is what is there, which may be nothing. Raises what the consumer raised, after the last
        message.
        """
        await self._some.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(age_s):
                await self._enough.wait()
        batch, self._waiting, self._bytes = self._waiting, [], 0
        if not batch and self._reader.done():
            self._reader.result()
        if not self._hurried:
            self._some.clear()
            self._enough.clear()
        self._room.set()
        return batch

    def hurry(self) -> None:
        """Wait for nothing any more."""
        self._hurried = True
        self._some.set()
        self._enough.set()

    async def aclose(self) -> None:
        """Leave the subscription; what was not acknowledged goes to the others."""
        await self._consumer.aclose()
        self._room.set()
        # A pending receive is never cancelled: closing the consumer ends it.
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self) -> None:
        while True:
            await self._room.wait()
            delivery = await self._consumer.receive()
            self._waiting.append(delivery)
            self._bytes += len(delivery.payload)
            self._some.set()
            if len(self._waiting) >= self._events_max or self._bytes >= self._bytes_max:
                self._enough.set()
                self._room.clear()
