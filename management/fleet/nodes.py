"""Who was heard lately, and listening to nodes and gateways. Nothing here that the next messages do not tell again."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from management.persistence import Persistence, Stopping
from process.logging import Log
from wire import codec
from wire.errors import InvalidName, UndecodableMessage
from wire.presence import PRESENCE_LOST_S, Presence, RollCall
from wire.topics import segment

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.interface import Broker, Listener
    from management.fleet.backlogs import Backlogs
    from management.metrics import Metrics
    from management.settings import ManagementSettings
    from wire.presence import NodeState

log = Log("management")


class NodeRegistry:
    """The last heartbeat of each node. A node is gone when it says so, or :data:`PRESENCE_LOST_S` after its last one.

    ``nodes_max`` bounds what a flood of forged names can take; ``clock`` counts seconds and never goes back.
    """

    def __init__(self, *, nodes_max: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._nodes_max = nodes_max
        self._clock = clock
        self._heard: dict[str, tuple[float, Presence]] = {}

    def __len__(self) -> int:
        return len(self.present())

    def hear(self, presence: Presence) -> None:
        """Take note of one heartbeat."""
        # Taken out and put in again, so that the dictionary is in the order of hearing.
        known = self._heard.pop(presence.node, None)
        if presence.state == "stopped":
            return
        self._forget_lost()
        if known is not None or len(self._heard) < self._nodes_max:
            self._heard[presence.node] = (self._clock(), presence)

    def get(self, node: str) -> Presence | None:
        """The last heartbeat of a node that is there."""
        self._forget_lost()
        heard = self._heard.get(node)
        return heard[1] if heard is not None else None

    def present(self) -> list[tuple[Presence, float]]:
        """Each node that is there, with the seconds since it was heard."""
        self._forget_lost()
        now = self._clock()
        return [(presence, now - heard) for heard, presence in self._heard.values()]

    def count(self, state: NodeState) -> int:
        """How many are there in this state."""
        return sum(presence.state == state for presence, _ in self.present())

    def _forget_lost(self) -> None:
        lost_before = self._clock() - PRESENCE_LOST_S
        while self._heard:
            node, (heard, _) = next(iter(self._heard.items()))
            if heard >= lost_before:
                return
            del self._heard[node]


class FleetListener:
    """Hears the heartbeats of all nodes, after having called the roll, and the backlogs of all gateways.

    ``heard`` is called after each heartbeat that the registry has taken note of.
    """

    def __init__(
        self,
        settings: ManagementSettings,
        registry: NodeRegistry,
        backlogs: Backlogs,
        persistence: Persistence,
        metrics: Metrics,
        incarnation: str,
    ) -> None:
        self.heard: Callable[[Presence], None] = lambda _: None
        self.heard_at = float("-inf")
        """Loop time of the last message of anybody."""
        self._settings = settings
        self._registry = registry
        self._backlogs = backlogs
        self._persistence = persistence
        self._metrics = metrics
        self._incarnation = incarnation

    async def run(self, broker: Broker, stop: asyncio.Event) -> None:
        """Listen until ``stop`` is set."""
        try:
            listeners = await self._persistence.until_done(
                "presence", "The nodes' heartbeats cannot be heard at the moment.", lambda: self._open(broker)
            )
        except Stopping:
            return
        await stop.wait()
        for listener in listeners:
            await listener.aclose()

    async def _open(self, broker: Broker) -> list[Listener]:
        topics, waiting_max = self._settings.topics, self._settings.presence_waiting_max
        listeners: list[Listener] = []
        try:
            for topic, hear in ((topics.presence, self._hear), (topics.backlog, self._hear_backlog)):
                listeners.append(await broker.listen(topic, hear, waiting_max=waiting_max, gathers=True))
            # Only now: what the nodes answer must find somebody who listens.
            producer = await broker.producer(topics.roll_call)
            try:
                await producer.send(codec.encode(RollCall(sender=self._incarnation)))
            finally:
                await producer.aclose()
        except BaseException:
            for listener in listeners:
                await listener.aclose()
            raise
        return listeners

    def _hear(self, payload: bytes) -> None:
        try:
            presence = codec.decode_presence(payload)
            segment(presence.model)
        except (UndecodableMessage, InvalidName):
            self._metrics.undecodable["presence"].inc()
        else:
            self.heard_at = asyncio.get_running_loop().time()
            self._registry.hear(presence)
            self.heard(presence)

    def _hear_backlog(self, payload: bytes) -> None:
        try:
            report = codec.decode_backlog(payload)
        except UndecodableMessage:
            self._metrics.undecodable["backlog"].inc()
        else:
            self.heard_at = asyncio.get_running_loop().time()
            self._backlogs.hear(report)
