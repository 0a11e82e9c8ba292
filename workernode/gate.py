"""Who may take a permit: everyone, nobody, or one to try whether the upstream is well again."""

from __future__ import annotations

import asyncio
from collections import deque


class Gate:
    """Slots pass before they ask the queue for a request. Closed, it keeps requests in the queue for other nodes."""

    def __init__(self) -> None:
        self._open = False
        self._admitted = 0
        self._waiters: deque[asyncio.Future[None]] = deque()

    def __repr__(self) -> str:
        return f"<Gate open={self._open} admitted={self._admitted} waiting={len(self._waiters)}>"

    @property
    def is_open(self) -> bool:
        """Whether everyone passes."""
        return self._open

    def open(self) -> None:
        """Let everyone pass."""
        self._open, self._admitted = True, 0
        self._wake(len(self._waiters))

    def close(self) -> None:
        """Let nobody pass."""
        self._open, self._admitted = False, 0

    def admit_one(self) -> None:
        """Let one pass, now or when it comes."""
        self._admitted = 1
        self._wake(1)

    async def enter(self) -> bool:
        """Wait to pass; True if this is the one that was let in to try."""
        while not self._open:
            if self._admitted:
                self._admitted -= 1
                return True
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        return False

    def _wake(self, count: int) -> None:
        for _ in range(min(count, len(self._waiters))):
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
