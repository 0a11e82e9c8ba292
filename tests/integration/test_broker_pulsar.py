"""Outages of a real Pulsar broker, and what its client must not be trusted with."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING

import aiohttp
import pytest

from broker.interface import BrokerUnavailable, Kind, SendRejected, SendUnknown
from broker.pulsar import PulsarBroker, PulsarLimits
from broker.pulsar.prefetching_consumer import PrefetchingConsumer
from tests.contract.waiting import Pull, take, take_all, until
from tests.pulsar_server import PulsarServer
from tests.tcp_proxy import TcpProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from broker.interface import Producer

pytestmark = [pytest.mark.pulsar, pytest.mark.timeout(120)]

BACK_S = 10.0
"""Within this time after the broker can be used again, so can we."""


either = pytest.mark.parametrize("prefetch", [pytest.param(0, id="channel"), pytest.param(10, id="library")])
"""A consumer that pulls lives in the event loop, one that prefetches in the client library."""


@pytest.fixture
def topic() -> str:
    return f"persistent://public/default/outage-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def fragile_server(pulsar_server: PulsarServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PulsarServer]:
    """A broker of our own, because the tests kill it. It is only started where the shared one could be."""
    server = PulsarServer(tmp_path_factory.mktemp("fragile"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def proxy(pulsar_server: PulsarServer) -> AsyncIterator[TcpProxy]:
    async with TcpProxy("127.0.0.1", pulsar_server.port) as proxy:
        yield proxy


async def test_a_connection_of_nobody_notices_a_broker_that_was_killed(fragile_server: PulsarServer) -> None:
    connection = PulsarBroker(fragile_server.url, limits=PulsarLimits(watch_interval_s=0.1))
    await connection.connect()
    fragile_server.kill()
    await until(lambda: not connection.connected, 5.0)
    await asyncio.to_thread(fragile_server.start)
    await until(lambda: connection.connected, BACK_S)
    await connection.aclose()


async def _send_until_confirmed(producer: Producer, payload: bytes, seconds: float) -> float:
    """How long it took until a send was confirmed."""
    started = time.monotonic()
    while True:
        try:
            await producer.send(payload)
        except BrokerUnavailable:
            if time.monotonic() - started > seconds:
                pytest.fail(f"No send was confirmed within {seconds} s.")
            await asyncio.sleep(0.05)
        else:
            return time.monotonic() - started


@either
async def test_service_resumes_after_the_broker_was_killed(
    fragile_server: PulsarServer, topic: str, prefetch: int
) -> None:
    passing = topic.replace("persistent", "non-persistent")
    connection = PulsarBroker(fragile_server.url)
    await connection.ensure(topic, "workers")
    worker = await connection.consumer(topic, "workers", Kind.SHARED, prefetch=prefetch)
    heard: list[bytes] = []
    await connection.listen(passing, heard.append, waiting_max=1000)
    producer = await connection.producer(topic)
    beacon = await connection.producer(passing)
    await producer.send(b"held")
    held = await take(worker)
    slots = Pull(worker, 2)
    fragile_server.kill()
    await until(lambda: not connection.connected, 2.5)
    started = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=r"pulsar://127\.0\.0\.1") as refused:
        await producer.send(b"during")
    assert time.monotonic() - started < 0.5
    assert not isinstance(refused.value, SendUnknown)

    await asyncio.to_thread(fragile_server.start)
    ready = time.monotonic()
    await _send_until_confirmed(producer, b"after", BACK_S)
    assert connection.connected
    # The held one comes again, to a call that waited all the time; so does the new one.
    assert sorted(set(await slots.done(2, BACK_S))) == [b"after", b"held"]
    while not heard:
        beacon.post(b"beacon")
        await asyncio.sleep(0.02)
        assert time.monotonic() - ready < BACK_S
    worker.ack(held)
    await connection.aclose()


async def test_a_send_under_way_when_the_broker_dies_ends_as_unknown(fragile_server: PulsarServer, topic: str) -> None:
    connection = PulsarBroker(fragile_server.url, limits=PulsarLimits(send_timeout_ms=1_000))
    producer = await connection.producer(topic)
    await producer.send(b"before")
    fragile_server.freeze()
    send = asyncio.ensure_future(producer.send(b"under way"))
    await asyncio.sleep(0)
    fragile_server.kill()
    with pytest.raises(SendUnknown):
        await send
    await asyncio.to_thread(fragile_server.start)
    await _send_until_confirmed(producer, b"after", BACK_S)
    await connection.aclose()


@pytest.mark.parametrize("gathers", [False, True])
async def test_a_listener_far_away_hears_what_is_published_once_it_listens(
    pulsar_url: str, proxy: TcpProxy, topic: str, gathers: bool
) -> None:
    """What overtakes a reader's permits on their way is dropped by the broker."""
    passing = topic.replace("persistent", "non-persistent")
    near, far = PulsarBroker(pulsar_url), PulsarBroker(f"pulsar://127.0.0.1:{proxy.port}")
    await far.connect()
    producer = await near.producer(passing)
    proxy.latency_s = 0.1
    heard: list[bytes] = []
    await far.listen(passing, heard.append, waiting_max=1000, gathers=gathers)
    await producer.send(b"now")
    await until(lambda: heard == [b"now"])
    await far.aclose()
    await near.aclose()


