"""Carries calls from the threads of Pulsar's client into the event loop."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Inbox:
    """One wake-up of the loop for all calls that came meanwhile, instead of one for each."""

    __slots__ = ("_calls", "_loop", "_scheduled")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._scheduled = False

    def __len__(self) -> int:
        """How many calls wait."""
        return len(self._calls)

    def put(self, call: Callable[..., None], *values: Any) -> None:
        """Have ``call(*values)`` run in the loop. Called from any thread; never raises."""
        self._calls.append((call, values))
        # ``_drain`` clears the flag before it empties the queue, so whoever still sees it set is not left behind.
        if not self._scheduled:
            self._schedule()

    def _schedule(self) -> None:
        self._scheduled = True
        try:
            self._loop.call_soon_threadsafe(self._drain)
        except RuntimeError:
            # The loop is closed and nobody waits any more. An exception here would leave through a frame
            # of C++ and take the process with it.
            return

    def _drain(self) -> None:
        self._scheduled = False
        try:
            while self._calls:
                call, values = self._calls.popleft()
                call(*values)
        finally:
            if self._calls:
                self._schedule()
