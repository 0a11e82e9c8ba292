"""Reaching the broker for the first time: keep trying, and say once why it takes so long."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from broker.interface import BrokerError, BrokerForbidden

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.interface import Broker

AGAIN_S = 1.0


async def reach(broker: Broker, stop: asyncio.Event, say: Callable[[str], None]) -> bool:
    """Connect, trying again every second; False if ``stop`` was set first. ``say`` gets each new reason once."""
    said = ""
    while not stop.is_set():
        try:
            await broker.connect()
            return True
        except BrokerForbidden as error:
            why = f"{error} Check PULSAR_TOKEN."
        except BrokerError as error:
            why = f"{error} Check PULSAR_URL, or start the broker."
        if why != said:
            say(why)
            said = why
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(AGAIN_S):
                await stop.wait()
    return False


async def keep(broker: Broker, topic: str, subscription: str, say: Callable[[str], None]) -> None:
    """Make sure that a topic keeps what is published, as far as this process may. Raises :class:`BrokerError`.

    Where it may only publish, whoever has granted so little has made topic and subscription as well
    (:mod:`broker.access`); ``say`` gets a sentence, for nobody can see from here whether that is so.
    """
    try:
        await broker.ensure(topic, subscription)
    except BrokerForbidden:
        say(f"This process may not look for subscription {subscription!r} of {topic}; it must be there already.")
