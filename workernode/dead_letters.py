"""Where this node leaves a request that no node shall try again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from broker.interface import BrokerError, PayloadTooLarge
from broker.reaching import keep
from process.identity import now_ms
from process.logging import Log
from wire import codec
from wire.dead_letter import DeadLetter
from wire.topics import LEDGER

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.interface import Broker
    from wire.request import Request

log = Log("node")

RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Pauses between attempts to publish one letter; the last one repeats. The unacknowledged request is the outbox."""
POISON = "It brought down every node that worked on it, one after the other."


class DeadLetters:
    """Publishes dead letters. They are few: topic and producer are opened for each one."""

    def __init__(self, broker: Broker, topic: str, node: str, *, buried: Callable[[], None] = lambda: None) -> None:
        """``buried`` is called for each one that is kept."""
        self._broker = broker
        self._topic = topic
        self._node = node
        self._buried = buried

    async def bury(self, request: Request) -> None:
        """Return when the letter is kept. Tries again for as long as that takes: the request is not lost meanwhile."""
        letter = DeadLetter(request=request, reason="poison", message=POISON, node=self._node, at_ms=now_ms())
        payload = codec.encode(letter)
        tries = 0
        while True:
            try:
                await self._publish(payload)
            except PayloadTooLarge:
                # No gateway of ours takes a body that large. Kept in its own topic, it would go on killing.
                log.error("A poisonous request is too large to be kept.", action="dead_lost", bytes=len(payload))
                return
            except BrokerError as error:
                if tries == 0:
                    log.error("A dead letter waits for the broker.", action="dead_waits", why=str(error))
                await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
                tries += 1
            else:
                self._buried()
                log.error(
                    "A request was put to the dead letters: it brought down too many nodes.",
                    action="dead",
                    request_id=request.request_id,
                )
                return

    async def _publish(self, payload: bytes) -> None:
        # A topic without a subscription keeps nothing.
        await keep(self._broker, self._topic, LEDGER, lambda why: log.info(why, action="subscription_unseen"))
        producer = await self._broker.producer(self._topic)
        try:
            await producer.send(payload)
        finally:
            await producer.aclose()
