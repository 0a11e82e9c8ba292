"""Listening to the nodes: calls the roll at the start, keeps the register of models current."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec

from broker.interface import BrokerError
from process.identity import now_ms
from process.lifecycle import Tasks
from process.logging import Log
from wire import codec
from wire.errors import InvalidName, UndecodableMessage
from wire.presence import PRESENCE_EVERY_S, RollCall

if TYPE_CHECKING:
    from broker.interface import Broker, Listener
    from gateway.metrics import GatewayMetrics
    from gateway.models.register import Models
    from gateway.queue.request_queue import RequestQueue
    from wire.presence import Presence
    from wire.topics import Topics

log = Log("gateway")

APART_MS_MIN = 1000
"""Clocks that seem to differ by less are taken for equal: a heartbeat is on its way for some of that, and who tries
again in time shall not be thought to wait."""

ROLL_CALL_S = 0.5
"""How long a gateway that starts waits for the nodes to answer the roll."""


PRESENCE_WAITING_MAX = 10_000
"""Heartbeats that may wait in this process; more are lost, and come again."""


class PresenceListener:
    """Feeds :class:`gateway.models.register.Models` and opens the request topics of the models that become known."""

    def __init__(
        self, gateway: str, broker: Broker, topics: Topics, models: Models, queue: RequestQueue, metrics: GatewayMetrics
    ) -> None:
        self.roll_called = False
        self._gateway = gateway
        self._broker = broker
        self._topics = topics
        self._models = models
        self._queue = queue
        self._metrics = metrics
        self._tasks = Tasks(log)
        self._listener: Listener | None = None

    async def start(self) -> None:
        """Listen, call the roll, and return when the nodes have had time to answer it. May be called again if it
        failed.
        """
        if self._listener is None:
            self._listener = await self._broker.listen(
                self._topics.presence, self._hear, waiting_max=PRESENCE_WAITING_MAX, gathers=True
            )
            self._tasks.keep(self._expire, "expire nodes")
            for model in self._models.names:
                self._queue.prepare(model)
        producer = await self._broker.producer(self._topics.roll_call)
        try:
            await producer.send(codec.encode(RollCall(sender=self._gateway)))
        except BrokerError as error:
            # The next heartbeats come by themselves within seconds.
            log.warning("The roll could not be called.", action="roll_call_failed", why=str(error))
        await asyncio.sleep(ROLL_CALL_S)
        await producer.aclose()
        self.roll_called = True

    async def aclose(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            await self._listener.aclose()
        await self._tasks.aclose()

    def _hear(self, payload: bytes) -> None:
        try:
            presence = by_our_clock(codec.decode_presence(payload), now_ms())
            if self._models.heard(presence, asyncio.get_running_loop().time(), int(time.time())):
                log.info("A model is known.", action="model_known", model=presence.model)
                self._queue.prepare(presence.model)
        except (UndecodableMessage, InvalidName) as error:
            self._metrics.undecodable["presence"].inc()
            log.warning("A heartbeat could not be read.", action="undecodable", why=error.message)
        self._metrics.nodes.set(self._models.node_count)

    async def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        looked_at = loop.time()
        while True:
            await asyncio.sleep(PRESENCE_EVERY_S)
            before, looked_at = looked_at, loop.time()
            # Nobody is heard while the broker is away, nor by a process that stood still.
            deaf_s = looked_at - before - (PRESENCE_EVERY_S if self._broker.connected else 0.0)
            for model in self._models.forget_the_silent(looked_at, deaf_s=deaf_s):
                log.info(
                    "A model is forgotten: no node of it was heard for long.", action="model_forgotten", model=model
                )
                await self._queue.close(model)
            self._metrics.nodes.set(self._models.node_count)


def by_our_clock(presence: Presence, now_ms: int) -> Presence:
    """The heartbeat, with the time at which its node tries again as long from now as it was when the node said it."""
    apart_ms = now_ms - presence.sent_ms
    if presence.until_ms is None or abs(apart_ms) < APART_MS_MIN:
        return presence
    return msgspec.structs.replace(presence, until_ms=max(0, presence.until_ms + apart_ms))
