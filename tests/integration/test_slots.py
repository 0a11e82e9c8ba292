"""A node works on no more requests than it has slots, whatever comes back to it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

import workernode.role
from broker.memory import MemoryBroker, MemoryServer
from tests.in_process import InProcessFleet
from tests.raw_http import JSON, exchange, get, post
from tests.scripted_engine import ScriptedEngine
from tests.waiting import until
from wire import codec
from wire.control import ControlMessage, Pause
from wire.topics import Topics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from wire.presence import Presence
    from workernode.engine import Answer, Job
    from workernode.outcome import Answered, Later, Refused

MANY = 12


class Watched(ScriptedEngine):
    """Knows how many it wrote at once at most."""

    peak = 0

    async def answer(self, job: Job, answer: Answer) -> Answered | Refused | Later:
        self.peak = max(self.peak, self.running + 1)
        return await super().answer(job, answer)


class House:
    """A node of many slots that works on as many requests, and one of a single slot, at which all of them lie parked:
    the broker has given them out once more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.release = asyncio.Event()
        self.engines: list[Watched] = []
        self.server = MemoryServer()
        self.fleet = InProcessFleet(lambda: MemoryBroker(self.server), {})
        monkeypatch.setattr(workernode.role, "_engine", self._engine)

    async def start(self) -> None:
        gateway = await self.fleet.gateway()
        self.large = await self.fleet.node(MAX_PROCESS_NUM=str(MANY))
        body = json.dumps({"model": self.fleet.model, "messages": [{"role": "user", "content": "Hello"}]}).encode()
        request = post(body, *JSON, f"content-length: {len(body)}")
        self.asking = [asyncio.ensure_future(exchange(gateway.port, request)) for _ in range(MANY)]
        await until(lambda: self.engines[0].running == MANY)
        self.small = await self.fleet.node(MAX_PROCESS_NUM="1")
        self.server.unload_all()
        await until(lambda: self.parks(MANY))

    async def parks(self, count: int) -> bool:
        page = await exchange(self.small.port, get("/metrics"), method="GET")
        return f"workernode_parked {float(count)}".encode() in page.body

    def _engine(self, *_: Any) -> Watched:
        self.engines.append(Watched(self.release, "Hi"))
        return self.engines[-1]


@pytest.fixture
async def house(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    made = House(monkeypatch)
    await made.start()
    yield made
    await made.fleet.aclose()


async def test_requests_whose_node_dies_find_no_more_than_the_slots_of_another(house: House) -> None:
    await house.large.kill()
    await until(lambda: house.parks(0))
    house.release.set()
    assert {each.status for each in await asyncio.gather(*house.asking)} == {200}
    assert house.engines[1].peak == 1


async def test_a_node_that_is_paused_begins_none_of_them(house: House) -> None:
    broker = MemoryBroker(house.server)
    topics = Topics()
    presences: list[Presence] = []

    def hear(payload: bytes) -> None:
        presences.append(codec.decode_presence(payload))

    listener = await broker.listen(topics.presence, hear, waiting_max=100)
    await until(lambda: any(each.slots == 1 for each in presences))
    small = next(each.node for each in presences if each.slots == 1)
    control = await broker.producer(topics.control(small))
    await control.send(codec.encode(ControlMessage(sender="test", words=[codec.encode_word(Pause())])))
    await until(lambda: any(each.node == small and each.state == "paused" for each in presences))
    await house.large.kill()
    await until(lambda: house.parks(0))
    assert house.engines[1].peak == 0
    house.release.set()
    await house.fleet.node(MAX_PROCESS_NUM="1")
    assert {each.status for each in await asyncio.gather(*house.asking)} == {200}
    assert house.engines[1].peak == 0
    await listener.aclose()
    await broker.aclose()
