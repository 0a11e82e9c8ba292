"""A broker that comes back with what somebody copied some time before, or with nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.simulation.backup import backup, restart_with
from tests.simulation.small_fleet import begin, simulated
from tests.waiting import until

if TYPE_CHECKING:
    from tests.chaos.asked import Asked
    from tests.simulation.fleet import Fleet

SLOTS, STREAMS, LATER_S = 3, 5, 3600.0


def begun(fleet: Fleet, first: int) -> list[tuple[Asked, asyncio.Task[None]]]:
    """Streams of ten seconds, more than there are slots."""
    prompts = [f"r{number} tokens=20 delay-between=0.5" for number in range(first, first + STREAMS)]
    return [begin(fleet, prompt, number=number, stream=True) for number, prompt in enumerate(prompts, first)]


async def ended(clients: list[tuple[Asked, asyncio.Task[None]]]) -> Counter[str]:
    """How, as their clients saw it."""
    await asyncio.wait([asking for _, asking in clients])
    return Counter(asked.code or asked.end for asked, _ in clients)


@pytest.mark.parametrize("gateway_died", [False, True], ids=["its gateway lives", "its gateway died"])
def test_requests_that_come_again_with_yesterdays_backup_are_neither_run_nor_charged_again(
    gateway_died: bool,
) -> None:
    async def scenario(fleet: Fleet) -> None:
        await fleet.known()
        yesterday = begun(fleet, 0)
        await until(lambda: fleet.workers.held == SLOTS)
        await asyncio.sleep(2)
        copy = backup(fleet.sea.server)  # all of them, and not one event: nobody has read those
        fleet.start(fleet.add("management"))
        assert await ended(yesterday) == {"answered": STREAMS}
        await asyncio.sleep(LATER_S)
        if gateway_died:
            (gateway,) = fleet.of("gateway")
            gateway.now.die()
            fleet.start(gateway)
            await fleet.known()
        today = begun(fleet, 10)
        await until(lambda: fleet.workers.held == SLOTS)
        restart_with(fleet.sea, copy, 1.0)
        await until(lambda: fleet.workers.consumers == 1, within_s=10)
        assert fleet.workers.backlog + fleet.workers.held >= STREAMS
        # What ran goes on. What waited is known to nobody any more, which its client hears at its deadline.
        assert await ended(today) == {"answered": SLOTS, "deadline_exceeded": STREAMS - SLOTS}
        assert await ended(begun(fleet, 20)) == {"answered": STREAMS}
        await until(lambda: not fleet.under_way(), within_s=70, every_s=0.5)
        answered = [asked.request_id for asked, _ in [*yesterday, *today] if asked.done]
        charged = [charge["request_id"] for charge in fleet.books.charges]
        assert set(answered) <= set(charged)
        assert len(set(charged)) == len(charged) == len(answered) + STREAMS
        assert Counter(end["status"] for end in fleet.books.ends) == {"answered": len(charged), "expired": 2}
        assert fleet.books.conflicts == []
        assert sum(map(len, fleet.provider.executions.values())) == len(charged)

    assert simulated(scenario, "gateway", "node") == []


def test_a_fleet_goes_on_with_a_broker_that_comes_back_empty() -> None:
    async def scenario(fleet: Fleet) -> None:
        await fleet.known()
        before = begun(fleet, 0)
        await until(lambda: fleet.workers.held == SLOTS)
        restart_with(fleet.sea, {}, 1.0)
        assert await ended(before) == {"answered": SLOTS, "deadline_exceeded": STREAMS - SLOTS}
        assert await ended(begun(fleet, 10)) == {"answered": STREAMS}
        await until(lambda: not fleet.under_way(), within_s=70, every_s=0.5)
        assert len(fleet.books.charges) == SLOTS + STREAMS

    assert simulated(scenario, "management", "gateway", "node") == []
