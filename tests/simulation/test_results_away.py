"""The topic of results takes nothing for an hour, while clients go on asking and nodes die."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from tests.simulation.small_fleet import begin, simulated
from tests.waiting import until
from workernode import node

if TYPE_CHECKING:
    import pytest

    from tests.chaos.asked import Asked
    from tests.simulation.fleet import Fleet

AWAY_S, EVERY_S = 3600.0, 60.0
SLOTS, SETTLING, NODES = 3, 4, 2


def test_every_end_is_told_once_when_results_are_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes answer until all of their slots wait with charges; what waits for them ends at its deadline."""
    monkeypatch.setattr(node, "SETTLING_MAX", SETTLING)

    async def scenario(fleet: Fleet) -> None:
        await fleet.known()
        fleet.sea.block(fleet.topics.results, AWAY_S + 2 * EVERY_S)
        until_s = fleet.loop.now + AWAY_S
        clients: list[tuple[Asked, asyncio.Task[None]]] = []
        while fleet.loop.now < until_s:
            clients.append(begin(fleet, f"r{len(clients)} tokens=3", number=len(clients)))
            await asyncio.sleep(EVERY_S)
            if len(clients) == AWAY_S // EVERY_S // 2:
                # What they would have charged the gateway knows, too.
                for place in fleet.of("node"):
                    place.now.die()
                    fleet.start(place)
        await asyncio.wait([asking for _, asking in clients])
        assert fleet.books.charges == []
        kept = NODES * (SLOTS + SETTLING)
        assert Counter(asked.code or asked.end for asked, _ in clients) == {
            "answered": 2 * kept,
            "deadline_exceeded": len(clients) - 2 * kept,
        }
        await asyncio.sleep(2 * EVERY_S)
        asked, asking = begin(fleet, "next tokens=3", number=len(clients))
        await asking
        assert asked.end == "answered"
        await until(lambda: not fleet.under_way(), within_s=70, every_s=0.5)
        ids = {each.request_id: each.code or each.end for each in [asked, *(each for each, _ in clients)]}
        statuses = {"answered": "answered", "expired": "deadline_exceeded"}
        assert {end["request_id"]: statuses[end["status"]] for end in fleet.books.ends} == ids
        assert len(fleet.books.charges) == 2 * kept + 1

    assert simulated(scenario, "management", "gateway", "node", "node") == []
