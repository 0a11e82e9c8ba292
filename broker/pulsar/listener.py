"""A listener that outlives the connections it hears through."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import _pulsar

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.pulsar.broker import PulsarBroker
    from broker.pulsar.client import PulsarClient
    from broker.pulsar.inbox import Inbox


class PulsarListener:
    """Hears one non-persistent topic.

    By a reader: its subscription is not durable, so that the broker forgets it with the connection of a process that
    died, and the topic soon after. The client hands each message on by itself, without a call for it; or, where they
    are gathered, keeps them until it is looked for them, which spares a call into Python from a thread for each.
    """

    def __init__(
        self, broker: PulsarBroker, topic: str, hear: Callable[[bytes], None], waiting_max: int, gather_s: float = 0.0
    ) -> None:
        self.topic = topic
        self.looks_lost = 0
        self._broker = broker
        self._hear = hear
        self._waiting_max = waiting_max
        self._gather_s = gather_s
        self._look: asyncio.TimerHandle | None = None
        self._client: PulsarClient | None = None
        self._inner: Any = None
        self._closed = False

    @property
    def connected(self) -> bool:
        """Whether the inner reader is attached to its topic."""
        return self._inner is not None and self._inner.is_connected()

    async def join(self, client: PulsarClient) -> None:
        """Hear through ``client`` from here on; raises :class:`broker.pulsar.failure.PulsarFailure`."""
        old, self._inner = self._inner, None
        if old is not None:
            old.close_async(None)
        hear = None if self._gather_s else partial(self._take, client.inbox)
        inner = await client.open_reader(self.topic, hear, queue=self._waiting_max)
        # The broker drops what comes before the reader's permits do, and tells nobody when they have come. What it
        # answers to a later question on the same connection tells.
        try:
            await client.answers(self.topic)
        except asyncio.CancelledError:
            inner.close_async(None)
            raise
        if self._closed:
            inner.close_async(None)
            return
        self._client, self._inner = client, inner
        if self._gather_s and self._look is None:
            self._look_later()

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._look is not None:
            self._look.cancel()
        self._broker.members.discard(self)
        inner, self._inner = self._inner, None
        if inner is not None and self._client is not None:
            await self._client.call(inner.close_async, self._broker.limits.operation_timeout_s)

    def _take(self, inbox: Inbox, _: Any, message: Any) -> None:
        """Called in a thread of the client. While the loop is behind by so much, the message is dropped."""
        if len(inbox) < self._waiting_max:
            inbox.put(self._arrived, message.data())

    def _look_later(self) -> None:
        self._look = asyncio.get_running_loop().call_later(self._gather_s, self._look_now)

    def _look_now(self) -> None:
        """Take what has gathered in the client."""
        self._look_later()
        inner = self._inner
        if inner is None:
            return
        try:
            # Those that come meanwhile are for the next look.
            for _ in range(self._waiting_max):
                self._arrived(inner.read_next(0).data())
        except _pulsar.PulsarException:
            return  # there are no more, or the reader is about to be replaced

    def _arrived(self, payload: bytes) -> None:
        if not self._closed:
            self._hear(payload)
