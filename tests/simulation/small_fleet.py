"""A few processes in fair weather, for one scenario."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

from tests.chaos.asked import Asked
from tests.simulation.client import ask, body_of, headers_of
from tests.simulation.connection import Connection
from tests.simulation.fleet import KEY, MODEL, Fleet, Role
from tests.simulation.logged import Logged
from tests.simulation.seams import replaced
from tests.simulation.virtual_loop import VirtualLoop
from tests.simulation.weather import Weather

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def simulated(scenario: Callable[[Fleet], Awaitable[None]], *roles: Role) -> list[str]:
    """Play it with one process of each role; returns the faults of code that were logged."""
    loop = VirtualLoop()

    async def play() -> None:
        fleet = Fleet(loop, 1, Weather(), continues=False, traced=False)
        fleet.clerk.rough = fleet.provider.rough = False
        logged.trace = fleet.trace
        with replaced(fleet):
            for role in roles:
                fleet.start(fleet.add(role))
            await scenario(fleet)
            await fleet.close()

    with Logged(traced=False) as logged:
        try:
            loop.run_until_complete(play())
        finally:
            loop.close()
    return logged.faults


async def answered(fleet: Fleet, prompt: str = "Hello") -> Asked:
    """What a client gets who asks as soon as the model is known."""
    await fleet.known()
    asked, asking = begin(fleet, prompt)
    await asking
    return asked


def begin(
    fleet: Fleet, prompt: str, *, number: int = 1, stream: bool = False, timeout_s: float = 60.0
) -> tuple[Asked, asyncio.Task[None]]:
    """A client asks the only gateway that takes requests; the task ends with what it gets, or with nothing."""
    (life,) = fleet.serving()
    body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "stream": stream}
    asked = Asked(number, body, life.name, timeout_s, fleet.loop.now)
    connection = Connection(fleet.loop, Random(number), life, headers_of(asked, KEY), body_of(asked), slow=False)
    return asked, asyncio.ensure_future(ask(fleet, connection, asked, None))
