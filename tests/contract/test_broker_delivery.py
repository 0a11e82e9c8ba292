"""Who gets a message, and when: the same for every broker."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from broker.interface import Kind
from tests.contract.waiting import Pull, take, take_all, until

if TYPE_CHECKING:
    from broker.interface import Consumer, Delivery
    from tests.contract.conftest import Place


async def test_a_message_arrives_as_it_was_sent(broker: Place) -> None:
    connection = await broker.connect()
    consumer = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    producer = await connection.producer(broker.topic())
    payload = bytes(range(256)) * 3
    await producer.send(payload)
    delivery = await take(consumer)
    assert delivery.payload == payload
    assert abs(delivery.published_ms - time.time() * 1000) < 10_000


async def test_messages_of_one_producer_arrive_in_the_order_of_the_calls(broker: Place) -> None:
    connection = await broker.connect()
    consumer = await connection.consumer(broker.topic(), "reader", Kind.EXCLUSIVE, prefetch=100)
    producer = await connection.producer(broker.topic())
    sends = []
    for number in range(0, 200, 2):
        sends.append(asyncio.ensure_future(producer.send(b"%d" % number)))
        await asyncio.sleep(0)  # The call is made when the task first runs.
        producer.post(b"%d" % (number + 1))
    await asyncio.gather(*sends)
    assert await take_all(consumer, 200) == [b"%d" % number for number in range(200)]


async def test_gathered_messages_arrive_in_order_too(broker: Place) -> None:
    connection = await broker.connect()
    consumer = await connection.consumer(broker.topic(), "reader", Kind.FAILOVER, prefetch=10)
    producer = await connection.producer(broker.topic(), gather_ms=20)
    await asyncio.gather(*(producer.send(b"%d" % number) for number in range(50)))
    assert await take_all(consumer, 50) == [b"%d" % number for number in range(50)]


async def test_a_busy_consumer_gets_no_more_than_its_permits(broker: Place) -> None:
    connection, other = await broker.connect(), await broker.connect()
    await connection.ensure(broker.topic(), "workers")
    busy = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    free = await other.consumer(broker.topic(), "workers", Kind.SHARED)
    producer = await connection.producer(broker.topic())
    slots = Pull(busy, 2)
    for number in range(24):
        await producer.send(b"%d" % number)
    held = await slots.done(2)
    drained = await take_all(free, 22)
    assert len(held) == 2
    assert sorted(held + drained) == sorted(b"%d" % number for number in range(24))


async def test_a_burst_spreads_over_all_that_are_free(broker: Place) -> None:
    connection = await broker.connect()
    consumers = [await connection.consumer(broker.topic(), "workers", Kind.SHARED) for _ in range(3)]
    slots = [Pull(consumer, 12) for consumer in consumers]
    producer = await connection.producer(broker.topic())
    # The permits travel to the broker too; these three are there once each has brought a message.
    for number in range(30):
        await producer.send(b"%d" % number)
    await until(lambda: sum(len(slot.payloads) for slot in slots) == 30)
    assert min(len(slot.payloads) for slot in slots) >= 8


async def test_every_subscription_gets_every_message(broker: Place) -> None:
    connection = await broker.connect()
    readers = [await connection.consumer(broker.topic(), name, Kind.SHARED) for name in ("one", "two")]
    producer = await connection.producer(broker.topic())
    await producer.send(b"news")
    assert [await take_all(reader, 1) for reader in readers] == [[b"news"], [b"news"]]


async def test_a_new_subscription_starts_with_the_next_message(broker: Place) -> None:
    connection = await broker.connect()
    await connection.ensure(broker.topic(), "keeper")
    producer = await connection.producer(broker.topic())
    await producer.send(b"before")
    reader = await connection.consumer(broker.topic(), "reader", Kind.SHARED)
    await producer.send(b"after")
    assert await take_all(reader, 1) == [b"after"]


async def test_a_new_subscription_may_start_with_the_oldest_kept_message(broker: Place) -> None:
    connection = await broker.connect()
    await connection.ensure(broker.topic(), "keeper")
    producer = await connection.producer(broker.topic())
    for number in range(3):
        await producer.send(b"%d" % number)
    reader = await connection.consumer(broker.topic(), "reader", Kind.SHARED, from_earliest=True)
    assert await take_all(reader, 3) == [b"0", b"1", b"2"]


async def test_an_ensured_subscription_keeps_what_nobody_reads_yet(broker: Place) -> None:
    connection = await broker.connect()
    await connection.ensure(broker.topic(), "workers")
    producer = await connection.producer(broker.topic())
    for number in range(5):
        await producer.send(b"%d" % number)
    await connection.aclose()
    later = await broker.connect()
    consumer = await later.consumer(broker.topic(), "workers", Kind.SHARED)
    assert await take_all(consumer, 5) == [b"0", b"1", b"2", b"3", b"4"]


async def test_ensure_takes_no_message_and_may_be_repeated(broker: Place) -> None:
    connection = await broker.connect()
    await connection.ensure(broker.topic(), "workers")
    producer = await connection.producer(broker.topic())
    for number in range(3):
        await producer.send(b"%d" % number)
    for _ in range(3):
        other = await broker.connect()
        await other.ensure(broker.topic(), "workers")
        await other.ensure(broker.topic(), "workers")
    consumer = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    assert await take_all(consumer, 3) == [b"0", b"1", b"2"]


async def test_ensure_disturbs_no_consumer_of_any_kind(broker: Place) -> None:
    connection, other = await broker.connect(), await broker.connect()
    for kind in Kind:
        topic = broker.topic(kind.value)
        consumer = await connection.consumer(topic, "readers", kind)
        slot = Pull(consumer, 1)
        await other.ensure(topic, "readers")
        producer = await other.producer(topic)
        await producer.send(b"still here")
        assert await slot.done() == [b"still here"]


async def test_a_failover_standby_takes_over_in_order(broker: Place) -> None:
    connection, other = await broker.connect(), await broker.connect()
    consumers = [await each.consumer(broker.topic(), "readers", Kind.FAILOVER) for each in (connection, other)]
    slots = [Pull(consumer, 3) for consumer in consumers]
    producer = await connection.producer(broker.topic())
    for number in range(3):
        await producer.send(b"%d" % number)
    await until(lambda: any(len(slot.payloads) == 3 for slot in slots))
    assert sorted(len(slot.payloads) for slot in slots) == [0, 3]
    active = 0 if slots[0].payloads else 1
    await consumers[active].aclose()
    assert await slots[1 - active].done(3) == [b"0", b"1", b"2"]


async def test_prefetch_makes_room_before_anybody_asks(broker: Place) -> None:
    connection = await broker.connect()
    consumers = [await connection.consumer(broker.topic(), kind.value, kind, prefetch=200) for kind in Kind]
    producer = await connection.producer(broker.topic())
    for number in range(150):
        producer.post(b"%d" % number)
    for consumer in consumers:
        assert await take_all(consumer, 150) == [b"%d" % number for number in range(150)]


async def test_who_joins_with_much_room_takes_a_backlog_of_any_length_in_order(broker: Place) -> None:
    connection = await broker.connect()
    await connection.ensure(broker.topic(), "ledger")
    producer = await connection.producer(broker.topic())
    for number in range(1_000):
        producer.post(b"%d" % number)
    await producer.send(b"1000")
    consumer = await connection.consumer(broker.topic(), "ledger", Kind.FAILOVER, prefetch=2_000)
    assert await take_all(consumer, 1_001) == [b"%d" % number for number in range(1_001)]


async def test_an_abandoned_receive_loses_nothing(broker: Place) -> None:
    connection = await broker.connect()
    consumer = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    abandoned = Pull(consumer, 3)
    await asyncio.sleep(0)
    abandoned.abandon()
    assert await abandoned.ended() == [None, None, None]
    producer = await connection.producer(broker.topic())
    for number in range(5):
        await producer.send(b"%d" % number)
    assert sorted(await take_all(consumer, 5)) == [b"0", b"1", b"2", b"3", b"4"]


async def test_the_permit_of_an_abandoned_receive_serves_the_next_call(broker: Place) -> None:
    connection = await broker.connect()
    await connection.ensure(broker.topic(), "workers")
    busy = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    free = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    abandoned = Pull(busy, 1)
    await asyncio.sleep(0)
    abandoned.abandon()
    await abandoned.ended()
    slot = Pull(busy, 1)
    producer = await connection.producer(broker.topic())
    for number in range(4):
        await producer.send(b"%d" % number)
    assert len(set(await slot.done() + await take_all(free, 3))) == 4


async def test_a_receive_abandoned_as_its_message_arrives_loses_nothing(broker: Place) -> None:
    connection = await broker.connect()
    consumer = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    producer = await connection.producer(broker.topic())
    seen = set()
    for number in range(40):
        slot = Pull(consumer, 1)
        await producer.send(b"%d" % number)
        slot.abandon()
        await slot.ended()
        seen |= set(slot.payloads)
        if not slot.payloads:
            seen |= set(await take_all(consumer, 1))
    assert seen == {b"%d" % number for number in range(40)}


async def test_many_connections_read_what_one_wrote_exactly_once(broker: Place) -> None:
    connection = await broker.connect()
    await connection.ensure(broker.topic(), "workers")
    producer = await connection.producer(broker.topic())
    await asyncio.gather(*(producer.send(b"%d" % number) for number in range(100)))
    done: list[bytes] = []
    pulls = []
    for _ in range(3):
        consumer = await (await broker.connect()).consumer(broker.topic(), "workers", Kind.SHARED)
        pulls.append(asyncio.ensure_future(_work(consumer, done)))
    await until(lambda: len(done) >= 100)
    assert sorted(done) == sorted(b"%d" % number for number in range(100))
    await broker.aclose()
    await asyncio.wait(pulls)
    assert len([pull.exception() for pull in pulls]) == 3


async def _work(consumer: Consumer, done: list[bytes]) -> None:
    while True:
        delivery: Delivery = await consumer.receive()
        done.append(delivery.payload)
        consumer.ack(delivery)
