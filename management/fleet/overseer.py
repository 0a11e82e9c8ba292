"""Sees to it that operators' orders hold: says them to nodes until heartbeats show that they were heard.

What shall hold is in the database, because nodes, managements and messages come and go: a node that starts hears at its
first heartbeat that its model is paused, from whichever management lives. Nodes forget an order with their process.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from broker.interface import BrokerError
from management.lookout import Lookout
from process.logging import Log
from store.database import reading
from store.orders import Order, standing
from wire import codec
from wire.control import SENTENCE_CHARS_MAX, ControlMessage, Drain, Pause, Resume
from wire.errors import InvalidName

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncEngine

    from broker.interface import Broker
    from management.fleet.nodes import NodeRegistry
    from wire.control import Word
    from wire.presence import Presence
    from wire.topics import Topics

    Orders = Mapping[tuple[str, str], Order]

log = Log("management")

LOOK_EVERY_S = 2.0
"""So late is an order known that another management was given."""
REPEAT_S = 2.0
"""A node is told the same again after this long, if it does not show that it has heard."""
AT_ONCE_MAX = 20
_LEAVING = ("draining", "stopped")


def order_of(node: str, model: str, orders: Orders) -> Order | None:
    """What holds for a node: that it leaves, before that it is paused, or its model, before that it works."""
    own, its_models = orders.get(("node", node)), orders.get(("model", model))
    for order in (own, its_models):
        if order is not None and order.order != "resume":
            return order
    return own or its_models


def word_for(presence: Presence, orders: Orders) -> Word | None:
    """What is to be said to a node that says this of itself. Without an order it is nobody's business."""
    order = order_of(presence.node, presence.model, orders)
    if order is None or presence.state in _LEAVING:
        return None
    match order.order:
        case "drain":
            return Drain()
        case "pause":
            return None if presence.state == "paused" else Pause(sentence=pause_sentence(order))
        case "resume":
            return Resume() if presence.state == "paused" else None


def pause_sentence(order: Order) -> str:
    """Why a node is paused, for people."""
    what = "Paused" if order.scope == "node" else "Its model is paused"
    return f"{what} by {order.by}{f': {order.reason}' if order.reason else '.'}"[:SENTENCE_CHARS_MAX]


class Overseer:
    """Compares heartbeats with orders, and speaks to nodes."""

    def __init__(self, engine: AsyncEngine, broker: Broker, topics: Topics, registry: NodeRegistry, name: str) -> None:
        self._engine = engine
        self._broker = broker
        self._topics = topics
        self._registry = registry
        self._name = name
        self._orders: Orders = {}
        self._said: dict[str, tuple[str, float]] = {}
        self._lookout = Lookout(self.look, LOOK_EVERY_S, sentence="Orders cannot be seen to.", action="orders_failed")

    def heard(self, presence: Presence) -> None:
        """Take a heartbeat; the registry has it already."""
        if self._orders and word_for(presence, self._orders) is not None:
            self._lookout.soon()

    async def run(self) -> None:
        """Look for ever."""
        await self._lookout.run()

    async def look(self) -> None:
        """Say what is to be said now, by the orders as they stand. Raises the database's errors."""
        async with reading(self._engine) as connection:
            orders = self._orders = await standing(connection)
        now = asyncio.get_running_loop().time()
        self._said = {node: said for node, said in self._said.items() if now - said[1] < REPEAT_S}
        if not orders:
            return
        due = []
        for presence, _ in self._registry.present():
            word = word_for(presence, orders)
            if word is not None and self._said.get(presence.node, ("", 0.0))[0] != repr(word):
                self._said[presence.node] = repr(word), now
                due.append((presence.node, word))
        for begin in range(0, len(due), AT_ONCE_MAX):
            await asyncio.gather(*(self._say(node, word) for node, word in due[begin : begin + AT_ONCE_MAX]))

    async def _say(self, node: str, word: Word) -> None:
        message = ControlMessage(sender=self._name, words=[codec.encode_word(word)])
        try:
            producer = await self._broker.producer(self._topics.control(node))
            try:
                await producer.send(codec.encode(message))
            finally:
                await producer.aclose()
        except (BrokerError, InvalidName) as error:
            log.debug("A node could not be told.", action="order_unsaid", node=node, why=str(error))
