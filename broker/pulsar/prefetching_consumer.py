"""A consumer that keeps messages ready, by the client library."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import _pulsar

from broker.gather import Gather
from broker.mailbox import Mailbox
from broker.pulsar.patience import patiently

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.interface import Delivery, Kind
    from broker.pulsar.broker import PulsarBroker
    from broker.pulsar.client import PulsarClient
    from broker.pulsar.library import Library

NACK_TICK_S = 0.2
"""Twice the client's own delay: it restarts its clock with each nack, so a steady trickle of them would postpone every
redelivery without end. Issued together on a tick longer than the delay they cannot."""

_AHEAD = 64
_AHEAD_FROM = 256


class PrefetchedMessage:
    """One message as it was handed to one consumer."""

    __slots__ = ("message_id", "payload", "published_ms")

    def __init__(self, message: Any) -> None:
        self.payload: bytes = message.data()
        self.published_ms: int = message.publish_timestamp()
        # Not the message itself: it would keep a second copy of the payload for as long as a job runs.
        self.message_id = message.message_id()


class PrefetchingConsumer:
    """One member of a subscription, with a queue in this process that the broker keeps filled."""

    def __init__(
        self, broker: PulsarBroker, library: Library, topic: str, subscription: str, kind: Kind, prefetch: int
    ) -> None:
        self.topic = topic
        self.looks_lost = 0
        self._broker = broker
        self._library = library
        self._subscription = subscription
        self._kind = kind
        self._queue = prefetch
        # Taking a message out of the client's queue costs a change of threads, so from a long queue some are
        # taken before they are asked for: these few are then inside this process in addition to ``prefetch``.
        ahead = _AHEAD if prefetch >= _AHEAD_FROM else 0
        self._mailbox: Mailbox[PrefetchedMessage] = Mailbox(self._ask, ahead=ahead)
        self._nacks: Gather[PrefetchedMessage] = Gather(self._hand_back, NACK_TICK_S)
        self._client: PulsarClient | None = None
        self._inner: Any = None
        self._on_message: Callable[..., None] | None = None
        self._broken = False
        self._closed = False
        self._wanted = 0
        """Messages that were asked for and have not come."""
        self._receiving = False

    @property
    def returns_by_itself(self) -> bool:
        """The library tries to bring back what was opened through the client in use."""
        return self._client is self._library.client

    @property
    def connected(self) -> bool:
        """Whether the inner consumer is attached to its topic."""
        inner = self._inner
        return self.returns_by_itself and inner is not None and not self._broken and bool(inner.is_connected())

    async def join(self, *, from_earliest: bool = True) -> None:
        """Receive through the client in use from here on; raises :class:`broker.pulsar.failure.PulsarFailure`.

        ``from_earliest`` matters where the subscription is missing. That a second join finds it missing means
        that the broker has lost it, and then everything that is left belongs to it.
        """
        old, self._inner = self._inner, None
        if old is not None:
            old.close_async(None)
        # The library asks how many partitions a topic has, and a broker that parts the topics it makes then makes this
        # one so: nobody who speaks to whole topics could use it.
        broker = self._broker
        await patiently(
            lambda: broker.make_sure(self.topic, self._subscription, from_earliest=from_earliest), broker.limits
        )
        client = self._library.client
        inner = await client.open_consumer(
            self.topic, self._subscription, self._kind, queue=self._queue, from_earliest=from_earliest
        )
        if self._closed:
            inner.close_async(None)
            return
        self._client, self._inner, self._broken = client, inner, False
        self._on_message = partial(client.inbox.put, self._arrived, inner)
        self._wanted, self._receiving = 0, False
        # Calls that wait go on with the new one. What the old one brought and nobody took comes again.
        self._mailbox.restart()

    async def receive(self) -> PrefetchedMessage:
        return await self._mailbox.receive()

    def ack(self, delivery: Delivery) -> None:
        assert isinstance(delivery, PrefetchedMessage)
        if self._inner is not None:
            # The id counts, not who received it: after a reconnect the broker has handed the message out again
            # and this still removes it. Waiting for the result would prove nothing: acks are gathered for
            # 100 ms and called done before they are written.
            self._inner.acknowledge_async(delivery.message_id, None)

    def nack(self, delivery: Delivery) -> None:
        assert isinstance(delivery, PrefetchedMessage)
        if not self._closed:
            self._nacks.add(delivery)

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._broker.members.discard(self)
        self._nacks.cancel()
        self._mailbox.close()
        inner, self._inner = self._inner, None
        if inner is not None and self._client is not None:
            await self._client.call(inner.close_async, self._broker.limits.operation_timeout_s)

    def _ask(self) -> None:
        self._wanted += 1
        self._receive()

    def _receive(self) -> None:
        # One at a time: the library answers some at once, and those that had to wait in a thread of its own, where
        # later ones overtake them.
        if self._wanted and not self._receiving and not self._broken and self._inner is not None:
            self._receiving = True
            self._inner.receive_async(self._on_message)

    def _arrived(self, inner: Any, result: Any, message: Any = None) -> None:
        if inner is not self._inner:
            return
        self._wanted -= 1
        self._receiving = False
        if result == _pulsar.Result.Ok:
            self._mailbox.arrive(PrefetchedMessage(message))
            self._receive()
        else:
            # Asking again at once could turn in circles; the watch finds this consumer and joins it anew.
            self._broken = True
            self._mailbox.refuse()

    def _hand_back(self, deliveries: list[PrefetchedMessage]) -> None:
        if self._inner is not None:
            for delivery in deliveries:
                self._inner.negative_acknowledge_async(delivery.message_id, None)
