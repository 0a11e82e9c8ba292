"""A broker that is slow to say what it has, or to take anything: what clients and the ledger notice of that."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from tests.chaos.asked import Asked
from tests.simulation.client import ask, body_of, headers_of
from tests.simulation.connection import Connection
from tests.simulation.fleet import KEY, MODEL, Fleet
from tests.simulation.logged import Logged
from tests.simulation.rough_producer import RoughProducer
from tests.simulation.seams import replaced
from tests.simulation.virtual_loop import VirtualLoop
from tests.simulation.weather import Weather
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest


def simulated(scenario: Callable[[Fleet], Awaitable[None]]) -> list[str]:
    """Play it with one process of each role in fair weather; returns the errors that were logged."""
    loop = VirtualLoop()

    async def play() -> None:
        fleet = Fleet(loop, 1, Weather(), continues=False, traced=False)
        fleet.clerk.rough = fleet.provider.rough = False
        logged.trace = fleet.trace
        with replaced(fleet):
            for role in ("management", "gateway", "node"):
                fleet.start(fleet.add(role))
            await fleet.known()
            await scenario(fleet)
            await fleet.close()

    with Logged(traced=False) as logged:
        try:
            loop.run_until_complete(play())
        finally:
            loop.close()
    return logged.faults


async def answer(fleet: Fleet) -> Asked:
    """What a client gets."""
    (life,) = fleet.serving()
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
    asked = Asked(1, body, life.name, 60.0, fleet.loop.now, short=False, hang_up_after=None)
    connection = Connection(fleet.loop, Random(1), life, headers_of(asked, KEY), body_of(asked), slow=False)
    await ask(fleet, connection, asked, None)
    return asked


def test_an_answer_does_not_wait_for_a_receipt_that_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that has the request shows that it is in its topic."""
    real = RoughProducer._confirm

    def without_receipts_of_requests(producer: RoughProducer, message: object) -> None:
        if "requests" not in producer.topic.name:
            real(producer, message)  # type: ignore[arg-type]

    monkeypatch.setattr(RoughProducer, "_confirm", without_receipts_of_requests)

    async def scenario(fleet: Fleet) -> None:
        began_at = fleet.loop.now
        asked = await answer(fleet)
        assert asked.status == 200
        assert fleet.loop.now - began_at < 5.0

    assert simulated(scenario) == []


def test_a_gateway_that_leaves_waits_with_what_an_answer_cost_until_it_is_taken() -> None:
    """Its node is dead, so that nobody else knows of the charge."""

    async def scenario(fleet: Fleet) -> None:
        (gateway,), (node,) = fleet.of("gateway"), fleet.of("node")
        fleet.sea.block(fleet.topics.results, 7.0)
        assert (await answer(fleet)).status == 200
        node.now.die()
        gateway.stop.set()
        await gateway.now.ended.wait()
        await until(lambda: len(fleet.books.charges) == 1, within_s=5.0, every_s=0.1)

    assert simulated(scenario) == []
