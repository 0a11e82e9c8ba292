"""Gathering messages into batches."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from broker.interface import ConsumerClosed, Kind
from broker.memory import MemoryBroker
from management.ledger.inbox import Inbox
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TOPIC = "persistent://public/default/results"


@pytest.fixture
async def broker() -> AsyncIterator[MemoryBroker]:
    broker = MemoryBroker()
    await broker.ensure(TOPIC, "ledger")
    yield broker
    await broker.aclose()


async def _inbox(broker: MemoryBroker, *, events_max: int = 10, bytes_max: int = 1_000) -> Inbox:
    consumer = await broker.consumer(TOPIC, "ledger", Kind.FAILOVER, prefetch=1)
    return Inbox(consumer, events_max=events_max, bytes_max=bytes_max)


async def _publish(broker: MemoryBroker, *payloads: bytes) -> None:
    producer = await broker.producer(TOPIC)
    for payload in payloads:
        await producer.send(payload)


async def test_a_full_batch_is_not_waited_for(broker: MemoryBroker) -> None:
    inbox = await _inbox(broker, events_max=2)
    await _publish(broker, b"1", b"2", b"3")
    batch = await asyncio.wait_for(inbox.batch(age_s=600), 5)
    assert [delivery.payload for delivery in batch] == [b"1", b"2"]
    await inbox.aclose()


async def test_an_old_batch_is_taken_as_it_is(broker: MemoryBroker) -> None:
    inbox = await _inbox(broker)
    await _publish(broker, b"1")
    batch = await asyncio.wait_for(inbox.batch(age_s=0.01), 5)
    assert [delivery.payload for delivery in batch] == [b"1"]
    await inbox.aclose()


async def test_large_messages_complete_a_batch_and_stop_the_reading(broker: MemoryBroker) -> None:
    inbox = await _inbox(broker, bytes_max=100)
    await _publish(broker, b"x" * 60, b"y" * 60, b"z" * 60, b"0" * 60)
    assert len(await asyncio.wait_for(inbox.batch(age_s=600), 5)) == 2
    subscription = broker.server.topic(TOPIC).subscription("ledger")
    await until(lambda: subscription.held == 4)
    assert len(await asyncio.wait_for(inbox.batch(age_s=600), 5)) == 2
    await inbox.aclose()


async def test_nothing_is_read_beyond_the_batch_that_waits_and_the_prefetch(broker: MemoryBroker) -> None:
    inbox = await _inbox(broker, events_max=2)
    await _publish(broker, *(b"x" for _ in range(50)))
    subscription = broker.server.topic(TOPIC).subscription("ledger")
    await until(lambda: subscription.held == 3)
    assert subscription.backlog == 47
    await inbox.aclose()


async def test_a_hurried_inbox_hands_out_what_is_there(broker: MemoryBroker) -> None:
    inbox = await _inbox(broker)
    waiting = asyncio.create_task(inbox.batch(age_s=600))
    inbox.hurry()
    assert await asyncio.wait_for(waiting, 5) == []
    await inbox.aclose()


async def test_the_end_of_the_consumer_is_told_after_its_last_message(broker: MemoryBroker) -> None:
    inbox = await _inbox(broker)
    await _publish(broker, b"1")
    await until(lambda: broker.server.topic(TOPIC).subscription("ledger").held == 1)
    await broker.aclose()
    assert len(await asyncio.wait_for(inbox.batch(age_s=600), 5)) == 1
    with pytest.raises(ConsumerClosed):
        await asyncio.wait_for(inbox.batch(age_s=600), 5)
    await inbox.aclose()


async def test_a_full_inbox_can_be_closed(broker: MemoryBroker) -> None:
    inbox = await _inbox(broker, events_max=1)
    await _publish(broker, b"1", b"2", b"3")
    subscription = broker.server.topic(TOPIC).subscription("ledger")
    await until(lambda: subscription.held == 2)
    await asyncio.wait_for(inbox.aclose(), 5)
    assert (subscription.held, subscription.backlog) == (0, 3)
