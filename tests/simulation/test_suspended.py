"""A node's machine sleeps for an hour in mid-answer and wakes: its loop's clock has stood still, and the wall clock has
not; its connection is dead, and what it held is with others."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.simulation.small_fleet import begin, simulated
from tests.simulation.virtual_loop import WORLD
from tests.waiting import until
from wire.event import PREFIX

if TYPE_CHECKING:
    from tests.simulation.fleet import Fleet

HOUR_S = 3600.0


@pytest.mark.parametrize(
    ("nodes", "timeout_s", "end", "ledger"),
    [
        (2, 600.0, "answered", {"request.billed": 1, "request.cost": 1}),
        (1, 600.0, "deadline_exceeded", {"request.expired": 1, "request.cost": 1}),
        (1, 2 * HOUR_S, "answered", {"request.billed": 1}),
    ],
    ids=["another node goes on", "nobody goes on", "it goes on itself"],
)
def test_a_stream_whose_node_slept_for_an_hour_has_one_end_and_is_charged_once(
    nodes: int, timeout_s: float, end: str, ledger: dict[str, int]
) -> None:
    async def scenario(fleet: Fleet) -> None:
        fleet.start(fleet.add("gateway", REQUEST_TIMEOUT_S=str(timeout_s)))
        for _ in range(nodes):
            fleet.start(fleet.add("node"))
        await fleet.known()
        asked, asking = begin(fleet, "r1 tokens=60 delay-between=0.5", stream=True, timeout_s=timeout_s)
        await until(lambda: asked.parts == 5, within_s=10)
        slept = next(place.now for place in fleet.of("node") if fleet.held(place.now))
        keep_alive_s, connection = fleet.sea.weather.keep_alive_s, fleet.connection(slept)
        slept.suspend(HOUR_S)
        fleet.loop.call_later(keep_alive_s, connection.lose, HOUR_S - keep_alive_s, context=WORLD)
        wakes_at = fleet.loop.now + HOUR_S
        await asking
        assert (fleet.loop.now < wakes_at) == (timeout_s < HOUR_S)
        await asyncio.sleep(max(0.0, wakes_at - fleet.loop.now))
        await until(lambda: not fleet.under_way(), within_s=60, every_s=0.5)
        assert (asked.code or asked.end) == end
        if end == "answered":
            assert asked.text in [asked.expected_text(each.number) for each in fleet.provider.executions["r1"]]
        kinds = Counter(fact.event["type"].removeprefix(PREFIX) for fact in fleet.books.facts.values())
        assert {kind: count for kind, count in kinds.items() if kind.startswith("request.")} == ledger
        asked, asking = begin(fleet, "r2 tokens=3", number=2)
        await asking
        assert asked.end == "answered"

    assert simulated(scenario, "management") == []
