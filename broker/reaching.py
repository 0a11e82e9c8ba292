"""What a role needs at the broker before it can work: keep trying, and say once why it takes so long."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeVar

from broker.interface import BrokerError, BrokerForbidden, BrokerUnavailable, TopicMissing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from broker.interface import Broker

AGAIN_S = 1.0
T = TypeVar("T")


class Stopped(Exception):
    """Nobody waits for the broker any more."""


class Reach:
    """Does at the broker what a role needs before it can work, trying again every second until that is done.

    A broker that is away may come, and permissions may be granted a moment after the role was started. ``say`` gets
    each new reason once; after ``stop`` nobody waits.
    """

    def __init__(self, say: Callable[[str], None], stop: asyncio.Event) -> None:
        self.why = ""
        """What is in the way, empty if nothing is."""
        self._say = say
        self._stop = stop

    async def __call__(self, step: Callable[[], Awaitable[T]]) -> T:
        """What ``step`` gives, which is called anew after each failure. Raises :class:`Stopped`."""
        while not self._stop.is_set():
            try:
                result = await step()
            except BrokerForbidden as error:
                self._tell(f"{error} Check PULSAR_TOKEN.")
            except BrokerUnavailable as error:
                self._tell(f"{error} Check PULSAR_URL, or start the broker.")
            except TopicMissing as error:
                self._tell(
                    f"{error} Check PULSAR_TENANT and the namespaces, and that the broker makes topics and "
                    "subscriptions in them (allowAutoTopicCreation, allowAutoSubscriptionCreation)."
                )
            except BrokerError as error:
                self._tell(str(error))
            else:
                self.why = ""
                return result
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_S):
                    await self._stop.wait()
        raise Stopped

    def _tell(self, why: str) -> None:
        if why != self.why:
            self._say(why)
            self.why = why


async def keep(broker: Broker, topic: str, subscription: str, say: Callable[[str], None]) -> None:
    """Make sure that a topic keeps what is published, as far as this process may. Raises :class:`BrokerError`.

    Where it may only publish, whoever has granted so little has made topic and subscription as well
    (:mod:`broker.access`); ``say`` gets a sentence, for nobody can see from here whether that is so.
    """
    try:
        await broker.ensure(topic, subscription)
    except BrokerForbidden:
        say(f"This process may not look for subscription {subscription!r} of {topic}; it must be there already.")
