"""What is to be looked at, and when: each key once, never by two at a time, later and later while it fails."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

K = TypeVar("K")

RETRY_S_MIN = 0.5
RETRY_S_MAX = 30.0


class WorkQueue(Generic[K]):
    """Level-triggered: a key says where to look, never what happened, so that many reasons are one look."""

    def __init__(self) -> None:
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._waiting: set[K] = set()
        self._taken: set[K] = set()
        self._again: set[K] = set()
        self._failures: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: K) -> None:
        """Have it looked at now; after the present look, if it is being looked at."""
        if key in self._taken:
            self._again.add(key)
        elif key not in self._waiting:
            self._cancel_timer(key)
            self._waiting.add(key)
            self._ready.put_nowait(key)

    def add_in(self, key: K, seconds: float) -> None:
        """Have it looked at after a while, or before if there is a reason."""
        loop = asyncio.get_running_loop()
        if self.due_at(key) <= loop.time() + seconds:
            return
        self._cancel_timer(key)
        self._timers[key] = loop.call_later(seconds, self._due, key)

    def due_at(self, key: K) -> float:
        """When it comes by itself, by the loop's clock; infinity if it does not."""
        timer = self._timers.get(key)
        return timer.when() if timer is not None else float("inf")

    async def take(self) -> K:
        """The next key; :meth:`done` or :meth:`failed` must follow."""
        key = await self._ready.get()
        self._waiting.discard(key)
        self._taken.add(key)
        return key

    def done(self, key: K) -> None:
        """The look was a success."""
        self._failures.pop(key, None)
        self._free(key)

    def failed(self, key: K) -> None:
        """It comes again by itself."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        again = key in self._again
        self._free(key)
        if not again:
            self.add_in(key, min(RETRY_S_MIN * 2 ** min(failures, 10), RETRY_S_MAX))

    def close(self) -> None:
        """Forget what would come later."""
        for key in list(self._timers):
            self._cancel_timer(key)

    def _free(self, key: K) -> None:
        self._taken.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _due(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)

    def _cancel_timer(self, key: K) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
