"""What the memory broker has beyond the contract: its limits, its seams for tests, and its countable state."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from broker.interface import BrokerUnavailable, Kind, SendRejected
from broker.memory import MemoryBroker, MemoryServer
from broker.open import open_broker
from tests.waiting import until

TOPIC = "persistent://public/default/model"
PASSING = "non-persistent://public/default/link"


async def test_its_state_can_be_counted() -> None:
    broker = MemoryBroker()
    worker = await broker.consumer(TOPIC, "workers", Kind.SHARED)
    producer = await broker.producer(TOPIC)
    for number in range(3):
        await producer.send(b"%d" % number)
    held = await worker.receive()
    waiting = asyncio.ensure_future(worker.receive())
    await waiting
    blocked = [asyncio.ensure_future(worker.receive()) for _ in range(3)]
    await asyncio.sleep(0)
    topic = broker.server.topic(TOPIC)
    assert repr(topic) == (f"<{TOPIC} kept=3 dropped=0 [<workers backlog=0 held=3 consumers=1 permits=2>]>")
    worker.ack(held)
    assert "kept=2" in repr(broker)
    await broker.aclose()
    assert "<workers backlog=2 held=0 consumers=0 permits=0>" in repr(topic)
    await asyncio.wait(blocked)
    assert sum(task.exception() is not None for task in blocked) == 2


async def test_connections_to_one_server_see_the_same_topics_and_close_alone() -> None:
    server = MemoryServer()
    gateway, node = MemoryBroker(server), MemoryBroker(server)
    worker = await node.consumer(TOPIC, "workers", Kind.SHARED)
    producer = await gateway.producer(TOPIC)
    await producer.send(b"work")
    assert (await worker.receive()).payload == b"work"
    await node.aclose()
    assert gateway.connected
    assert not node.connected
    assert "backlog=1 held=0" in repr(server)


async def test_what_no_subscription_asked_for_is_not_kept() -> None:
    broker = MemoryBroker(MemoryServer(messages_max=1))
    producer = await broker.producer(TOPIC)
    await producer.send(b"lost")
    await producer.send(b"lost too")
    late = await broker.consumer(TOPIC, "workers", Kind.SHARED, from_earliest=True)
    await producer.send(b"kept")
    assert (await late.receive()).payload == b"kept"


async def test_bytes_are_bounded_and_an_ack_makes_room() -> None:
    broker = MemoryBroker(MemoryServer(bytes_max=10))
    await broker.ensure(TOPIC, "one")
    await broker.ensure(TOPIC, "two")
    producer = await broker.producer(TOPIC)
    await producer.send(b"12345678")
    with pytest.raises(SendRejected, match="10 bytes"):
        await producer.send(b"123")
    producer.post(b"123")
    for name in ("one", "two"):
        with pytest.raises(SendRejected):
            await producer.send(b"123")
        reader = await broker.consumer(TOPIC, name, Kind.SHARED)
        reader.ack(await reader.receive())
    await producer.send(b"123")
    assert "messages=1 bytes=3" in repr(broker)


async def test_the_next_passing_messages_can_be_dropped() -> None:
    broker = MemoryBroker()
    heard: list[bytes] = []
    await broker.listen(PASSING, heard.append, waiting_max=10)
    producer = await broker.producer(PASSING)
    broker.server.drop_next(PASSING, 2)
    for number in range(4):
        producer.post(b"%d" % number)
    await until(lambda: heard == [b"2", b"3"])
    assert "dropped=2" in repr(broker.server.topic(PASSING))


async def test_calls_that_wait_go_on_after_an_outage() -> None:
    broker = MemoryBroker()
    worker = await broker.consumer(TOPIC, "workers", Kind.SHARED)
    producer = await broker.producer(TOPIC)
    waiting = asyncio.ensure_future(worker.receive())
    await asyncio.sleep(0)
    broker.server.set_available(False)
    assert not broker.connected
    with pytest.raises(BrokerUnavailable):
        await producer.send(b"during")
    with pytest.raises(BrokerUnavailable):
        await MemoryBroker(broker.server).connect()
    assert not waiting.done()
    broker.server.set_available(True)
    assert broker.connected
    await producer.send(b"after")
    assert (await waiting).payload == b"after"


async def test_what_a_lost_connection_held_goes_to_others_and_its_calls_go_on_when_it_is_found_again() -> None:
    server = MemoryServer()
    broker, other = MemoryBroker(server), MemoryBroker(server)
    worker = await broker.consumer(TOPIC, "workers", Kind.SHARED)
    heard: list[bytes] = []
    await broker.listen(PASSING, heard.append, waiting_max=10)
    producer, passing = await other.producer(TOPIC), await other.producer(PASSING)
    await producer.send(b"held")
    held = await worker.receive()
    waiting = asyncio.ensure_future(worker.receive())
    await asyncio.sleep(0)
    broker.set_lost(True)
    assert not broker.connected
    assert (await (await other.consumer(TOPIC, "workers", Kind.SHARED)).receive()).payload == b"held"
    await passing.send(b"lost")
    await producer.send(b"kept")
    broker.set_lost(False)
    await passing.send(b"heard")
    assert (await waiting).payload == b"kept"
    assert heard == [b"heard"]
    worker.ack(held)
    assert "held=1" in repr(server.topic(TOPIC))


async def test_an_unload_of_all_topics_gives_everything_that_is_held_once_more() -> None:
    broker = MemoryBroker()
    for topic in (TOPIC, f"{TOPIC}-2"):
        worker = await broker.consumer(topic, "workers", Kind.SHARED)
        await (await broker.producer(topic)).send(topic.encode())
        await worker.receive()
        broker.server.unload_all()
        assert (await worker.receive()).payload == topic.encode()


async def test_a_nack_without_delay_comes_back_with_the_next_turns_of_the_loop() -> None:
    broker = MemoryBroker(MemoryServer(nack_tick_s=0, nack_delay_s=0))
    worker = await broker.consumer(TOPIC, "workers", Kind.SHARED)
    producer = await broker.producer(TOPIC)
    await producer.send(b"again")
    await producer.send(b"later")
    worker.nack(await worker.receive())
    for _ in range(5):
        await asyncio.sleep(0)
    assert (await worker.receive()).payload == b"again"


async def test_a_reader_of_a_long_backlog_lets_others_run() -> None:
    broker = MemoryBroker()
    await broker.ensure(TOPIC, "workers")
    producer = await broker.producer(TOPIC)
    for _ in range(300):
        producer.post(b"x")
    worker = await broker.consumer(TOPIC, "workers", Kind.SHARED)
    turns: list[None] = []
    asyncio.get_running_loop().call_soon(turns.append, None)
    for _ in range(100):
        await worker.receive()
    assert turns


def test_it_says_that_it_is_not_durable() -> None:
    assert not open_broker("memory:").durable


def test_opening_it_needs_no_pulsar_client() -> None:
    code = "import sys; from broker.open import open_broker; open_broker('memory:'); print('_pulsar' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("url", ["", "kafka://host", "localhost:6650"])
def test_another_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="pulsar"):
        open_broker(url)
