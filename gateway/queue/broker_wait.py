"""Requests that wait for a broker that is away, instead of being refused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from process.logging import Log

if TYPE_CHECKING:
    from broker.interface import Broker

log = Log("gateway")

LOOK_S = 0.1
"""How often a broker that is away is looked for: the connection brings itself back."""


class BrokerWait:
    """Who waits for the broker, and until when.

    Time counts from the moment at which the broker was missed: nobody waits for one that has been away for longer than
    ``wait_s``, and 0 is not to wait at all.
    """

    def __init__(self, broker: Broker, *, wait_s: float = 0.0, requests_max: int = 0, bytes_max: int = 0) -> None:
        """At most ``requests_max`` requests wait, with bodies of ``bytes_max`` bytes together."""
        self.count = 0
        """How many wait now."""
        self._broker = broker
        self._wait_s = wait_s
        self._requests_max = requests_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._missed_at = 0.0
        self._looking: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._ended = False

    def __repr__(self) -> str:
        return f"<BrokerWait count={self.count} bytes={self._bytes} away={self._looking is not None}>"

    @property
    def is_offered(self) -> bool:
        """Whether the broker is away, and a request that comes now waits for it."""
        return not self._broker.connected and self.until() > asyncio.get_running_loop().time()

    def until(self) -> float:
        """The loop's time up to which a request may wait that cannot be published now."""
        now = asyncio.get_running_loop().time()
        if self._ended or not self._wait_s:
            return now
        if self._looking is None:
            if self._broker.connected:
                return now + self._wait_s  # it cannot serve this request yet, as while it starts
            self._missed_at = now
            self._news.clear()
            self._looking = asyncio.get_running_loop().create_task(self._look(), name="look for the broker")
            log.warning("The broker is away: requests wait for it.", action="requests_wait", at_most_s=self._wait_s)
        return self._missed_at + self._wait_s

    async def over(self, until: float, size: int) -> bool:
        """Wait with a body of ``size`` bytes; False if it makes no sense to try again."""
        loop = asyncio.get_running_loop()
        if loop.time() >= until or self.count >= self._requests_max or self._bytes + size > self._bytes_max:
            return False
        self.count += 1
        self._bytes += size
        try:
            async with asyncio.timeout_at(until):
                await (self._news.wait() if self._looking is not None else asyncio.sleep(LOOK_S))
        except TimeoutError:
            return False
        finally:
            self.count -= 1
            self._bytes -= size
        return not self._ended

    def end(self) -> None:
        """Nobody waits from here on: this gateway will not be there to show an answer."""
        self._ended = True
        self._news.set()
        if self._looking is not None:
            self._looking.cancel()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            if self._broker.connected:
                break
        log.info("The broker is back: requests that waited are published.", action="requests_go_on", open=self.count)
        self._looking = None
        self._news.set()
