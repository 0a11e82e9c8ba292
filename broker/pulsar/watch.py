"""Notices a lost connection and brings its producers and consumers back.

A channel does not come back by itself: whoever loses one has the watch look at once. The client library does, but its
pauses grow to a minute; here a broker that answers again is used again within seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import weakref
from typing import TYPE_CHECKING, Any, Protocol

from broker.log_fields import fields
from broker.pulsar import handshake
from broker.pulsar.failure import MEANS_NO, PulsarFailure
from broker.pulsar.producer import PulsarProducer

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from broker.pulsar.broker import PulsarBroker
    from broker.pulsar.failure import Result

log = logging.getLogger(__name__)

_LOOKS_APART_S = 0.1
_LOOKS_APART_MAX_S = 3.2
"""What is lost again and again must not keep the loop busy, nor the broker: then the one grows to the other."""
_NOBODY_S = 5.0
"""Without a single attached member for so long, no topic can be used, whoever answers: perhaps a proxy of no broker."""
LOOKS_BEFORE_JOIN = 2
"""A member that is lost while the broker answers may come back by itself for this long."""


class Member(Protocol):
    """A producer, a consumer or a listener, as the watch sees it."""

    topic: str
    looks_lost: int

    @property
    def returns_by_itself(self) -> bool:
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
        self._nobody_since: float | None = None
        """Loop time since which no member is attached."""
        self._refusal: Result | None = None
        """Why the broker refuses this process, as it was told last. Its sentence may be another one each time."""
        self._told: weakref.WeakKeyDictionary[Member, Result] = weakref.WeakKeyDictionary()
        """Likewise why a member could not be joined: each reason once, for it may last for days."""
        self._hurry = asyncio.Event()
        self._under_way: dict[object, asyncio.Task[object]] = {}
        self._task = asyncio.create_task(self._run(), name="pulsar-watch")

    def hurry(self) -> None:
        """Look now."""
        self._hurry.set()

    async def stop(self) -> None:
        """End before the connections are closed."""
        tasks: set[asyncio.Task[Any]] = {self._task, *self._under_way.values()}
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    async def _run(self) -> None:
        apart_s = _LOOKS_APART_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._broker.limits.watch_interval_s):
                    await self._hurry.wait()
            apart_s = min(2 * apart_s, _LOOKS_APART_MAX_S) if self._hurry.is_set() else _LOOKS_APART_S
            self._hurry.clear()
            try:
                await self._look()
            except PulsarFailure as failure:
                self._lose(failure.message or failure.result.name)
                self._tell_refusal(failure)
            except Exception:
                # Without the watch nothing would ever come back.
                log.exception("The connection to the broker could not be looked at.", extra=fields("look_failed"))
            await asyncio.sleep(apart_s * random.uniform(0.5, 1.5))

    async def _look(self) -> None:
        broker = self._broker
        self._looks += 1
        suspicious = not broker.connected or any(not member.connected for member in broker.members)
        if not suspicious and self._looks % 2:
            return
        answers = await broker.channels.check()
        if not any(answers):
            timeout_s = broker.limits.ping_timeout_s
            if (fault := await handshake.fault(broker.address, broker.channels, timeout_s)) is not None:
                self._lose(fault)
                return
        if self._nobody():
            self._lose("it answers, and no topic can be used")
        else:
            self._find()
        if broker.library is not None:
            self._begin(broker.library, broker.library.answers(broker.ping_topic))
        # Those of a channel that was ended just now are lost just now, and the next look is at once.
        if all(answers):
            self._bring_back()

    def _nobody(self) -> bool:
        members = self._broker.members
        if not members or any(member.connected for member in members):
            self._nobody_since = None
            return False
        now = asyncio.get_running_loop().time()
        self._nobody_since = self._nobody_since or now
        return now - self._nobody_since >= _NOBODY_S

    def _lose(self, why: str) -> None:
        if self._broker.connected:
            about = fields("broker_lost", address=self._broker.address, why=why)
            log.warning("The connection to the broker is lost.", extra=about)
        self._broker.lose()
        for member in self._broker.members:
            if isinstance(member, PulsarProducer):
                member.give_up()

    def _tell_refusal(self, failure: PulsarFailure) -> None:
        if failure.result != self._refusal:
            self._refusal = failure.result
            about = fields("broker_refuses", address=self._broker.address, why=failure)
            log.warning("The broker refuses this process.", extra=about)

    def _find(self) -> None:
        self._refusal = None
        if self._broker.lost:
            log.warning("The broker answers again.", extra=fields("broker_back", address=self._broker.address))
        self._broker.find()

    def _bring_back(self) -> None:
        """Join the members that have not come back by themselves."""
        for member in self._broker.members:
            member.looks_lost = 0 if member.connected else member.looks_lost + 1
        for member in self._broker.members:
            if member.looks_lost >= (LOOKS_BEFORE_JOIN if member.returns_by_itself else 1):
                self._begin(member, self._join(member))

    def _begin(self, about: object, coroutine: Coroutine[Any, Any, object]) -> None:
        """In the background, and each by itself: one that takes its time must not keep another from the next look."""
        if about in self._under_way:
            coroutine.close()
            return
        task = self._under_way[about] = asyncio.create_task(coroutine, name="pulsar-mend")
        task.add_done_callback(lambda _: self._under_way.pop(about, None))

    async def _join(self, member: Member) -> None:
        try:
            await member.join()
        except PulsarFailure as failure:
            if failure.result in MEANS_NO and isinstance(member, PulsarProducer):
                member.give_up()  # whoever waits could as well wait for nothing
            if self._told.get(member) != failure.result:
                self._told[member] = failure.result
                about = fields("join_waits", topic=member.topic, why=failure)
                log.warning("A topic cannot be joined anew yet.", extra=about)
        except Exception:
            log.exception("A topic could not be joined anew.", extra=fields("join_failed", topic=member.topic))
        else:
            member.looks_lost = 0
            self._told.pop(member, None)
