"""What a client's connection waits for: parts of the answer as they come, then one end."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from gateway.requests.decisions import Break, Complete
    from process.timers import Timers


class HungUp(Exception):
    """The client is gone, or does not read."""


class Exchange:
    """The hand-over between a conversation and the HTTP response that shows it. One reader."""

    def __init__(self, timers: Timers) -> None:
        self.end: Complete | Break | None = None
        self.pending_bytes = 0
        """Bytes that the client has not taken yet."""
        self.hung_up = False
        """Whether the client is gone."""
        self.begun = False
        """For a client that hung up: whether a node had its request by then."""
        self.on_hang_up: Callable[[], None] | None = None
        """Called when the client leaves while nobody waits for news yet."""
        self.on_taken: Callable[[], None] | None = None
        """Called when a node has the request while its receipt is awaited: then it is in its topic, as one sees."""
        self.on_end: Callable[[], None] | None = None
        """Called at the end."""
        self._timers = timers
        self._parts: list[bytes] = []
        self._has_line = False
        self._waiter: asyncio.Future[None] | None = None
        self._for_end = False
        self._unread = False

    @property
    def goes_on(self) -> bool:
        """Whether the answer is still made, though nobody will read it."""
        return self._unread and self.end is None

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
            if self.on_end is not None:
                self.on_end()

    def taken(self) -> None:
        """A node has the request."""
        if self.on_taken is not None:
            self.on_taken()

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

    async def news(self, within_s: float) -> bool:
        """Wait until there is a line or the end; False if ``within_s`` passed without. Raises :class:`HungUp`."""
        if self.hung_up:
            raise HungUp
        if self.end is None and not self._has_line:
            timer = self._timers.after(within_s, self._wake)
            try:
                await self._woken()
            finally:
                timer.cancel()
            if self.hung_up and self.end is None and not self._has_line:
                raise HungUp
        return self.end is not None or self._has_line

    async def ended(self) -> Complete | Break:
        """Wait for the end, however long that takes. Raises :class:`HungUp`."""
        self._for_end = True
        while self.end is None:
            if self.hung_up:
                raise HungUp
            await self._woken()
        return self.end

    def hang_up(self) -> None:
        """The client is gone: whoever waits for news hears it."""
        self.hung_up = True
        self._wake()
        if self.on_hang_up is not None:
            self.on_hang_up()

    def _woken(self) -> asyncio.Future[None]:
        self._waiter = self._timers.loop.create_future()
        return self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
