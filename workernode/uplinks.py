"""The links of a node: one :class:`workernode.uplink.Uplink` for each gateway incarnation that has work here."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from broker.interface import BrokerError
from process.identity import now_ms
from process.logging import Log
from wire import codec
from wire.piece import Echo
from workernode.uplink import GATEWAY_LOST_S, Uplink

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.interface import Broker, Producer
    from wire.control import Acked
    from wire.topics import Topics

log = Log("node")

SUSPECT_LOST_S = 1.0
""":data:`workernode.uplink.GATEWAY_LOST_S` for a gateway that was found gone before: its backlog shall not cost every
slot the whole time again."""
SUSPECTS_MAX = 1000
IDLE_CLOSE_S = 60.0


class Uplinks:
    """All links of this node, opened on demand and closed when idle."""

    def __init__(
        self, broker: Broker, topics: Topics, node: str, *, resent: Callable[[int], None] = lambda _: None
    ) -> None:
        """``resent``: see :class:`Uplink`."""
        self._resent = resent
        self._broker = broker
        self._topics = topics
        self._node = node
        self._links: dict[str, Uplink] = {}
        self._opening: dict[str, asyncio.Task[Uplink]] = {}
        self._dropped: list[Uplink] = []  # closed once no attempt has them
        self._suspects: dict[str, bool] = {}  # gateways that were found gone, the latest last
        self._unreached: dict[str, str] = {}  # why gateways cannot be spoken to, as it was told last
        self._echo_producer: Producer | None = None
        self._latest_line = 0

    def __repr__(self) -> str:
        return f"<Uplinks {list(self._links.values())!r}>"

    async def open(self, gateway: str) -> Uplink:
        """The line to a gateway incarnation. Raises what :meth:`broker.interface.Broker.producer` raises."""
        link = self._links.get(gateway)
        if link is None or link.lost:
            task = self._opening.get(gateway)
            if task is None:
                task = asyncio.get_running_loop().create_task(self._open(gateway), name=f"open link {gateway}")
                self._opening[gateway] = task
                task.add_done_callback(lambda _: self._opening.pop(gateway, None))
            link = await asyncio.shield(task)
        link.users += 1
        return link

    def get(self, gateway: str) -> Uplink | None:
        """The line to a gateway incarnation if there is one."""
        return self._links.get(gateway)

    def acked(self, gateway: str, word: Acked) -> None:
        """A gateway acknowledged."""
        for link in (self._links.get(gateway), *self._dropped):
            if link is not None and link.gateway == gateway:
                link.acked(word)

    def echo_heard(self) -> None:
        """This node's own echo came back."""
        for link in list(self._links.values()):
            link.echo_heard()

    async def close_idle(self) -> None:
        """Close lines that nobody has needed for :data:`IDLE_CLOSE_S`."""
        now = asyncio.get_running_loop().time()
        for gateway, link in list(self._links.items()):
            if link.lost or (link.idle and now - link.idle_since > IDLE_CLOSE_S):
                self._drop(gateway, link)
        for link in [link for link in self._dropped if self._is_over(link)]:
            self._dropped.remove(link)
            await link.aclose()

    async def flush(self, within_s: float) -> None:
        """Wait until every gateway has acknowledged everything, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                for link in list(self._links.values()):
                    await link.drained()

    async def aclose(self) -> None:
        """Close every line."""
        for link in [*self._links.values(), *self._dropped]:
            await link.aclose()
        self._links.clear()
        self._dropped.clear()
        if self._echo_producer is not None:
            await self._echo_producer.aclose()

    async def _open(self, gateway: str) -> Uplink:
        try:
            if self._echo_producer is None:
                self._echo_producer = await self._broker.producer(self._topics.control(self._node))
            producer = await self._broker.producer(self._topics.link(gateway))
        except BrokerError as error:
            self._tell(gateway, str(error))
            raise
        self._unreached.pop(gateway, None)
        if (old := self._links.get(gateway)) is not None:
            self._drop(gateway, old)
        lost_after_s = SUSPECT_LOST_S if self._suspects.pop(gateway, False) else GATEWAY_LOST_S
        link = Uplink(gateway, self._node, producer, self._echo, self._new_line, lost_after_s, self._resent)
        self._links[gateway] = link
        for dropped in self._dropped:
            if dropped.gateway == gateway:
                dropped.pass_on(link)
        return link

    def _tell(self, gateway: str, why: str) -> None:
        """Say each reason once: its requests go back to the queue, and come again."""
        if self._unreached.get(gateway) != why:
            while len(self._unreached) >= SUSPECTS_MAX:
                del self._unreached[next(iter(self._unreached))]
            self._unreached[gateway] = why
            log.warning("A gateway cannot be spoken to.", action="gateway_unreached", gateway=gateway, why=why)

    def _is_over(self, link: Uplink) -> bool:
        """Whether a dropped line has nothing more to say, for itself or for one that attempts still have."""
        if any(other.users and other.successor is link for other in self._dropped):
            return False
        return link.silent

    def _new_line(self) -> int:
        """Its opening time, but always greater than the last one, also when the clock is set back."""
        self._latest_line = max(now_ms(), self._latest_line + 1)
        return self._latest_line

    def _drop(self, gateway: str, link: Uplink) -> None:
        """Not for new attempts any more; those that have it may still say a last word."""
        del self._links[gateway]
        self._dropped.append(link)
        if link.lost:
            self._suspects[gateway] = True
            while len(self._suspects) > SUSPECTS_MAX:
                del self._suspects[next(iter(self._suspects))]

    def _echo(self) -> None:
        if self._echo_producer is not None:
            self._echo_producer.post(codec.encode(Echo(sender=self._node, sent_ms=now_ms())))
