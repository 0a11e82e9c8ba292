"""What a gateway makes of heartbeats."""

from __future__ import annotations

import asyncio

import pytest

from broker.memory import MemoryBroker, MemoryServer
from gateway.metrics import GatewayMetrics
from gateway.models.register import KNOWN_FOR_S, Models
from gateway.presence import APART_MS_MIN, PresenceListener, by_our_clock
from gateway.queue.broker_wait import BrokerWait
from gateway.queue.request_queue import RequestQueue
from process.identity import now_ms
from tests.simulation.virtual_loop import VirtualLoop
from tests.waiting import until
from wire import codec
from wire.presence import PRESENCE_EVERY_S, Presence
from wire.topics import Topics

HOUR_MS = 3_600_000


def limited(*, sent_ms: int, until_ms: int) -> Presence:
    """The heartbeat of a node that its provider limits."""
    return Presence(
        node="node",
        name="node",
        model="m",
        type="remote",
        version="1",
        state="rate_limited",
        slots=1,
        sent_ms=sent_ms,
        started_ms=0,
        until_ms=until_ms,
    )


def test_how_long_a_heartbeat_was_on_its_way_makes_no_node_try_later() -> None:
    now = 100 * HOUR_MS
    said = limited(sent_ms=now - APART_MS_MIN + 1, until_ms=now + 20)
    assert by_our_clock(said, now).until_ms == now + 20
    behind = limited(sent_ms=now - APART_MS_MIN, until_ms=now + 20)
    assert by_our_clock(behind, now).until_ms == now + 20 + APART_MS_MIN


@pytest.mark.parametrize("ahead_ms", [0, HOUR_MS, -HOUR_MS])
async def test_a_node_tries_again_when_it_says_whatever_its_clock(
    ahead_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.presence.ROLL_CALL_S", 0.0)
    broker, topics, models = MemoryBroker(MemoryServer()), Topics(), Models(["m"], 0.0, 0)
    await broker.connect()
    queue = RequestQueue(broker, topics, BrokerWait(broker))
    listener = PresenceListener("gateway", broker, topics, models, queue, GatewayMetrics())
    await listener.start()
    before_ms = now_ms()
    said = limited(sent_ms=before_ms + ahead_ms, until_ms=before_ms + ahead_ms + 20_000)
    producer = await broker.producer(topics.presence)
    await producer.send(codec.encode(said))
    await until(lambda: models.node_count == 1)
    (group,) = models.capacity("m").groups
    assert before_ms + 20_000 <= group.from_ms <= now_ms() + 21_000  # nodes of one second come back together
    await listener.aclose()
    await queue.aclose()
    await broker.aclose()


@pytest.mark.parametrize("trouble", ["the broker is away", "the gateway stands still"])
def test_a_model_outlives_an_hour_without_heartbeats_that_is_not_its_nodes_doing(trouble: str) -> None:
    loop = VirtualLoop()

    async def scenario() -> None:
        server = MemoryServer()
        broker, topics, models = MemoryBroker(server), Topics(), Models([], loop.time(), 0)
        listener = PresenceListener(
            "gateway", broker, topics, models, RequestQueue(broker, topics, BrokerWait(broker)), GatewayMetrics()
        )
        await listener.start()
        said = limited(sent_ms=1, until_ms=2)
        await (await broker.producer(topics.presence)).send(codec.encode(said))
        await asyncio.sleep(1)
        assert models.names == ["m"]
        if trouble == "the broker is away":
            server.set_available(False)
            await asyncio.sleep(3600)
            server.set_available(True)
        else:
            loop.now += 3600
        await asyncio.sleep(2 * PRESENCE_EVERY_S)
        assert (models.names, models.node_count) == (["m"], 0)
        await asyncio.sleep(KNOWN_FOR_S + PRESENCE_EVERY_S)
        assert models.names == []
        await listener.aclose()

    try:
        loop.run_until_complete(scenario())
    finally:
        loop.close()
