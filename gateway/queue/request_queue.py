"""Publishing requests: one producer per known model, opened before the first request needs it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from broker.interface import BrokerError, BrokerForbidden, BrokerUnavailable, PayloadTooLarge, SendRejected, SendUnknown
from broker.reaching import keep
from process.logging import Log
from wire import codec
from wire.errors import BodyTooLarge, Overloaded, QueueUnavailable
from wire.topics import LEDGER, WORKERS

if TYPE_CHECKING:
    from broker.interface import Broker, Producer
    from gateway.queue.broker_wait import BrokerWait
    from wire.request import Request
    from wire.topics import Topics

log = Log("gateway")

OPEN_WITHIN_S = 2.0
"""How long a request waits for its topic to be opened before its client hears 503."""
AGAIN_MS = 1000
"""When a client should try again that was refused for the queue."""


class NotPublished(QueueUnavailable):
    """The queue cannot be reached at the moment. Try again shortly."""


class RequestQueue:
    """Publishes with a confirmed receipt."""

    def __init__(self, broker: Broker, topics: Topics, wait: BrokerWait) -> None:
        self._broker = broker
        self._topics = topics
        self._wait = wait
        self._producers: dict[str, asyncio.Task[Producer]] = {}
        self._told: dict[str, str] = {}
        """Why a model's topic takes nothing, as it was told last."""

    def prepare(self, model: str) -> asyncio.Task[Producer]:
        """Make the model's topic and subscription and open a producer, in the background."""
        task = self._producers.get(model)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = asyncio.get_running_loop().create_task(self._open(model), name=f"open queue of {model}")
            # Whoever publishes sees the failure; without a request it is tried again by the next one.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._producers[model] = task
        return task

    def check(self) -> None:
        """Raises :class:`NotPublished` while the broker is away and nobody waits for it."""
        if not self._broker.connected and not self._wait.is_offered:
            raise NotPublished(retry_after_ms=AGAIN_MS)

    async def publish(self, request: Request) -> None:
        """Return when the broker has the request, for which it may have to come back first.

        Raises :class:`NotPublished` (certainly not in the topic), :class:`wire.errors.QueueUnavailable` (perhaps in
        it), :class:`wire.errors.Overloaded` or :class:`wire.errors.BodyTooLarge`.
        """
        until: float | None = None
        perhaps = False
        while True:
            try:
                return await self._send(request)
            except PayloadTooLarge:
                raise BodyTooLarge from None
            except SendRejected:
                if until is None:
                    raise Overloaded(retry_after_ms=AGAIN_MS) from None
                again = True  # all that waited go at once
            except SendUnknown:
                # Published twice it is one request all the same, answered and charged once. But a broker that is there
                # and silent will not say more the next time.
                perhaps, again = True, not self._broker.connected
            except BrokerForbidden:
                again = False
            except (BrokerError, TimeoutError):
                again = True
            if again:
                until = self._wait.until() if until is None else until
                if await self._wait.over(until, len(request.body)):
                    continue
            raise (QueueUnavailable if perhaps else NotPublished)(retry_after_ms=AGAIN_MS)

    async def close(self, model: str) -> None:
        """Leave the topic of a model that is not known any more."""
        self._told.pop(model, None)
        task = self._producers.pop(model, None)
        if task is not None and task.done() and not task.cancelled() and task.exception() is None:
            await task.result().aclose()

    async def aclose(self) -> None:
        """Leave every topic."""
        for model in list(self._producers):
            await self.close(model)

    async def _send(self, request: Request) -> None:
        if not self._broker.connected:
            raise BrokerUnavailable("The broker is away.")
        opening = self.prepare(request.model)
        if opening.done():
            producer = opening.result()
        else:
            async with asyncio.timeout(OPEN_WITHIN_S):
                producer = await asyncio.shield(opening)
        try:
            await producer.send(codec.encode(request))
        except (PayloadTooLarge, SendRejected):
            raise  # nothing is wrong with the topic
        except BrokerError as error:
            self._tell(request.model, error)
            raise
        if self._told:
            self._told.pop(request.model, None)

    async def _open(self, model: str) -> Producer:
        try:
            return await self._opened(model)
        except BrokerError as error:
            self._tell(model, error)
            raise

    def _tell(self, model: str, error: BrokerError) -> None:
        """Say each reason once: clients hear no more than that the queue cannot be reached."""
        if self._broker.connected and self._told.get(model) != str(error):
            self._told[model] = str(error)
            log.warning("A model's queue takes no requests.", action="queue_refuses", model=model, why=str(error))

    async def _opened(self, model: str) -> Producer:
        topic = self._topics.requests(model)

        def say(why: str) -> None:
            log.info(why, action="subscription_unseen")

        await keep(self._broker, topic, WORKERS, say)
        # A dead letter finds its subscription although nobody has ever looked for one.
        await keep(self._broker, self._topics.dead_letters(model), LEDGER, say)
        return await self._broker.producer(topic)
