"""Notices a lost connection and brings its producers and consumers back.

Pulsar's client reconnects by itself, but its pauses grow to a minute, and a connection that fell silent without
being closed is trusted for as long. Here a broker that answers again is used again within seconds. Our own channels do
not come back by themselves at all: whoever loses one has the watch look at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Protocol

from broker.pulsar import handshake
from broker.pulsar.failure import PulsarFailure
from broker.pulsar.producer import PulsarProducer

if TYPE_CHECKING:
    from broker.pulsar.broker import PulsarBroker

log = logging.getLogger(__name__)

_LOOKS_APART_S = 0.1
LOOKS_BEFORE_JOIN = 2
"""A member that is lost while the broker answers may come back by itself for this long."""


class Member(Protocol):
    """A producer, a consumer or a listener, as the watch sees it."""

    topic: str
    looks_lost: int
    returns_by_itself: bool
    """Whether the client library tries to bring it back."""

    @property
    def connected(self) -> bool:
        """Whether it is attached to its topic."""

    async def join(self) -> None:
        """Attach it anew."""

    async def aclose(self) -> None:
        """Leave."""


class Watch:
    """Looks at one :class:`PulsarBroker` at intervals."""

    def __init__(self, broker: PulsarBroker) -> None:
        self._broker = broker
        self._looks = 0
        self._hurry = asyncio.Event()
        self._joining: asyncio.Task[None] | None = None
        self._task = asyncio.create_task(self._run(), name="pulsar-watch")

    def hurry(self) -> None:
        """Look now."""
        self._hurry.set()

    async def stop(self) -> None:
        """End before the clients are closed."""
        tasks = {self._task} | ({self._joining} if self._joining else set())
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._broker.limits.watch_interval_s):
                    await self._hurry.wait()
            self._hurry.clear()
            try:
                await self._look()
            except PulsarFailure as failure:
                self._lose()
                log.warning(
                    'The broker refuses this process. action="broker_refuses" address="%s" reason="%s"',
                    self._broker.address,
                    failure,
                )
            # What is lost again and again must not keep the loop busy.
            await asyncio.sleep(_LOOKS_APART_S)

    async def _look(self) -> None:
        broker = self._broker
        self._looks += 1
        suspicious = not broker.connected or any(not member.connected for member in broker.members)
        if not suspicious and self._looks % 2:
            return
        # The client would keep a closed port to itself until its timeout.
        timeout_s = broker.limits.ping_timeout_s
        if suspicious and await handshake.fault(broker.address, broker.channels, timeout_s) is not None:
            self._lose()
            return
        answers, _ = await asyncio.gather(broker.client.answers(broker.ping_topic), broker.channels.check())
        if answers:
            self._find()
            self._bring_back()
        else:
            await self._doubt()

    def _lose(self) -> None:
        if self._broker.connected:
            log.warning('The connection to the broker is lost. action="broker_lost" address="%s"', self._broker.address)
        self._broker.lost = True
        for member in self._broker.members:
            if isinstance(member, PulsarProducer):
                member.give_up()

    def _find(self) -> None:
        if self._broker.lost:
            log.warning('The broker answers again. action="broker_back" address="%s"', self._broker.address)
        self._broker.lost = False

    def _bring_back(self) -> None:
        """The broker answers this client: join the members that have not come back by themselves."""
        for member in self._broker.members:
            member.looks_lost = 0 if member.connected else member.looks_lost + 1
        late = [
            member
            for member in self._broker.members
            if member.looks_lost >= (LOOKS_BEFORE_JOIN if member.returns_by_itself else 1)
        ]
        # In the background: one topic that takes its time must not keep the watch from its next look.
        if late and (self._joining is None or self._joining.done()):
            self._joining = asyncio.create_task(self._join(late), name="pulsar-join")

    async def _doubt(self) -> None:
        """This client gets no answer: see whether a new one does."""
        broker = self._broker
        old, fresh, topic = broker.client, broker.new_client(), broker.ping_topic
        try:
            # The old one has a second chance meanwhile: a broker or a process that only paused answers both,
            # and then nothing is torn down.
            fresh_answers, old_answers = await asyncio.gather(fresh.answers(topic), old.answers(topic))
        except BaseException:
            broker.retire(fresh)
            raise
        if old_answers or not fresh_answers:
            broker.retire(fresh)
            if not old_answers:
                self._lose()
            return
        self._lose()
        if self._joining is not None:
            self._joining.cancel()
        broker.replace_client(fresh)
        self._find()
        self._joining = asyncio.create_task(self._join(list(broker.members)), name="pulsar-join")

    async def _join(self, members: list[Member]) -> None:
        results = await asyncio.gather(*(member.join() for member in members), return_exceptions=True)
        for member, result in zip(members, results, strict=True):
            if isinstance(result, PulsarFailure):
                log.warning(
                    'A topic cannot be joined anew yet. action="join_waits" topic="%s" reason="%s"',
                    member.topic,
                    result,
                )
            elif isinstance(result, BaseException):
                log.error(
                    'A topic could not be joined anew. action="join_failed" topic="%s"', member.topic, exc_info=result
                )
            else:
                member.looks_lost = 0
