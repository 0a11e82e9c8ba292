"""What a node's heartbeat says of the time that a request takes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import workernode.heartbeat
from broker.memory import MemoryBroker, MemoryServer
from process.lifecycle import Tasks
from process.logging import Log
from tests.scripted_engine import ScriptedEngine
from tests.waiting import until
from wire import codec
from wire.topics import Topics
from workernode.heartbeat import Heartbeat
from workernode.identity import NodeIdentity

if TYPE_CHECKING:
    import pytest


def heartbeat() -> Heartbeat:
    identity = NodeIdentity("node-a", "a", "m", "static")
    return Heartbeat(identity, ScriptedEngine(), 4, lambda: (0, 0))


async def test_the_service_time_is_the_mean_of_the_first_ten_and_then_forgets_the_oldest_slowly() -> None:
    heart = heartbeat()
    assert heart.presence().service_ms is None
    heart.served(60_000)
    assert heart.presence().service_ms == 60_000
    for _ in range(9):
        heart.served(1000)
    assert heart.presence().service_ms == 6900
    heart.served(6900 + 1000)
    assert heart.presence().service_ms == 7000


async def test_the_first_service_time_is_said_at_once() -> None:
    server, topics = MemoryServer(), Topics()
    broker, listener = MemoryBroker(server), MemoryBroker(server)
    heard: list[int | None] = []
    heart, tasks = heartbeat(), Tasks(Log("test"))

    def hear(payload: bytes) -> None:
        heard.append(codec.decode_presence(payload).service_ms)

    await listener.listen(topics.presence, hear, waiting_max=100)
    tasks.start(heart.run(broker, topics), "heartbeat")
    await until(lambda: heard == [None])
    heart.served(250)
    await until(lambda: heard == [None, 250], within_s=2)
    await tasks.aclose()
    await broker.aclose()
    await listener.aclose()


async def test_a_broker_that_is_away_at_the_start_does_not_cost_a_node_its_presence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workernode.heartbeat, "AGAIN_S", 0.01)
    server, topics = MemoryServer(), Topics()
    broker, listener = MemoryBroker(server), MemoryBroker(server)
    heard: list[bytes] = []
    tasks = Tasks(Log("test"))
    await listener.listen(topics.presence, heard.append, waiting_max=100)
    server.set_available(False)
    beating = tasks.start(heartbeat().run(broker, topics), "heartbeat")
    await asyncio.sleep(0)
    server.set_available(True)
    await until(lambda: heard or beating.done(), within_s=2)
    assert heard
    await tasks.aclose()
    await broker.aclose()
    await listener.aclose()
