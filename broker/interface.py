"""How words are carried: what every broker promises, whichever one is behind it.

Two implementations ship: :mod:`broker.memory` (one process, nothing durable) and :mod:`broker.pulsar`.
Both pass ``tests/contract``; whoever uses one never asks which it is.
A payload is opaque bytes here; a topic is a full name as made by :mod:`wire.topics`.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

PAYLOAD_BYTES_MAX = 5 * 1024 * 1024 - 16 * 1024
"""Bytes of one message: Pulsar's default ``maxMessageSize`` less what metadata may take."""


class BrokerError(Exception):
    """The broker could not do what was asked; the sentence says what."""


class BrokerUnavailable(BrokerError):
    """There is no connection to the broker, or it did not answer in time. Try again later."""


class BrokerForbidden(BrokerError):
    """The broker refused us: a wrong token, or no permission on this topic."""


class TopicMissing(BrokerError):
    """There is no such topic or subscription, and the broker does not make it; nor a tenant or a namespace."""


class SendUnknown(BrokerUnavailable):
    """No receipt arrived in time: the message may or may not be in the topic. Repeat only with the same identity."""


class SendRejected(BrokerError):
    """The message is certainly not in the topic: too many sends are already pending. Slow down."""


class PayloadTooLarge(BrokerError):
    """The payload is above :data:`PAYLOAD_BYTES_MAX`; it was not sent."""


class ConsumerClosed(BrokerError):
    """The consumer was closed while (or before) this call waited. Not an error during shutdown."""


class Kind(enum.Enum):
    """How the consumers of one subscription share its messages."""

    SHARED = "shared"
    """Each message goes to one of the consumers that has a permit."""
    EXCLUSIVE = "exclusive"
    """One consumer; a second one is refused with :class:`BrokerError`."""
    FAILOVER = "failover"
    """One active consumer, in order; the others stand by and take over when it goes."""


class Delivery(Protocol):
    """One message as it was handed to one consumer."""

    payload: bytes
    published_ms: int
    """Unix time in milliseconds, by the publisher's clock."""


class Producer(Protocol):
    """Publishes to one topic. Messages of one producer arrive in the order of the calls."""

    async def send(self, payload: bytes) -> None:
        """Publish, and return when the broker has confirmed the receipt.

        On a persistent topic the message then survives the broker. On a non-persistent one the receipt
        proves nothing: a message that found nobody, or nobody with room, is gone.

        Raises :class:`SendUnknown`; and, when the message is certainly not in the topic, :class:`SendRejected`,
        :class:`PayloadTooLarge` or plain :class:`BrokerUnavailable`.
        """

    def post(self, payload: bytes) -> None:
        """Publish without waiting and without ever learning what became of it. Never raises, never blocks."""

    async def aclose(self) -> None:
        """Flush what is pending and leave the topic. Closing twice is harmless."""


class Consumer(Protocol):
    """One member of a subscription."""

    async def receive(self) -> Delivery:
        """Wait for the next message. With ``prefetch=0`` each pending call is one permit: no call, no message.

        A cancelled call loses nothing: its permit stays out, and what comes for it goes to the next call.

        Raises :class:`ConsumerClosed` once the consumer is closed.
        """

    def ack(self, delivery: Delivery) -> None:
        """This message is done with. Not confirmed: after a crash it may come once more, and must then do no harm.

        The message counts, not the connection it came through: after a reconnect this still removes it.

        Acknowledging twice, or after the message went to another consumer, is harmless.
        """

    def nack(self, delivery: Delivery) -> None:
        """Hand this message back; it comes again, to any consumer, ahead of the backlog, about 0.1 to 0.4 s later.

        Implementations gather nacks and issue them together on a tick. For :attr:`Kind.SHARED` alone: of another kind
        Pulsar hands back everything that the consumer holds.
        """

    async def aclose(self) -> None:
        """Leave the subscription; unacknowledged messages go to the others at once. Closing twice is harmless."""


class Listener(Protocol):
    """Hears a non-persistent topic until it is closed."""

    async def aclose(self) -> None:
        """Hear nothing more. Closing twice is harmless."""


class Broker(Protocol):
    """A connection to a broker. Made with ``await``-free constructors; the first call connects."""

    @property
    def durable(self) -> bool:
        """Whether persistent topics outlive the process. False for the memory broker, which says so to its users."""

    @property
    def connected(self) -> bool:
        """Whether the broker can be reached as far as is known now. Becomes true again by itself after an outage."""

    async def connect(self) -> None:
        """Reach the broker.

        Raises :class:`BrokerUnavailable` or :class:`BrokerForbidden`, with a sentence that names the address.
        """

    async def ensure(self, topic: str, subscription: str) -> None:
        """Make a persistent topic and its durable subscription, which keeps every message from here on. Idempotent.

        Takes no message, and disturbs no consumer that is already there.
        """

    async def producer(self, topic: str, *, gather_ms: int = 0) -> Producer:
        """Open a producer.

        ``gather_ms`` > 0 lets messages of that time share one broker entry. Never on request topics: a backlog
        counts entries, and a pull of one permit cannot take half of one.
        """

    async def consumer(
        self, topic: str, subscription: str, kind: Kind, *, prefetch: int = 0, from_earliest: bool = False
    ) -> Consumer:
        """Join a subscription of a persistent topic, making both where they are missing.

        ``prefetch`` is how many messages may wait inside this process before :meth:`Consumer.receive` is called:
        0 is a true pull. A new subscription starts with the next message published, or with the oldest kept one
        if ``from_earliest``.
        """

    async def listen(
        self, topic: str, hear: Callable[[bytes], None], *, waiting_max: int, gathers: bool = False
    ) -> Listener:
        """Hear everything that is published to a non-persistent topic from here on.

        ``hear(payload)`` is called in this loop for one message after the other, in the order of each producer, but
        for those that were dropped: by the broker, or because ``waiting_max`` messages waited in this process. It
        must not raise. With ``gathers`` they may come a tenth of a second later, all of that time together, which costs
        much less than waking up for each. Of the listener nothing stays at the broker when it ends, whether in order or
        not.
        """

    async def aclose(self) -> None:
        """Close every producer and consumer and the connection. Closing twice is harmless."""
