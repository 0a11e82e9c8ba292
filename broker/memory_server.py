"""The part of the memory broker that would be another process: topics, subscriptions and who holds what."""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING, Protocol

from broker.interface import BrokerError, BrokerUnavailable, Kind, SendRejected

if TYPE_CHECKING:
    from collections.abc import Iterable

NON_PERSISTENT = "non-persistent://"


class Entry:
    """One published message. It is kept while ``keepers`` subscriptions have not acknowledged it."""

    __slots__ = ("keepers", "payload", "published_ms", "sequence")

    def __init__(self, sequence: int, payload: bytes, published_ms: int) -> None:
        self.sequence = sequence
        self.payload = payload
        self.published_ms = published_ms
        self.keepers = 0


class Member(Protocol):
    """What the server sees of a consumer."""

    @property
    def permits(self) -> int:
        """How many messages it would take now."""

    def deliver(self, entry: Entry) -> None:
        """Take one message, for one permit."""


class Hearer(Protocol):
    """What the server sees of a listener."""

    def offer(self, payload: bytes) -> bool:
        """Take one message, if there is room."""


class Subscription:
    """The messages of a topic that one group of consumers has yet to acknowledge."""

    def __init__(self, topic: Topic, name: str) -> None:
        self.name = name
        self.kind: Kind | None = None
        self._topic = topic
        self._members: list[Member] = []
        self._turn = 0
        self._dispatching = False
        self._kept: dict[int, Entry] = {}
        self._holders: dict[int, Member] = {}
        self._backlog: deque[Entry] = deque()
        # Handed back: delivered before the backlog, the oldest first.
        self._replay: list[tuple[int, Entry]] = []

    @property
    def held(self) -> int:
        """Messages in the hands of a consumer, not acknowledged."""
        return len(self._holders)

    @property
    def backlog(self) -> int:
        """Messages that wait for a consumer."""
        return len(self._kept) - len(self._holders)

    @property
    def consumers(self) -> int:
        """Consumers that are joined now."""
        return len(self._members)

    @property
    def permits(self) -> int:
        """Messages that all consumers together would take now."""
        return sum(member.permits for member in self._members)

    def __repr__(self) -> str:
        counts = f"backlog={self.backlog} held={self.held} consumers={self.consumers} permits={self.permits}"
        return f"<{self.name} {counts}>"

    def held_by(self, member: Member) -> int:
        """Messages in the hands of one consumer, not acknowledged."""
        return sum(holder is member for holder in self._holders.values())

    def join(self, member: Member, kind: Kind) -> None:
        """Add a consumer, or raise :class:`BrokerError` where the kind does not allow it."""
        if self._members and (kind is not self.kind or kind is Kind.EXCLUSIVE):
            kind_now = self.kind.value if self.kind else "unknown"
            raise BrokerError(
                f"Subscription {self.name!r} of {self._topic.name} already has {len(self._members)} "
                f"{kind_now} consumer(s); a further {kind.value} one is refused."
            )
        self.kind = kind
        self._members.append(member)

    def leave(self, member: Member) -> None:
        """Remove a consumer; what it held goes to the others at once."""
        if member in self._members:
            self._members.remove(member)
            self._redeliver([sequence for sequence, holder in self._holders.items() if holder is member])

    def keep(self, entry: Entry) -> None:
        """Keep one message until it is acknowledged, and deliver it when its turn comes."""
        entry.keepers += 1
        self._kept[entry.sequence] = entry
        self._backlog.append(entry)

    def dispatch(self) -> None:
        """Deliver for as long as there are both a message and a permit."""
        if self._dispatching:
            return  # by who asks for the next message as it takes one: of a long backlog the stack would not hold all
        self._dispatching = True
        try:
            while self._topic.server.available and self.backlog and (member := self._next_member()):
                entry = self._next_entry()
                self._holders[entry.sequence] = member
                member.deliver(entry)
        finally:
            self._dispatching = False

    def ack(self, sequence: int) -> None:
        """This message is done with, whoever says so."""
        entry = self._kept.pop(sequence, None)
        self._holders.pop(sequence, None)
        if entry is not None:
            self._topic.release(entry)

    def hand_back(self, member: Member, sequences: Iterable[int]) -> None:
        """Redeliver those of the messages that this consumer still holds, each once however often it is named."""
        self._redeliver([each for each in dict.fromkeys(sequences) if self._holders.get(each) is member])

    def hand_back_all(self) -> None:
        """Redeliver every held message, as after the loss of all connections."""
        self._redeliver(list(self._holders))

    def _redeliver(self, sequences: list[int]) -> None:
        for sequence in sequences:
            del self._holders[sequence]
            heapq.heappush(self._replay, (sequence, self._kept[sequence]))
        self.dispatch()

    def _next_member(self) -> Member | None:
        if self.kind is not Kind.SHARED:
            return next((member for member in self._members[:1] if member.permits), None)
        # One message to each in turn, so that a burst spreads over all that are free.
        for offset in range(len(self._members)):
            member = self._members[(self._turn + offset) % len(self._members)]
            if member.permits:
                self._turn = (self._turn + offset + 1) % len(self._members)
                return member
        return None

    def _next_entry(self) -> Entry:
        while True:
            entry = heapq.heappop(self._replay)[1] if self._replay else self._backlog.popleft()
            # A message that was acknowledged while it waited here (by an earlier holder) is passed over.
            if entry.sequence in self._kept:
                return entry


