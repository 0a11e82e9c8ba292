"""A node works on no more requests than it has slots, whatever comes back to it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import workernode.role
from broker.memory import MemoryBroker, MemoryServer
from tests.in_process import InProcessFleet
from tests.raw_http import JSON, exchange, get, post
from tests.scripted_engine import ScriptedEngine
from tests.waiting import until

if TYPE_CHECKING:
    import pytest

    from workernode.engine import Answer, Job
    from workernode.outcome import Answered, Later, Refused

MANY = 12


class Watched(ScriptedEngine):
    """Knows how many it wrote at once at most."""

    peak = 0

    async def answer(self, job: Job, answer: Answer) -> Answered | Refused | Later:
        self.peak = max(self.peak, self.running + 1)
        return await super().answer(job, answer)


async def test_requests_whose_node_dies_find_no_more_than_the_slots_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of them lie parked at a node of one slot, after the broker has given them out once more."""
    server, release = MemoryServer(), asyncio.Event()
    fleet = InProcessFleet(lambda: MemoryBroker(server), {})
    engines: list[Watched] = []

    def engine(*_: Any) -> Watched:
        engines.append(Watched(release, "Hi"))
        return engines[-1]

    monkeypatch.setattr(workernode.role, "_engine", engine)
    gateway = await fleet.gateway()
    large = await fleet.node(MAX_PROCESS_NUM=str(MANY))
    body = json.dumps({"model": fleet.model, "messages": [{"role": "user", "content": "Hello"}]}).encode()
    request = post(body, *JSON, f"content-length: {len(body)}")
    asking = [asyncio.ensure_future(exchange(gateway.port, request)) for _ in range(MANY)]
    await until(lambda: engines[0].running == MANY)
    small = await fleet.node(MAX_PROCESS_NUM="1")
    server.unload_all()

    async def parks(count: int) -> bool:
        page = await exchange(small.port, get("/metrics"), method="GET")
        return f"workernode_parked {float(count)}".encode() in page.body

    await until(lambda: parks(MANY))
    await large.kill()
    await until(lambda: parks(0))
    release.set()
    assert {each.status for each in await asyncio.gather(*asking)} == {200}
    assert engines[1].peak == 1
    await fleet.aclose()
