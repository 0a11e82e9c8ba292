"""Hearing non-persistent topics, whichever broker carries them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.contract.waiting import until

if TYPE_CHECKING:
    from tests.contract.conftest import Place

WAITING_MAX = 1000
pytestmark = pytest.mark.parametrize("gathers", [False, True])


async def test_every_listener_hears_what_is_published_from_then_on_in_order(broker: Place, gathers: bool) -> None:
    connection, other = await broker.connect(), await broker.connect()
    producer = await connection.producer(broker.passing_topic())
    producer.post(b"before anybody listened")
    await producer.send(b"and this")
    heard: tuple[list[bytes], list[bytes]] = ([], [])
    for place, hear in zip((connection, other), heard, strict=True):
        await place.listen(broker.passing_topic(), hear.append, waiting_max=WAITING_MAX, gathers=gathers)
    said = [b"%d" % number for number in range(300)]
    for begin in range(0, len(said), 30):  # more at once than a connection takes may be dropped
        for payload in said[begin : begin + 30]:
            producer.post(payload)
        await until(lambda: min(len(each) for each in heard) >= begin + 30)  # noqa: B023
    assert heard == (said, said)


async def test_what_finds_no_room_in_the_process_is_dropped(broker: Place, gathers: bool) -> None:
    connection = await broker.connect()
    heard: list[bytes] = []
    await connection.listen(broker.passing_topic(), heard.append, waiting_max=8, gathers=gathers)
    producer = await connection.producer(broker.passing_topic())
    for _ in range(500):
        producer.post(b"one of many")
    await producer.send(b"the last of them")
    # Whatever was dropped, the listener goes on.
    while heard[-1:] != [b"done"]:
        await producer.send(b"done")
    assert len(heard) < 500


async def test_a_listener_that_is_closed_hears_nothing_more(broker: Place, gathers: bool) -> None:
    connection = await broker.connect()
    heard: list[bytes] = []
    gone: list[bytes] = []
    listener = await connection.listen(broker.passing_topic(), gone.append, waiting_max=WAITING_MAX, gathers=gathers)
    await connection.listen(broker.passing_topic(), heard.append, waiting_max=WAITING_MAX, gathers=gathers)
    await listener.aclose()
    await listener.aclose()
    producer = await connection.producer(broker.passing_topic())
    await producer.send(b"afterwards")
    await until(lambda: heard == [b"afterwards"])
    assert gone == []


async def test_a_connection_may_close_while_much_is_heard(broker: Place, gathers: bool) -> None:
    connection, other = await broker.connect(), await broker.connect()
    heard: list[bytes] = []
    await other.listen(broker.passing_topic(), heard.append, waiting_max=WAITING_MAX, gathers=gathers)
    producer = await connection.producer(broker.passing_topic())
    while len(heard) < 100:
        producer.post(b"x" * 1000)
        await asyncio.sleep(0)
    for _ in range(500):
        producer.post(b"x" * 1000)
    await other.aclose()
    count = len(heard)
    await producer.send(b"afterwards")
    assert len(heard) == count
