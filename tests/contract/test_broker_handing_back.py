"""What becomes of a message that was received and not acknowledged: the same for every broker."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from broker.interface import Kind
from tests.contract.waiting import Pull, take, take_all, until

if TYPE_CHECKING:
    from tests.contract.conftest import Place


async def _send(place: Place, *payloads: bytes) -> None:
    producer = await (await place.connect()).producer(place.topic())
    for payload in payloads:
        await producer.send(payload)


async def test_an_acknowledged_message_does_not_come_again(broker: Place) -> None:
    connection = await broker.connect()
    first = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    await _send(broker, b"one", b"two")
    delivery = await take(first)
    first.ack(delivery)
    first.ack(delivery)
    await first.aclose()
    second = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    assert await take_all(second, 1) == [b"two"]


async def test_messages_that_are_acknowledged_together_do_not_come_again(broker: Place) -> None:
    connection = await broker.connect()
    first = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    await _send(broker, b"one", b"two", b"three", b"four")
    for delivery in [await take(first) for _ in range(3)]:
        first.ack(delivery)
    await first.aclose()
    second = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    assert await take_all(second, 1) == [b"four"]


async def test_a_closed_consumers_messages_go_to_the_others_at_once_and_first(broker: Place) -> None:
    connection, other = await broker.connect(), await broker.connect()
    leaving = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    staying = await other.consumer(broker.topic(), "workers", Kind.SHARED)
    await _send(broker, *(b"%d" % number for number in range(10)))
    held = [(await take(leaving)).payload for _ in range(3)]
    started = time.monotonic()
    await leaving.aclose()
    assert await take_all(staying, 3) == held
    assert time.monotonic() - started < 2.0
    assert await take_all(staying, 7) == [b"%d" % number for number in range(3, 10)]


async def test_a_closed_connections_messages_go_to_the_others_at_once(broker: Place) -> None:
    connection, other = await broker.connect(), await broker.connect()
    dying = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    staying = await other.consumer(broker.topic(), "workers", Kind.SHARED)
    await _send(broker, b"work")
    assert (await take(dying)).payload == b"work"
    slot = Pull(staying, 1)
    await connection.aclose()
    assert await slot.done() == [b"work"]


async def test_a_message_an_abandoned_receive_was_given_goes_to_the_others_too(broker: Place) -> None:
    connection = await broker.connect()
    leaving = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    abandoned = Pull(leaving, 1)
    await asyncio.sleep(0)
    abandoned.abandon()
    await abandoned.ended()
    await _send(broker, b"work")
    staying = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    slot = Pull(staying, 1)
    await leaving.aclose()
    assert await slot.done() == [b"work"]


async def test_a_nacked_message_comes_back_ahead_of_the_backlog(broker: Place) -> None:
    connection = await broker.connect()
    consumer = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    await _send(broker, *(b"%d" % number for number in range(50)))
    first = await take(consumer)
    started = time.monotonic()
    consumer.nack(first)
    seen: list[bytes] = []
    # The backlog is read at a pace at which it lasts longer than the way back takes.
    while first.payload not in seen:
        seen += await take_all(consumer, 1)
        await asyncio.sleep(0.03)
    assert time.monotonic() - started < 1.5
    assert len(seen) < 49


async def test_nacked_messages_come_back_in_time_while_others_are_nacked_steadily(broker: Place) -> None:
    connection = await broker.connect()
    consumer = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    await _send(broker, *(b"%d" % number for number in range(5)))
    nacked: dict[bytes, float] = {}
    back: dict[bytes, float] = {}
    ended = time.monotonic() + 3.0
    while time.monotonic() < ended:
        delivery = await take(consumer, seconds=2.0)
        now = time.monotonic()
        if delivery.payload in nacked:
            back[delivery.payload] = max(back.get(delivery.payload, 0.0), now - nacked[delivery.payload])
        nacked[delivery.payload] = now
        consumer.nack(delivery)
        await asyncio.sleep(0.05)
    assert len(back) == 5
    assert max(back.values()) < 1.5


async def test_a_nacked_message_may_go_to_another_consumer(broker: Place) -> None:
    connection = await broker.connect()
    tired = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    await _send(broker, b"work")
    tired.nack(await take(tired))
    fresh = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    assert (await take(fresh, seconds=1.5)).payload == b"work"


async def test_an_unload_redelivers_what_is_held_and_the_holders_later_ack_removes_it(broker: Place) -> None:
    connection, other = await broker.connect(), await broker.connect()
    holder = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    second = await other.consumer(broker.topic(), "workers", Kind.SHARED)
    await _send(broker, b"work")
    held = await take(holder)
    slot = Pull(second, 1)
    await asyncio.to_thread(broker.unload, broker.topic())
    assert await slot.done() == [b"work"]
    holder.ack(held)
    await _send(broker, b"next")
    assert (await take(holder)).payload == b"next"  # so it is attached again
    await holder.aclose()
    await second.aclose()
    third = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    assert (await take(third)).payload == b"next"


async def test_an_ack_after_the_message_went_elsewhere_is_harmless(broker: Place) -> None:
    connection = await broker.connect()
    first = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    await _send(broker, b"one", b"two")
    delivery = await take(first)
    await first.aclose()
    first.ack(delivery)
    first.nack(delivery)
    second = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    assert sorted(await take_all(second, 2)) == [b"one", b"two"]


async def test_a_message_that_came_twice_and_is_nacked_twice_comes_back_once_and_so_do_those_nacked_beside_it(
    broker: Place,
) -> None:
    connection = await broker.connect()
    consumer = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    await _send(broker, b"twice", b"beside")
    first, beside = await take(consumer), await take(consumer)
    await asyncio.to_thread(broker.unload, broker.topic())
    again = [await take(consumer), await take(consumer)]
    for delivery in (first, *again, beside):
        consumer.nack(delivery)
    assert sorted(await take_all(consumer, 2)) == [b"beside", b"twice"]
    slot = Pull(consumer, 1)
    await _send(broker, b"next")
    assert await slot.done() == [b"next"]


async def test_waiting_consumers_go_on_after_an_unload(broker: Place) -> None:
    connection = await broker.connect()
    consumer = await connection.consumer(broker.topic(), "workers", Kind.SHARED)
    slots = Pull(consumer, 2)
    producer = await connection.producer(broker.topic())
    await producer.send(b"one")
    await slots.done(1)
    await asyncio.to_thread(broker.unload, broker.topic())
    await producer.send(b"two")
    await until(lambda: len(slots.payloads) == 2)
