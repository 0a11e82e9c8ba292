"""A consumer that outlives the connections it receives through."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from broker.gather import Gather
from broker.mailbox import Mailbox
from broker.pulsar.channel_members import PulledMessage
from broker.pulsar.failure import PulsarFailure
from broker.pulsar.patience import patiently

if TYPE_CHECKING:
    from broker.interface import Delivery, Kind
    from broker.pulsar.broker import PulsarBroker
    from broker.pulsar.channel_members import ChannelConsumer

ACK_TICK_S = 0.1
NACK_TICK_S = 0.2
"""Acknowledgements wait so long for one another, and what is handed back: each is one command then for all."""
NACK_DELAY_S = 0.1
"""The least time until what is handed back comes again, which may be to the same consumer."""


class PulsarConsumer:
    """One member of a subscription that pulls: each call of :meth:`receive` is one permit, in the event loop."""

    returns_by_itself = False

    def __init__(self, broker: PulsarBroker, topic: str, subscription: str, kind: Kind) -> None:
        self.topic = topic
        self.looks_lost = 0
        self._broker = broker
        self._subscription = subscription
        self._kind = kind
        self._mailbox: Mailbox[PulledMessage] = Mailbox(self._ask)
        self._acks: Gather[PulledMessage] = Gather(self._acknowledge, ACK_TICK_S)
        self._nacks: Gather[PulledMessage] = Gather(self._hand_back_later, NACK_TICK_S)
        self._inner: ChannelConsumer | None = None
        self._closed = False

    @property
    def connected(self) -> bool:
        """Whether it is attached to its topic."""
        return self._inner is not None and self._inner.attached

    async def join(self, *, from_earliest: bool = True) -> None:
        """Receive from here on; raises :class:`broker.pulsar.failure.PulsarFailure`.

        ``from_earliest`` matters where the subscription is missing. That a second join finds it missing means
        that the broker has lost it, and then everything that is left belongs to it.
        """
        if self.connected:
            return
        inner = await patiently(lambda: self._open(from_earliest), self._broker.limits)
        if self._closed:
            await inner.aclose()
            return
        self._inner = inner
        # Before any permit: what was finished meanwhile would come again, and be worked on once more.
        self._acks.flush()
        # Calls that wait go on with the new one. What the old one brought and nobody took comes again.
        self._mailbox.restart()

    async def receive(self) -> PulledMessage:
        return await self._mailbox.receive()

    def ack(self, delivery: Delivery) -> None:
        assert isinstance(delivery, PulledMessage)
        # The id counts, not who received it: after a reconnect the broker has handed the message out again and this
        # still removes it.
        if not self._closed:
            self._acks.add(delivery)

    def nack(self, delivery: Delivery) -> None:
        assert isinstance(delivery, PulledMessage)
        if not self._closed:
            self._nacks.add(delivery)

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._broker.members.discard(self)
        self._nacks.cancel()
        self._mailbox.close()
        await self._acknowledge_the_last()
        inner, self._inner = self._inner, None
        if inner is not None:
            await inner.aclose()

    async def _open(self, from_earliest: bool) -> ChannelConsumer:
        channel = await self._broker.channels.channel(self.topic, gathers=False)
        return await channel.consume(
            self.topic,
            self._subscription,
            self._kind,
            from_earliest=from_earliest,
            take=self._mailbox.arrive,
            on_lost=self._broker.hurry,
        )

    def _ask(self) -> None:
        if self._inner is not None:
            self._inner.permit(1)

    def _acknowledge(self, deliveries: list[PulledMessage]) -> None:
        inner = self._inner
        if inner is not None and inner.attached:
            inner.acknowledge(deliveries)
            return
        for delivery in deliveries:
            self._acks.add(delivery)  # once there is a connection again

    async def _acknowledge_the_last(self) -> None:
        """A topic on its way to another broker is waited for: what is not acknowledged is worked on once more."""
        self._acks.flush()
        if not self._acks.empty and not self._broker.lost:
            with contextlib.suppress(TimeoutError, PulsarFailure):
                async with asyncio.timeout(self._broker.limits.closing_s):
                    self._inner = await patiently(lambda: self._open(from_earliest=True), self._broker.limits)
                self._acks.flush()
        self._acks.cancel()

    def _hand_back_later(self, deliveries: list[PulledMessage]) -> None:
        # By who took it and no later one: with the connection, what it held has gone to others, or comes again.
        inner = self._inner
        held = [delivery for delivery in deliveries if delivery.taker is inner]
        if inner is not None and held:
            asyncio.get_running_loop().call_later(NACK_DELAY_S, inner.hand_back, held)
