"""Waiting with a deadline, the only way in which a test may wait."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from broker.interface import Consumer, Delivery

T = TypeVar("T")


async def within(seconds: float, coroutine: Coroutine[None, None, T]) -> T:
    """What the coroutine returns. It is not cancelled at the deadline: a receive must never be."""
    task = asyncio.ensure_future(coroutine)
    await asyncio.wait({task}, timeout=seconds)
    if not task.done():
        task.add_done_callback(_read)
        pytest.fail(f"Nothing came within {seconds} s.")
    return task.result()


def _read(task: asyncio.Future[T]) -> None:
    """Look at how a task ended after its test did, so that nobody complains that nobody looked."""
    if not task.cancelled():
        task.exception()


async def take(consumer: Consumer, seconds: float = 10.0) -> Delivery:
    """The next message of a consumer."""
    return await within(seconds, consumer.receive())


async def take_all(consumer: Consumer, count: int, seconds: float = 10.0) -> list[bytes]:
    """The payloads of the next ``count`` messages, each of them acknowledged."""
    payloads = []
    for _ in range(count):
        delivery = await take(consumer, seconds)
        consumer.ack(delivery)
        payloads.append(delivery.payload)
    return payloads


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Return when the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"The condition did not hold within {seconds} s.")
        await asyncio.sleep(0.01)


class Pull:
    """Calls of ``receive()`` that wait in the background: one permit each."""

    def __init__(self, consumer: Consumer, permits: int) -> None:
        self.payloads: list[bytes] = []
        self._tasks = [asyncio.ensure_future(self._receive(consumer)) for _ in range(permits)]
        for task in self._tasks:
            task.add_done_callback(_read)

    async def _receive(self, consumer: Consumer) -> None:
        self.payloads.append((await consumer.receive()).payload)

    async def done(self, count: int = 1, seconds: float = 10.0) -> list[bytes]:
        """The payloads, as soon as there are ``count``."""
        await until(lambda: len(self.payloads) >= count, seconds)
        return self.payloads

    def abandon(self) -> None:
        """Cancel the calls, which nobody should do."""
        for task in self._tasks:
            task.cancel()

    async def ended(self) -> list[BaseException | None]:
        """How each call ended, once all have."""
        await asyncio.wait(self._tasks)
        return [None if task.cancelled() else task.exception() for task in self._tasks]
