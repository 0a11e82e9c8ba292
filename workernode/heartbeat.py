"""This node's presence: said at every change, every five seconds, and when somebody calls the roll."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from broker.interface import BrokerError
from broker.reaching import AGAIN_S
from process import __version__
from process.identity import now_ms
from process.logging import Log
from wire import codec
from wire.presence import PRESENCE_EVERY_S, NodeState, Presence, RunningRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from broker.interface import Broker, Producer
    from wire.topics import Topics
    from workernode.engine import Engine
    from workernode.identity import NodeIdentity
    from workernode.remote.pace import Learnt

log = Log("node")
T = TypeVar("T")

SMOOTHING = 0.1
"""Weight of the newest request in the smoothed service time, once there were ten: until then it is their mean."""
ROLL_CALLS_WAITING_MAX = 100
"""One answer is for all that have called by then."""


class Heartbeat:
    """Holds the node's state and says it."""

    def __init__(
        self,
        identity: NodeIdentity,
        engine: Engine,
        slots: int,
        load: Callable[[], tuple[int, int]],
        learnt: Callable[[], Learnt] | None = None,
        running: Callable[[], tuple[RunningRequest, ...]] = tuple,
    ) -> None:
        self.state: NodeState = "starting"
        self.sentence: str | None = None
        self._until_ms: int | None = None
        self._identity = identity
        self._engine = engine
        self._slots = slots
        self._load = load
        self._learnt = learnt
        self._running = running
        self._started_ms = self._since_ms = now_ms()
        self._service_ms: float | None = None
        self._served = 0
        self._changed = asyncio.Event()
        self.on_change: Callable[[], None] | None = None
        """Who else wants to know at once that the state has changed."""

    def become(self, state: NodeState, sentence: str | None = None, until_ms: int | None = None) -> None:
        """Change the state, and say so at once. ``until_ms``: when the node tries again by itself."""
        if state != self.state:
            self._since_ms = now_ms()
        self.state, self.sentence, self._until_ms = state, sentence, until_ms
        self._changed.set()
        if self.on_change is not None:
            self.on_change()

    def resized(self, slots: int) -> None:
        """So many slots from now on."""
        self._slots = slots
        self._changed.set()

    def served(self, took_ms: float) -> None:
        """A request has held a slot for so long, from its delivery to the end of its work."""
        self._served += 1
        before = self._service_ms
        if before is None:
            self._service_ms = took_ms
            self._changed.set()  # until now nobody could tell how long a queue for this node takes
        else:
            # A first request that waited for a cold engine shall not be remembered as if it were ten.
            self._service_ms = before + max(SMOOTHING, 1 / self._served) * (took_ms - before)

    def presence(self) -> Presence:
        """What is said now."""
        busy, parked = self._load()
        learnt = self._learnt() if self._learnt is not None else None
        slots, service_ms = self._slots, self._service_ms
        if learnt is not None:
            slots = learnt.slots(slots, service_ms)
            service_ms = learnt.service_ms(slots, service_ms)
        return Presence(
            node=self._identity.incarnation,
            name=self._identity.name,
            model=self._identity.model,
            type=self._identity.type,
            version=__version__,
            state=self.state,
            sentence=self.sentence,
            until_ms=self._until_ms,
            since_ms=self._since_ms,
            host=self._identity.host or None,
            running=self._running(),
            slots=slots,
            busy=busy,
            parked=parked,
            service_ms=None if service_ms is None else round(service_ms),
            sent_ms=now_ms(),
            started_ms=self._started_ms,
            endpoints=self._engine.details.endpoints,
            modalities=self._engine.details.modalities,
            context_length=self._engine.details.context_length,
            continues=self._engine.details.continues,
            counts=self._engine.details.counts,
            provider=self._engine.details.provider,
            credential=learnt.credential if learnt else None,
            requests_per_min=learnt.requests_per_min if learnt else None,
            tokens_per_min=learnt.tokens_per_min if learnt else None,
            limited_until_ms=learnt.limited_until_ms if learnt else None,
        )

    async def run(self, broker: Broker, topics: Topics) -> None:
        """Say it until cancelled."""
        producer = await _opened(lambda: broker.producer(topics.presence))
        roll_call = await _opened(
            lambda: broker.listen(topics.roll_call, lambda _: self._changed.set(), waiting_max=ROLL_CALLS_WAITING_MAX)
        )
        try:
            while True:
                self._changed.clear()
                await self.say(producer)
                try:
                    async with asyncio.timeout(PRESENCE_EVERY_S):
                        await self._changed.wait()
                except TimeoutError:
                    pass
        finally:
            await roll_call.aclose()
            try:
                # The last word: gateways need not wait for the silence to know.
                await self.say(producer)
            finally:
                await producer.aclose()

    async def say(self, producer: Producer) -> None:
        """Publish one heartbeat; a broker that is away is the next one's business."""
        try:
            await producer.send(codec.encode(self.presence()))
        except BrokerError as error:
            log.debug("A heartbeat was not sent.", action="heartbeat_lost", why=str(error))


async def _opened(open_: Callable[[], Awaitable[T]]) -> T:
    """Try until it works: a broker that is away while the node starts must not cost it its presence for good."""
    said = False
    while True:
        try:
            return await open_()
        except BrokerError as error:
            if not said:
                log.warning("Heartbeats wait for the broker.", action="heartbeat_waits", why=str(error))
            said = True
            await asyncio.sleep(AGAIN_S)