@either
async def test_service_resumes_after_the_connection_was_reset(proxy: TcpProxy, topic: str, prefetch: int) -> None:
    connection = PulsarBroker(f"pulsar://127.0.0.1:{proxy.port}")
    worker = await connection.consumer(topic, "workers", Kind.SHARED, prefetch=prefetch)
    producer = await connection.producer(topic)
    await producer.send(b"before")
    assert await take_all(worker, 1) == [b"before"]
    # The acknowledgement may not have been written yet, and then that message comes again.
    slots = Pull(worker, 2)
    proxy.reset()
    await _send_until_confirmed(producer, b"after", BACK_S)
    await until(lambda: b"after" in slots.payloads)
    await connection.aclose()


@either
async def test_service_resumes_after_the_connection_fell_silent(proxy: TcpProxy, topic: str, prefetch: int) -> None:
    connection = PulsarBroker(f"pulsar://127.0.0.1:{proxy.port}")
    await connection.ensure(topic, "workers")
    worker = await connection.consumer(topic, "workers", Kind.SHARED, prefetch=prefetch)
    producer = await connection.producer(topic)
    slot = Pull(worker, 1)
    proxy.blackhole()
    await until(lambda: not connection.connected, 20.0)
    with pytest.raises(BrokerUnavailable):
        await producer.send(b"during")
    # The old connections stay silent for ever, as behind a router that has forgotten them.
    proxy.forget()
    proxy.restore()
    await _send_until_confirmed(producer, b"after", BACK_S)
    assert await slot.done(1, BACK_S) == [b"after"]
    await connection.aclose()


async def test_a_consumer_that_the_library_gave_up_is_joined_anew(pulsar_url: str, topic: str) -> None:
    connection = PulsarBroker(pulsar_url, limits=PulsarLimits(watch_interval_s=0.2))
    await connection.ensure(topic, "workers")
    worker = await connection.consumer(topic, "workers", Kind.SHARED, prefetch=10)
    producer = await connection.producer(topic, gather_ms=1)
    assert isinstance(worker, PrefetchingConsumer)
    library = connection.library
    assert library is not None
    client = library.client
    await producer.send(b"held")
    assert (await take(worker)).payload == b"held"
    slots = Pull(worker, 2)
    # As after an answer of the broker that the library does not come back from.
    worker._inner.close_async(None)
    await until(lambda: not worker.connected)
    await producer.send(b"after")
    assert sorted(await slots.done(2, BACK_S)) == [b"after", b"held"]
    # The others of this connection were left alone.
    assert library.client is client
    assert connection.connected
    await connection.aclose()


async def test_who_prefetches_makes_no_topic_of_partitions(pulsar_server: PulsarServer) -> None:
    """The client library would have one made where a namespace parts its topics, and nobody else could use it."""
    namespace = f"public/parted-{uuid.uuid4().hex[:12]}"
    admin = f"{pulsar_server.admin_url}/admin/v2/namespaces/{namespace}"
    policy = {"allowAutoTopicCreation": True, "topicType": "partitioned", "defaultNumPartitions": 2}
    async with aiohttp.ClientSession() as session:
        for call in (session.put(admin, json={}), session.post(f"{admin}/autoTopicCreation", json=policy)):
            async with call as response:
                assert response.status == 204, await response.text()
    connection = PulsarBroker(pulsar_server.url)
    ledger = await connection.consumer(
        f"persistent://{namespace}/results", "ledger", Kind.FAILOVER, prefetch=10, from_earliest=True
    )
    await (await connection.producer(f"persistent://{namespace}/results")).send(b"event")
    assert await take_all(ledger, 1) == [b"event"]
    await connection.aclose()


