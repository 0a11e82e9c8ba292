"""What a broker refuses, and what ends with a close: the same for every broker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from broker.interface import (
    PAYLOAD_BYTES_MAX,
    BrokerError,
    BrokerUnavailable,
    ConsumerClosed,
    Kind,
    PayloadTooLarge,
    SendRejected,
)
from tests.contract.conftest import SENDS_MAX
from tests.contract.waiting import Pull, take, take_all

if TYPE_CHECKING:
    from tests.contract.conftest import Place


METADATA_BYTES = 1024
"""What a broker may need beside the payload, within the same limit."""


async def test_a_payload_just_below_the_limit_is_carried(broker: Place) -> None:
    connection = await broker.connect()
    consumer = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    producer = await connection.producer(broker.topic())
    size = PAYLOAD_BYTES_MAX - METADATA_BYTES
    await producer.send(b"x" * size)
    assert len((await take(consumer)).payload) == size


async def test_a_greater_payload_is_refused_and_the_next_one_goes_on(broker: Place) -> None:
    connection = await broker.connect()
    consumer = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    producer = await connection.producer(broker.topic())
    with pytest.raises(PayloadTooLarge):
        await producer.send(b"x" * (PAYLOAD_BYTES_MAX + 1))
    producer.post(b"x" * (PAYLOAD_BYTES_MAX + 1))
    await producer.send(b"fits")
    assert await take_all(consumer, 1) == [b"fits"]


async def test_sends_above_the_limit_are_rejected_and_the_others_arrive(broker: Place) -> None:
    connection = await broker.narrow()
    await connection.ensure(broker.topic(), "workers")
    producer = await connection.producer(broker.topic())
    ends = await asyncio.gather(*(producer.send(b"%d" % number) for number in range(50)), return_exceptions=True)
    accepted = [b"%d" % number for number, end in enumerate(ends) if end is None]
    assert len(accepted) >= SENDS_MAX
    assert all(isinstance(end, SendRejected) for end in ends if end is not None)
    assert any(isinstance(end, SendRejected) for end in ends)
    consumer = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    assert await take_all(consumer, len(accepted)) == accepted
    await producer.send(b"there is room again")
    assert await take_all(consumer, 1) == [b"there is room again"]


async def test_posts_above_the_limit_are_lost_without_an_error(broker: Place) -> None:
    connection = await broker.narrow()
    await connection.ensure(broker.topic(), "workers")
    producer = await connection.producer(broker.topic())
    for number in range(5_000):
        producer.post(b"%d" % number)
    consumer = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    assert await take_all(consumer, SENDS_MAX) == [b"%d" % number for number in range(SENDS_MAX)]


async def test_a_second_exclusive_consumer_is_refused(broker: Place) -> None:
    connection, other = await broker.connect(), await broker.connect()
    first = await connection.consumer(broker.topic(), "reader", Kind.EXCLUSIVE)
    with pytest.raises(BrokerError, match="reader"):
        await other.consumer(broker.topic(), "reader", Kind.EXCLUSIVE)
    await first.aclose()
    await other.consumer(broker.topic(), "reader", Kind.EXCLUSIVE)


async def test_a_consumer_of_another_kind_is_refused(broker: Place) -> None:
    connection = await broker.connect()
    await connection.consumer(broker.topic(), "readers", Kind.SHARED)
    with pytest.raises(BrokerError):
        await connection.consumer(broker.topic(), "readers", Kind.FAILOVER)


async def test_a_closed_consumer_ends_the_calls_that_wait_and_those_that_come(broker: Place) -> None:
    connection = await broker.connect()
    consumer = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    slots = Pull(consumer, 3)
    await asyncio.sleep(0)
    await consumer.aclose()
    await consumer.aclose()
    assert [type(end) for end in await slots.ended()] == [ConsumerClosed] * 3
    with pytest.raises(ConsumerClosed):
        await consumer.receive()


async def test_a_closed_connection_closes_what_it_opened(broker: Place) -> None:
    connection = await broker.connect()
    consumer = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    producer = await connection.producer(broker.topic())
    slot = Pull(consumer, 1)
    await asyncio.sleep(0)
    assert connection.connected
    await connection.aclose()
    await connection.aclose()
    assert not connection.connected
    assert [type(end) for end in await slot.ended()] == [ConsumerClosed]
    with pytest.raises(BrokerUnavailable):
        await producer.send(b"too late")
    producer.post(b"too late")
    with pytest.raises(BrokerUnavailable):
        await connection.producer(broker.topic())


async def test_a_closed_producer_has_flushed_and_sends_nothing_more(broker: Place) -> None:
    connection = await broker.connect()
    consumer = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    producer = await connection.producer(broker.topic(), gather_ms=500)
    producer.post(b"last words")
    await producer.aclose()
    await producer.aclose()
    with pytest.raises(BrokerUnavailable):
        await producer.send(b"too late")
    producer.post(b"too late")
    other = await connection.producer(broker.topic())
    await other.send(b"from another")
    assert await take_all(consumer, 2) == [b"last words", b"from another"]


async def test_the_first_call_connects(broker: Place) -> None:
    connection = broker.unconnected()
    assert not connection.connected or not connection.durable
    await connection.producer(broker.topic())
    assert connection.connected
