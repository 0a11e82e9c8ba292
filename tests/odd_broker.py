"""A broker of one topic to pull from, and of others: it loses nothing, and is odd all the same."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from broker.pulsar.frames import Command, Fields, _fields, batched, frame, number, text

if TYPE_CHECKING:
    import random

    from tests.pulsar_peer import PulsarPeer, Visitor

    Member = tuple[Visitor, int]

_REQUEST = {
    Command.CONNECT: 0,
    Command.LOOKUP: 2,
    Command.PRODUCER: 3,
    Command.SUBSCRIBE: 5,
    Command.CLOSE_PRODUCER: 2,
    Command.CLOSE_CONSUMER: 2,
}
"""What has an answer, and which field is the number of the request: 0 where there is none."""
_UNSAID = (Command.FLOW, Command.ACK, Command.REDELIVER)
_UNKNOWN = (27, 31, 33, 40, 61, 65, 68, 90)
"""Commands that nobody here knows: a topic that was terminated or moved to another cluster, statistics, later ones."""
_ERRORS = (0, 1, 2, 5, 6, 7, 8, 11, 12, 14, 16, 22)
_SEND_ERRORS = (0, 2, 2, 9, 15, 22)
_FORBIDDEN = 3
_LATE_S = 0.6


@dataclass(eq=False)
class _Pulling:
    permits: int = 0
    held: set[int] = field(default_factory=set)


class OddBroker:
    """Until it is :attr:`calm`: hangs up, also within a frame; answers late, never, or with any error; closes members;
    keeps receipts to itself; says what nobody knows. All by its dice."""

    def __init__(self, peer: PulsarPeer, dice: random.Random, topic: str) -> None:
        """``topic`` is the one that is pulled from."""
        self.calm = False
        self.stored: dict[str, list[bytes]] = {topic: []}
        """What was published, by topic."""
        self.acknowledged: set[int] = set()
        """Of the topic that is pulled from, by their places in it."""
        self._dice = dice
        self._topic = topic
        self._usual = dict(peer.answers)
        self._waiting: list[int] = []
        self._pulling: dict[Member, _Pulling] = {}
        self._producing: dict[Member, str] = {}
        self._closed: set[Member] = set()
        for command in (*self._usual, *_UNSAID):
            peer.answers[command] = partial(self._hear, command)

    @property
    def permits(self) -> list[int]:
        """How many messages each consumer may still be sent."""
        return [consumer.permits for (visitor, _), consumer in self._pulling.items() if not visitor.gone]

    @property
    def producing(self) -> int:
        """How many producers there are."""
        return sum(not visitor.gone for visitor, _ in self._producing)

    @property
    def done(self) -> bool:
        """Whether everything is acknowledged."""
        return len(self.acknowledged) == len(self.stored[self._topic])

    def _odd(self, chance: float) -> bool:
        return not self.calm and self._dice.random() < chance

    def _hear(self, command: Command, visitor: Visitor, fields: Fields) -> None:
        if visitor.gone:
            return
        if self._odd(0.02):
            if self._odd(0.5):
                visitor.send(frame(Command.PONG, b"")[: self._dice.randrange(1, 10)])
            self._hang_up(visitor)
            return
        if self._odd(0.02):
            unknown = self._dice.choice(_UNKNOWN)
            base = number(1, unknown) + text(unknown, number(1, 1))
            visitor.send((len(base) + 4).to_bytes(4, "big") + len(base).to_bytes(4, "big") + base)
        if self._odd(0.03):
            self._close_one()
        if command == Command.PING and self._odd(0.1):
            return
        if command in _REQUEST and self._odd(0.12):
            self._answer_oddly(command, visitor, fields)
        else:
            self._deal_with(command, visitor, fields)

    def _answer_oddly(self, command: Command, visitor: Visitor, fields: Fields) -> None:
        if command in (Command.CLOSE_PRODUCER, Command.CLOSE_CONSUMER):
            self._obey(command, visitor, fields)  # whatever is said to it, it is over
        error = number(2, self._dice.choice(_ERRORS) if self._dice.random() < 0.95 else _FORBIDDEN) + text(3, b"odd")
        match self._dice.choice(["never", "late", "error"]):
            case "never":
                self._obey(command, visitor, fields)
            case "late":
                later = self._dice.random() * _LATE_S
                asyncio.get_running_loop().call_later(later, self._deal_with, command, visitor, fields)
            case _ if command == Command.LOOKUP:
                failed = number(3, 2) + number(4, fields.number(2)) + number(6, self._dice.choice(_ERRORS))
                visitor.tell(Command.LOOKUP_RESPONSE, failed)
            case _:
                request = _REQUEST[command]
                asked = fields.number(request) if request else 2**64 - 1
                visitor.tell(Command.ERROR, number(1, asked) + error)

    def _deal_with(self, command: Command, visitor: Visitor, fields: Fields) -> None:
        if visitor.gone:
            return
        if command == Command.SEND:
            self._store(visitor, fields)
        else:
            self._obey(command, visitor, fields)
            if command in self._usual:
                self._usual[command](visitor, fields)
        self._deliver()

    def _store(self, visitor: Visitor, fields: Fields) -> None:
        topic = self._producing.get((visitor, fields.number(1)))
        if topic is None:
            return  # it was closed, and hears of it
        if self._odd(0.03):
            refused = number(1, fields.number(1)) + number(2, fields.number(2))
            visitor.tell(Command.SEND_ERROR, refused + number(3, self._dice.choice(_SEND_ERRORS)))
            return
        if self._odd(0.02):
            self._hang_up(visitor)
            return
        stored = self.stored.setdefault(topic, [])
        if topic == self._topic:
            self._waiting.append(len(stored))
        payload, count = visitor.payloads[-1], fields.number(3)
        stored += batched(payload, count) if count else [payload]
        if not self._odd(0.03):
            self._usual[Command.SEND](visitor, fields)

    def _obey(self, command: Command, visitor: Visitor, fields: Fields) -> None:
        match command:
            case Command.PRODUCER if (member := (visitor, fields.number(2))) not in self._closed:
                self._producing[member] = fields.text(1)
            case Command.SUBSCRIBE if (member := (visitor, fields.number(4))) not in self._closed:
                self._pulling[member] = _Pulling()
            case Command.CLOSE_PRODUCER | Command.CLOSE_CONSUMER:
                self._closed.add((visitor, fields.number(1)))
                self._leave((visitor, fields.number(1)))
            case Command.FLOW if (consumer := self._pulling.get((visitor, fields.number(1)))) is not None:
                consumer.permits += fields.number(2)
            case Command.ACK:
                for entry in _entries(visitor.body, 3):
                    self.acknowledged.add(entry)
                    self._waiting = [waiting for waiting in self._waiting if waiting != entry]
                    for consumer in self._pulling.values():
                        consumer.held.discard(entry)
            case Command.REDELIVER if (consumer := self._pulling.get((visitor, fields.number(1)))) is not None:
                back = consumer.held.intersection(_entries(visitor.body, 2))
                consumer.held -= back
                self._waiting = sorted([*self._waiting, *back])
            case _:
                pass

    def _deliver(self) -> None:
        for (visitor, id_), consumer in self._pulling.items():
            while self._waiting and consumer.permits > 0 and not visitor.gone:
                entry = self._waiting.pop(0)
                consumer.permits -= 1
                consumer.held.add(entry)
                visitor.deliver(id_, entry, self.stored[self._topic][entry])

    def _leave(self, member: Member) -> None:
        self._producing.pop(member, None)
        if (consumer := self._pulling.pop(member, None)) is not None:
            self._waiting = sorted([*self._waiting, *consumer.held])

    def _hang_up(self, visitor: Visitor) -> None:
        for member in [*self._producing, *self._pulling]:
            if member[0] is visitor:
                self._leave(member)
        visitor.hang_up()

    def _close_one(self) -> None:
        members = [*self._producing, *self._pulling]
        if members:
            visitor, id_ = member = self._dice.choice(members)
            closed = Command.CLOSE_PRODUCER if member in self._producing else Command.CLOSE_CONSUMER
            self._leave(member)
            visitor.tell(closed, number(1, id_))


def _entries(body: bytes, repeated: int) -> list[int]:
    """The places of all messages that a command names in a field."""
    return [Fields(value).number(2) for tag, value in _fields(body) if tag == repeated and isinstance(value, bytes)]
