"""What a gateway has said about one attempt, until the attempt heeds it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


class Words(Generic[T]):
    """One attempt puts and takes them, so that a queue of :mod:`asyncio`, with three deques, would be too much."""

    __slots__ = ("_listening", "_loop", "_said")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._said: deque[T] = deque()
        self._listening: asyncio.Future[None] | None = None

    def put(self, word: T) -> None:
        """It was said."""
        self._said.append(word)
        self._wake()

    def take(self) -> T | None:
        """The first that was not heeded yet, if there is one."""
        return self._said.popleft() if self._said else None

    async def next(self, patience_s: float) -> T | None:
        """The same, or the one that comes within ``patience_s``. One caller at a time."""
        if not self._said:
            self._listening = self._loop.create_future()
            timer = self._loop.call_later(patience_s, self._wake)
            try:
                await self._listening
            finally:
                timer.cancel()
        return self.take()

    def _wake(self) -> None:
        if self._listening is not None and not self._listening.done():
            self._listening.set_result(None)
