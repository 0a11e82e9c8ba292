"""A gateway that holds very many streams is stopped, or killed, and started again at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from gateway.requests import record
from tests.simulation.small_fleet import begin, simulated
from tests.waiting import until

if TYPE_CHECKING:
    import pytest

    from tests.chaos.asked import Asked
    from tests.simulation.fleet import Fleet

STREAMS, WAITING, NODES = 400, 100, 4
LEFT = STREAMS + WAITING


async def clients(fleet: Fleet) -> list[tuple[Asked, asyncio.Task[None]]]:
    """Each slot has a stream that lasts, and others wait for one."""
    for _ in range(NODES):
        fleet.start(fleet.add("node", MAX_PROCESS_NUM=str(STREAMS // NODES)))
    await fleet.known()
    begun = [begin(fleet, f"r{n} tokens=60 delay-between=0.5", number=n, stream=True) for n in range(STREAMS)]
    begun += [begin(fleet, f"r{n} tokens=2", number=n) for n in range(STREAMS, LEFT)]
    await until(lambda: (fleet.workers.held, fleet.workers.backlog) == (STREAMS, WAITING), within_s=5, every_s=0.1)
    await asyncio.sleep(2)
    return begun


async def taken_over(fleet: Fleet, status: str, *, within_s: float) -> None:
    """The next gateway's request is answered, and by then or soon after all slots are free and all ends told."""
    (gateway,) = fleet.of("gateway")
    fleet.start(gateway)
    await fleet.known()
    asked, asking = begin(fleet, "next tokens=2", number=LEFT)
    await until(lambda: fleet.workers.permits == STREAMS and not fleet.workers.held, within_s=within_s, every_s=0.1)
    await asking
    assert asked.end == "answered"
    assert fleet.workers.backlog == 0
    await until(lambda: len(fleet.books.ends) == LEFT + 1, within_s=5, every_s=0.1)
    assert Counter(end["status"] for end in fleet.books.ends) == {status: LEFT, "answered": 1}
    assert [charge["request_id"] for charge in fleet.books.charges] == [asked.request_id]
    assert sum(map(len, fleet.provider.executions.values())) == STREAMS + 1


def test_a_gateway_that_is_stopped_tells_each_client_and_the_ledger_how_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(record, "EVENTS_WAITING_MAX", 10)

    async def scenario(fleet: Fleet) -> None:
        begun = await clients(fleet)
        (gateway,) = fleet.of("gateway")
        gateway.stop.set()
        await gateway.now.ended.wait()
        await asyncio.wait([asking for _, asking in begun])
        ends = Counter((asked.end, asked.code) for asked, _ in begun)
        assert ends == {("failed", "shutting_down"): STREAMS, ("refused", "shutting_down"): WAITING}
        await taken_over(fleet, "failed", within_s=5.0)

    assert simulated(scenario, "management", "gateway") == []


def test_what_a_killed_gateway_held_is_let_go_and_never_run_again() -> None:
    async def scenario(fleet: Fleet) -> None:
        begun = await clients(fleet)
        (gateway,) = fleet.of("gateway")
        gateway.now.die()
        await asyncio.wait([asking for _, asking in begun])
        assert {asked.end for asked, _ in begun} == {"broken"}
        await taken_over(fleet, "abandoned", within_s=10.0)

    assert simulated(scenario, "management", "gateway") == []
