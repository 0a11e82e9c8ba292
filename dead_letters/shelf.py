"""The dead letters of one model, held while someone looks at them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker.interface import BrokerError, BrokerUnavailable, Kind
from wire import codec
from wire.errors import UndecodableMessage
from wire.topics import LEDGER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from broker.interface import Broker, Consumer, Delivery
    from wire.dead_letter import DeadLetter
    from wire.topics import Topics

QUIET_S = 1.0
"""No letter for this long means that there are no more: a broker does not say where a topic ends."""


class ShelfTaken(Exception):
    """Someone else looks at the dead letters of this model now. Try again when they have finished."""


@dataclass(frozen=True)
class Held:
    """A message of the topic; ``letter`` is None where it cannot be read."""

    delivery: Delivery
    letter: DeadLetter | None


class Shelf:
    """Takes letters without removing them: what was not acknowledged comes back when the shelf is closed.

    Exclusive, so that two people never see half of the letters each, nor replay the same one twice.
    """

    def __init__(self, broker: Broker, topics: Topics, model: str) -> None:
        self._broker = broker
        self._topic = topics.dead_letters(model)
        self._consumer: Consumer | None = None

    async def __aenter__(self) -> Shelf:
        """Raises :class:`ShelfTaken`, and :class:`broker.interface.BrokerError`."""
        await self._broker.ensure(self._topic, LEDGER)
        try:
            self._consumer = await self._broker.consumer(self._topic, LEDGER, Kind.EXCLUSIVE, from_earliest=True)
        except BrokerUnavailable:
            raise
        except BrokerError:
            raise ShelfTaken from None
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._consumer is not None:
            await self._consumer.aclose()

    async def letters(self) -> AsyncIterator[Held]:
        """Every letter, the oldest first; ends when none has come for :data:`QUIET_S`."""
        assert self._consumer is not None
        while True:
            try:
                async with asyncio.timeout(QUIET_S):
                    delivery = await self._consumer.receive()
            except TimeoutError:
                return
            try:
                letter = codec.decode_dead_letter(delivery.payload)
            except UndecodableMessage:
                letter = None
            yield Held(delivery, letter)

    async def of(self, request_id: str) -> list[Held]:
        """The letters of one request: more than one node may have written one."""
        return [held async for held in self.letters() if held.letter and held.letter.request.request_id == request_id]

    def remove(self, letters: list[Held]) -> None:
        """These are done with."""
        assert self._consumer is not None
        for held in letters:
            self._consumer.ack(held.delivery)
