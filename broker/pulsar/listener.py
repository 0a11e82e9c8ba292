"""A listener that outlives the connections it hears through."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.pulsar.broker import PulsarBroker
    from broker.pulsar.client import PulsarClient
    from broker.pulsar.inbox import Inbox


class PulsarListener:
    """Hears one non-persistent topic.

    By a reader: its subscription is not durable, so that the broker forgets it with the connection of a process that
    died, and the topic soon after. The client hands each message on by itself, without a call for it.
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
        self._gathered: deque[bytes] = deque()
        self._gathering = False
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
        inner = await client.open_reader(self.topic, partial(self._take, client.inbox), queue=self._waiting_max)
        if self._closed:
            inner.close_async(None)
            return
        self._client, self._inner = client, inner

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
        if not self._gather_s:
            if len(inbox) < self._waiting_max:
                inbox.put(self._arrived, message.data())
        elif len(self._gathered) < self._waiting_max:
            self._gathered.append(message.data())
            if not self._gathering:
                self._gathering = True
                inbox.put(self._hand_on)

    def _hand_on(self) -> None:
        """The first one wakes the loop; those after it wait for its next look, until one finds nothing."""
        # Before looking, so that whoever still saw it set is not left behind.
        self._gathering = False
        if self._look is not None:
            self._look.cancel()
            self._look = None
        if not self._gathered or self._closed:
            return
        self._gathering = True
        while self._gathered:
            self._arrived(self._gathered.popleft())
        self._look = asyncio.get_running_loop().call_later(self._gather_s, self._hand_on)

    def _arrived(self, payload: bytes) -> None:
        if not self._closed:
            self._hear(payload)
