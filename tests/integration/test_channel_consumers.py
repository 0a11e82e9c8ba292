"""What pulls, at a broker that does what real ones seldom do."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from broker.interface import ConsumerClosed, Kind
from broker.pulsar.consumer import NACK_DELAY_S, NACK_TICK_S, PulsarConsumer
from broker.pulsar.frames import Command, number
from broker.pulsar.listener import PulsarListener
from tests.channels import KEPT, LIMITS, PASSING, broker_of, opened
from tests.pulsar_peer import PUBLISHED_MS, PulsarPeer
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from broker.interface import Delivery


_CUT_OFF = b"\0\0\0\x05\x18\xff"
"""Of a message in a batch: the size of its metadata, and less than that of it."""
_ENDLESS = (1_000_000).to_bytes(4, "big") + b"\xff" * 999_999 + b"\x01"
"""Of one, too: its metadata are one number."""


async def _pulled(peer: PulsarPeer, consumer: PulsarConsumer, entry: int, *, batch: bool = False) -> Delivery:
    """Have the consumer ask for a message, and give it one, over the connection that it joined last."""
    asked = len(peer.all_said(Command.FLOW))
    received = asyncio.ensure_future(consumer.receive())
    await until(lambda: len(peer.all_said(Command.FLOW)) > asked)
    peer.visitors[-1].deliver(peer.all_said(Command.SUBSCRIBE)[-1].number(4), entry, b"work", batch=batch)
    return await received


@pytest.mark.parametrize("batch", [False, True])
async def test_a_pulled_message_is_acknowledged_by_its_own_name(peer: PulsarPeer, batch: bool) -> None:
    async with opened(peer.url) as channels:
        consumer = PulsarConsumer(broker_of(channels, peer.url), KEPT, "workers", Kind.SHARED)
        await consumer.join(from_earliest=False)
        (subscribe,) = peer.all_said(Command.SUBSCRIBE)
        assert [subscribe.text(2), subscribe.number(3), subscribe.number(13)] == ["workers", 1, 0]
        delivery = await _pulled(peer, consumer, 300, batch=batch)
        assert (delivery.payload, delivery.published_ms) == (b"work", PUBLISHED_MS)
        consumer.ack(delivery)
        (ack,) = await until(lambda: peer.all_said(Command.ACK))
        assert dict(ack.inner(3)) == {1: 7, 2: 300}
        await consumer.aclose()


async def test_a_foreign_batch_costs_no_slot(peer: PulsarPeer) -> None:
    """It took as many permits as it has messages, and whoever pulls had given one."""
    async with opened(peer.url) as channels:
        consumer = PulsarConsumer(broker_of(channels, peer.url), KEPT, "workers", Kind.SHARED)
        await consumer.join()
        received = asyncio.ensure_future(consumer.receive())
        await until(lambda: peer.all_said(Command.FLOW))
        peer.visitors[0].deliver(peer.all_said(Command.SUBSCRIBE)[0].number(4), 1, b"one", b"two", b"three", batch=True)
        assert b"one" in (await received).payload  # as it came, for whoever says that nobody can read it
        flows = await until(lambda: (said := peer.all_said(Command.FLOW)) and len(said) == 2 and said)
        assert [flow.number(2) for flow in flows] == [1, 2]
        await consumer.aclose()


@pytest.mark.parametrize(
    ("metadata", "payload"),
    [
        pytest.param(number(11, 1), _CUT_OFF, id="a batch of one that is cut off"),
        pytest.param(number(11, 1), b"", id="an empty batch"),
        pytest.param(number(11, 1) + number(8, 2), _CUT_OFF, id="a compressed batch"),
        pytest.param(number(11, 2**31 - 1), b"", id="a batch that says to be huge"),
        pytest.param(b"\x58\xff", b"text", id="metadata that are cut off"),
        pytest.param(number(11, 1), _ENDLESS, id="a number that does not end"),
    ],
)
async def test_what_cannot_be_unpacked_comes_as_it_is_and_harms_nobody(
    peer: PulsarPeer, metadata: bytes, payload: bytes
) -> None:
    heard: list[bytes] = []
    async with opened(peer.url) as channels:
        broker = broker_of(channels, peer.url)
        consumer = PulsarConsumer(broker, KEPT, "workers", Kind.SHARED)
        listener = PulsarListener(broker, PASSING, heard.append, 4, gathers=False)
        for member in (consumer, listener):
            await member.join()
        (visitor,) = peer.visitors
        received = asyncio.ensure_future(consumer.receive())
        for subscribe in visitor.said(Command.SUBSCRIBE):
            visitor.deliver_raw(subscribe.number(4), 1, metadata, payload)
        delivery = await received
        assert delivery.payload == payload
        consumer.ack(delivery)
        await until(lambda: visitor.said(Command.ACK))
        visitor.deliver(visitor.said(Command.SUBSCRIBE)[1].number(4), 2, b"the next one")
        await until(lambda: heard[-1:] == [b"the next one"])
        assert set(heard[:-1]) <= {payload, b""}
        await consumer.aclose()
    assert len(peer.visitors) == 1


@pytest.mark.parametrize("count", [2**31, 2**32 - 1, 2**64 - 1])
async def test_a_batch_of_less_than_none_costs_its_topic_a_new_beginning_and_others_nothing(
    peer: PulsarPeer, count: int
) -> None:
    """For the broker it makes permits instead of taking any, and it hangs up on who gives as many back."""
    heard: list[bytes] = []
    async with opened(peer.url) as channels:
        broker = broker_of(channels, peer.url)
        consumer = PulsarConsumer(broker, KEPT, "workers", Kind.SHARED)
        listener = PulsarListener(broker, PASSING, heard.append, 4, gathers=False)
        other = PulsarListener(broker, PASSING, heard.append, 4, gathers=False)
        for member in (consumer, listener, other):
            await member.join()
        (visitor,) = peer.visitors
        received = asyncio.ensure_future(consumer.receive())
        ids = [subscribe.number(4) for subscribe in visitor.said(Command.SUBSCRIBE)]
        for id_ in ids[:2]:
            visitor.deliver_raw(id_, 1, number(11, count), b"forged")
        consumer.ack(await received)
        await until(lambda: {closed.number(1) for closed in visitor.said(Command.CLOSE_CONSUMER)} == set(ids[:2]))
        assert not consumer.connected
        assert not listener.connected
        assert other.connected
        for member in (consumer, listener):
            await member.join()
        await until(lambda: visitor.said(Command.ACK))
        visitor.deliver(visitor.said(Command.SUBSCRIBE)[-1].number(4), 2, b"the next one")
        await until(lambda: heard == [b"forged", b"the next one"])
        assert max(flow.number(2) for flow in visitor.said(Command.FLOW)) == 4
        await consumer.aclose()


async def test_no_more_permits_are_given_at_once_than_the_broker_can_count(peer: PulsarPeer) -> None:
    async with opened(peer.url) as channels:
        listener = PulsarListener(broker_of(channels, peer.url), PASSING, lambda _: None, 1000, gathers=False)
        await listener.join()
        (visitor,) = peer.visitors
        (subscribe,) = visitor.said(Command.SUBSCRIBE)
        visitor.deliver(subscribe.number(4), 1, b"one")
        visitor.deliver_raw(subscribe.number(4), 2, number(11, 2**31 - 1), b"")
        for n in range(499):
            visitor.deliver(subscribe.number(4), n, b"another")
        flows = await until(lambda: (said := visitor.said(Command.FLOW)) and len(said) == 3 and said)
        assert [flow.number(2) for flow in flows] == [1000, 2**31 - 1, 500]


async def test_what_a_lost_connection_held_is_not_handed_back_by_the_next_one(peer: PulsarPeer) -> None:
    """It comes again by itself, perhaps to this very consumer, and is then worked on."""
    async with opened(peer.url) as channels:
        consumer = PulsarConsumer(broker_of(channels, peer.url), KEPT, "workers", Kind.SHARED)
        await consumer.join()
        consumer.nack(await _pulled(peer, consumer, 1))
        peer.visitors[0].hang_up()
        await until(lambda: not consumer.connected)
        await consumer.join()
        delivery = await _pulled(peer, consumer, 1)
        await asyncio.sleep(NACK_TICK_S + NACK_DELAY_S + 0.05)
        assert not peer.all_said(Command.REDELIVER)
        consumer.nack(delivery)
        (redeliver,) = await until(lambda: peer.all_said(Command.REDELIVER))
        assert dict(redeliver.inner(2)) == {1: 7, 2: 1}
        await consumer.aclose()


@contextlib.asynccontextmanager
async def _lost_with_an_ack(peer: PulsarPeer) -> AsyncIterator[PulsarConsumer]:
    """A consumer that has acknowledged what it took over a connection that is gone."""
    async with opened(peer.url) as channels:
        consumer = PulsarConsumer(broker_of(channels, peer.url), KEPT, "workers", Kind.SHARED)
        await consumer.join()
        delivery = await _pulled(peer, consumer, 1)
        peer.visitors[0].hang_up()
        await until(lambda: not consumer.connected)
        consumer.ack(delivery)
        yield consumer


async def test_an_acknowledgement_waits_for_a_connection(peer: PulsarPeer) -> None:
    async with _lost_with_an_ack(peer) as consumer:
        await asyncio.sleep(0.15)  # more than its tick
        assert not peer.all_said(Command.ACK)
        await consumer.join()
        (ack,) = await until(lambda: peer.all_said(Command.ACK))
        assert dict(ack.inner(3)) == {1: 7, 2: 1}
        await consumer.aclose()


async def test_what_was_acknowledged_meanwhile_is_told_before_more_is_asked_for(peer: PulsarPeer) -> None:
    async with _lost_with_an_ack(peer) as consumer:
        waiting = asyncio.ensure_future(consumer.receive())
        await consumer.join()
        await until(lambda: peer.visitors[-1].said(Command.FLOW))
        said = [command for command, _ in peer.visitors[-1].commands]
        assert said[-2:] == [Command.ACK, Command.FLOW]
        await consumer.aclose()
        with pytest.raises(ConsumerClosed):
            await waiting


async def test_closing_waits_for_a_lost_connection_to_acknowledge_what_is_left(peer: PulsarPeer) -> None:
    async with _lost_with_an_ack(peer) as consumer:
        await consumer.aclose()
        (ack,) = await until(lambda: peer.all_said(Command.ACK))
        assert dict(ack.inner(3)) == {1: 7, 2: 1}
        assert peer.visitors[-1].said(Command.CLOSE_CONSUMER)


async def test_closing_waits_for_a_lost_connection_no_longer_than_it_may(peer: PulsarPeer) -> None:
    async with _lost_with_an_ack(peer) as consumer:
        del peer.answers[Command.SUBSCRIBE]
        async with asyncio.timeout(LIMITS.operation_timeout_s):
            await consumer.aclose()
        assert not peer.all_said(Command.ACK)