class Topic:
    """One topic with its subscriptions."""

    def __init__(self, server: MemoryServer, name: str) -> None:
        self.server = server
        self.name = name
        self.persistent = not name.startswith(NON_PERSISTENT)
        self.dropped = 0
        self.drop_next = 0
        self._sequence = 0
        self._kept: dict[int, Entry] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self.listeners: list[Hearer] = []

    def __repr__(self) -> str:
        inner = " ".join(repr(subscription) for subscription in self._subscriptions.values())
        listeners = f"listeners={len(self.listeners)} " if self.listeners else ""
        return f"<{self.name} kept={len(self._kept)} dropped={self.dropped} {listeners}[{inner}]>"

    def subscription(self, name: str, *, from_earliest: bool = False) -> Subscription:
        """The subscription of this name, made if it is missing."""
        found = self._subscriptions.get(name)
        if found is None:
            found = self._subscriptions[name] = Subscription(self, name)
            if from_earliest:
                for entry in self._kept.values():
                    found.keep(entry)
        return found

    def publish(self, payload: bytes, published_ms: int) -> None:
        """Give the message to whoever reads; raises :class:`SendRejected` when the server is full."""
        if self.persistent:
            self.server.charge(payload)
            self._sequence += 1
            self._keep(Entry(self._sequence, payload, published_ms))
        else:
            self._offer(payload)

    def release(self, entry: Entry) -> None:
        """One subscription no longer needs this message."""
        entry.keepers -= 1
        if entry.keepers == 0:
            del self._kept[entry.sequence]
            self.server.refund(entry.payload)

    def unload(self) -> None:
        """Redeliver all held messages while their holders go on."""
        for subscription in self._subscriptions.values():
            subscription.hand_back_all()

    def dispatch(self) -> None:
        """Let every subscription deliver what it can."""
        for subscription in self._subscriptions.values():
            subscription.dispatch()

    def _keep(self, entry: Entry) -> None:
        if not self._subscriptions:
            # Nobody has asked for this topic to be kept.
            self.server.refund(entry.payload)
            return
        self._kept[entry.sequence] = entry
        for subscription in self._subscriptions.values():
            subscription.keep(entry)
            subscription.dispatch()

    def _offer(self, payload: bytes) -> None:
        if self.drop_next:
            self.drop_next -= 1
            self.dropped += 1
            return
        for listener in self.listeners:
            self.dropped += not listener.offer(payload)


class MemoryServer:
    """What several :class:`broker.memory.MemoryBroker` connections of one process share.

    ``messages_max`` and ``bytes_max`` bound the messages kept on all persistent topics together.
    ``nack_tick_s`` and ``nack_delay_s`` mirror the timing on Pulsar; tests set them to 0.
    """

    def __init__(
        self,
        *,
        messages_max: int = 100_000,
        bytes_max: int = 512 * 1024 * 1024,
        nack_tick_s: float = 0.2,
        nack_delay_s: float = 0.1,
    ) -> None:
        self.nack_tick_s = nack_tick_s
        self.nack_delay_s = nack_delay_s
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._messages = 0
        self._bytes = 0
        self._available = True
        self._topics: dict[str, Topic] = {}

    def __repr__(self) -> str:
        topics = " ".join(repr(topic) for topic in self._topics.values())
        return f"<MemoryServer messages={self._messages} bytes={self._bytes} available={self._available} [{topics}]>"

    @property
    def available(self) -> bool:
        """Whether it can be reached; see :meth:`set_available`."""
        return self._available

    def topic(self, name: str) -> Topic:
        """The topic of this name, made if it is missing."""
        found = self._topics.get(name)
        if found is None:
            found = self._topics[name] = Topic(self, name)
        return found

    def check_available(self) -> None:
        """Raise :class:`BrokerUnavailable` while the server is set to be out of reach."""
        if not self._available:
            raise BrokerUnavailable("The memory broker is set to be unavailable.")

    def charge(self, payload: bytes) -> None:
        """Count one message as kept, or raise :class:`SendRejected` at the limit."""
        if self._messages >= self._messages_max or self._bytes + len(payload) > self._bytes_max:
            raise SendRejected(
                f"The memory broker already keeps {self._messages} messages with {self._bytes} bytes "
                f"(limits: {self._messages_max} messages, {self._bytes_max} bytes)."
            )
        self._messages += 1
        self._bytes += len(payload)

    def refund(self, payload: bytes) -> None:
        """Count one kept message less."""
        self._messages -= 1
        self._bytes -= len(payload)

    def unload(self, topic: str) -> None:
        """For tests: redeliver all held messages of a topic while their holders still hold them."""
        self.topic(topic).unload()

    def unload_all(self) -> None:
        """For tests: the same for every topic, as a broker does that starts anew."""
        for topic in self._topics.values():
            topic.unload()

    def drop_next(self, topic: str, count: int) -> None:
        """For tests: lose the next ``count`` messages of a non-persistent topic."""
        self.topic(topic).drop_next = count

    def set_available(self, available: bool) -> None:
        """For tests: go out of reach (sends fail, pending receives stay pending), or come back."""
        self._available = available
        if available:
            for topic in self._topics.values():
                topic.dispatch()
