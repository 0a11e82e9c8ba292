"""Where the messages of one consumer meet the calls that wait for them, without ever losing one."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from broker.interface import ConsumerClosed

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_TURNS = 64


class Mailbox(Generic[T]):
    """Matches arriving messages with waiting ``receive()`` calls, first come first served.

    ``ask`` is called once for each message that may come; a broker answers each asking with one :meth:`arrive`.
    An asking cannot be taken back: when a waiting call is abandoned, the message it asked for stays here for
    the next call. ``ahead`` messages are asked for before anybody waits for them.
    """

    __slots__ = ("_ahead", "_ask", "_closed", "_ready", "_turn", "_waiting", "asked")

    def __init__(self, ask: Callable[[], None], *, ahead: int = 0) -> None:
        self._ask = ask
        self._ahead = ahead
        self._ready: deque[T] = deque()
        self._waiting: deque[asyncio.Future[T]] = deque()
        self._closed = False
        self._turn = 0
        self.asked = 0
        """Askings that no message has answered yet: the open permits."""

    @property
    def ready(self) -> int:
        """Messages that arrived and that no call has taken yet."""
        return len(self._ready)

    @property
    def waiting(self) -> int:
        """Calls that wait for a message."""
        return len(self._waiting)

    async def receive(self) -> T:
        """The next message; raises :class:`ConsumerClosed` once :meth:`close` was called."""
        self._turn += 1
        if self._turn % _TURNS == 0:
            # With a backlog there is always a message, and a reader that never waits would stop the loop.
            await asyncio.sleep(0)
        if self._closed:
            raise ConsumerClosed("This consumer is closed.")
        if self._ready:
            message = self._ready.popleft()
            self.top_up()
            return message
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self.top_up()
        try:
            return await future
        except asyncio.CancelledError:
            self._abandon(future)
            raise

    def arrive(self, message: T) -> None:
        """One message, in answer to one asking."""
        self.asked = max(0, self.asked - 1)
        if not self._closed:
            self._hand(message)
            self.top_up()

    def refuse(self) -> None:
        """One asking ended without a message."""
        self.asked = max(0, self.asked - 1)

    def top_up(self) -> None:
        """Ask until every waiting call, and every place ahead of them, has its asking."""
        while not self._closed and self.asked + len(self._ready) < max(len(self._waiting), self._ahead):
            # Counted first: the answer may come before ``ask`` returns.
            self.asked += 1
            self._ask()

    def restart(self) -> None:
        """The other side is a new one that knows of no asking: forget what nobody took, and ask again."""
        self._ready.clear()
        self.asked = 0
        self.top_up()

    def close(self) -> None:
        """End every waiting call with :class:`ConsumerClosed` and drop what nobody took."""
        self._closed = True
        self.asked = 0
        self._ready.clear()
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(ConsumerClosed("The consumer was closed while this call waited."))

    def _hand(self, message: T, *, in_front: bool = False) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(message)
                return
        if in_front:
            self._ready.appendleft(message)
        else:
            self._ready.append(message)

    def _abandon(self, future: asyncio.Future[T]) -> None:
        with contextlib.suppress(ValueError):
            self._waiting.remove(future)
        # The message was already in the hands of a task that will never see it: the next call gets it.
        if future.done() and not future.cancelled() and future.exception() is None and not self._closed:
            self._hand(future.result(), in_front=True)
