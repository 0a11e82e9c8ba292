"""What a client's connection waits for: parts of the answer as they come, then one end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.conversation import Break, Complete


class Exchange:
    """The hand-over between a conversation and the HTTP response that shows it. One reader."""

    def __init__(self) -> None:
        self.end: Complete | Break | None = None
        self.pending_bytes = 0
        """Bytes that the client has not taken yet."""
        self.begun = False
        """For a client that hung up: whether a node had its request by then, or will still answer it."""
        self._parts: list[bytes] = []
        self._has_line = False
        self._waiter: asyncio.Future[None] | None = None
        self._for_end = False
        self._unread = False

    def put(self, data: bytes) -> None:
        """Add a part. Of a stream it is lines, the last of which may go on in the next part."""
        if self._unread:
            return
        self._parts.append(data)
        self.pending_bytes += len(data)
        self._has_line = self._has_line or b"\n" in data
        if self._has_line and not self._for_end:
            self._wake()

    def finish(self, end: Complete | Break) -> None:
        """Nothing follows. The first end counts."""
        if self.end is None:
            self.end = end
            self._wake()

    def discard(self) -> None:
        """Nobody will read what comes: keep nothing of it."""
        self._unread = True
        self.take()

    def take(self) -> bytes:
        """Everything that is there, joined; empty if nothing is."""
        parts = b"".join(self._parts)
        self._parts.clear()
        self.pending_bytes, self._has_line = 0, False
        return parts

    def take_lines(self) -> bytes:
        """The lines that are whole; what is there of the next one stays."""
        if not self._has_line:
            return b""
        lines, newline, rest = self.take().rpartition(b"\n")
        if rest:
            self.put(rest)
        return lines + newline

    async def news(self, within_s: float, *, for_end: bool = False) -> bool:
        """Wait until there is a line (unless ``for_end``) or the end; False if ``within_s`` passed without."""
        if self.end is not None or (self._has_line and not for_end):
            return True
        self._for_end = for_end
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = loop.call_later(within_s, self._wake)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None
        return self.end is not None or (self._has_line and not for_end)

    def interrupt(self, _: object = None) -> None:
        """End :meth:`news` although there is none."""
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