async def test_what_the_broker_closes_is_joined_anew_at_once(pulsar_server: PulsarServer, topic: str) -> None:
    """As when it moves a topic to another broker."""
    passing = topic.replace("persistent", "non-persistent")
    connection = PulsarBroker(pulsar_server.url)
    worker = await connection.consumer(topic, "workers", Kind.SHARED)
    producer, beacon = await connection.producer(topic), await connection.producer(passing)
    heard: list[bytes] = []
    listener = await connection.listen(passing, heard.append, waiting_max=1000)
    await producer.send(b"held")
    held = await take(worker)
    slots = Pull(worker, 2)
    for each in (topic, passing):
        await asyncio.to_thread(pulsar_server.unload, each)
    assert connection.connected
    await until(lambda: all(member.connected for member in (worker, producer, beacon, listener)))
    await producer.send(b"after")
    # The held one comes again, to a call that waited all the time.
    assert sorted(await slots.done(2)) == [b"after", b"held"]
    await beacon.send(b"beacon")
    await until(lambda: heard == [b"beacon"])
    # Who has it is no matter: its acknowledgement counts.
    worker.ack(held)
    await worker.aclose()
    worker = await connection.consumer(topic, "workers", Kind.SHARED)
    assert await take_all(worker, 1) == [b"after"]
    await connection.aclose()


async def test_what_a_silent_connection_held_comes_again_and_its_late_ack_counts(proxy: TcpProxy, topic: str) -> None:
    connection = PulsarBroker(f"pulsar://127.0.0.1:{proxy.port}")
    await connection.ensure(topic, "workers")
    worker = await connection.consumer(topic, "workers", Kind.SHARED)
    producer = await connection.producer(topic)
    await producer.send(b"long work")
    held = await take(worker)
    slot = Pull(worker, 1)
    proxy.forget()
    assert await slot.done(1, 30.0) == [b"long work"]
    worker.ack(held)
    await producer.send(b"next")
    await worker.aclose()
    worker = await connection.consumer(topic, "workers", Kind.SHARED)
    assert await take_all(worker, 1) == [b"next"]
    await connection.aclose()


@either
async def test_a_slow_connection_is_not_taken_for_a_lost_one(proxy: TcpProxy, topic: str, prefetch: int) -> None:
    proxy.latency_s = 0.15
    limits = PulsarLimits(watch_interval_s=0.2)
    connection = PulsarBroker(f"pulsar://127.0.0.1:{proxy.port}", limits=limits)
    worker = await connection.consumer(topic, "workers", Kind.SHARED, prefetch=prefetch)
    producer = await connection.producer(topic)
    client = connection.library and connection.library.client
    for _ in range(4):
        await producer.send(b"slow")
        assert (await take(worker)).payload == b"slow"
    assert (connection.library and connection.library.client) is client
    assert connection.connected
    await connection.aclose()


async def test_the_bytes_under_way_are_bounded(pulsar_url: str, topic: str) -> None:
    connection = PulsarBroker(pulsar_url, limits=PulsarLimits(pending_bytes_max=10_000))
    producer = await connection.producer(topic)
    ends = await asyncio.gather(*(producer.send(b"x" * 1_000) for _ in range(30)), return_exceptions=True)
    assert [type(end) for end in ends] == [type(None)] * 10 + [SendRejected] * 20
    await producer.send(b"there is room again")
    assert connection.window.count == connection.window.bytes == 0
    bulk = await connection.producer(topic, gather_ms=1)
    for _ in range(1_000):
        bulk.post(b"x" * 100)
    assert connection.window.full
    await until(lambda: connection.window.count == connection.window.bytes == 0)
    await connection.aclose()


@pytest.mark.parametrize(
    ("address", "reason"), [("127.0.0.1:1", "nothing listens there"), ("no-such-host.invalid:6650", ".*not known")]
)
async def test_a_wrong_address_is_named_in_bounded_time(address: str, reason: str) -> None:
    connection = PulsarBroker(f"pulsar://someone:secret@{address}")
    started = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=f"pulsar://{address} failed: {reason}") as refused:
        await connection.connect()
    assert "secret" not in str(refused.value)
    assert time.monotonic() - started < 6.0
    assert not connection.connected
    await connection.aclose()


async def test_a_port_that_accepts_and_never_answers_is_unavailable_in_bounded_time(proxy: TcpProxy) -> None:
    proxy.blackhole()
    limits = PulsarLimits(connect_timeout_s=0.5)
    connection = PulsarBroker(f"pulsar://127.0.0.1:{proxy.port}", limits=limits)
    started = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=f"127.0.0.1:{proxy.port}"):
        await connection.connect()
    assert time.monotonic() - started < 3.0
    await connection.aclose()
    proxy.restore()


async def test_a_connection_that_failed_may_be_tried_again(proxy: TcpProxy, topic: str) -> None:
    proxy.blackhole()
    limits = PulsarLimits(connect_timeout_s=0.5)
    connection = PulsarBroker(f"pulsar://127.0.0.1:{proxy.port}", limits=limits)
    with pytest.raises(BrokerUnavailable):
        await connection.connect()
    proxy.restore()
    producer = await connection.producer(topic)
    await producer.send(b"hello")
    await connection.aclose()
