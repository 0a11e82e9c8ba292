"""What publishes and what hears, at a broker that does what real ones seldom do."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from broker.interface import (
    PAYLOAD_BYTES_MAX,
    BrokerError,
    BrokerForbidden,
    BrokerUnavailable,
    Kind,
    PayloadTooLarge,
    SendRejected,
    SendUnknown,
)
from broker.pulsar.consumer import PulsarConsumer
from broker.pulsar.frames import Command, Fields, number, text
from broker.pulsar.listener import PulsarListener
from broker.pulsar.producer import PulsarProducer
from tests.channels import KEPT, LIMITS, PASSING, broker_of, opened
from tests.waiting import until

if TYPE_CHECKING:
    from tests.pulsar_peer import PulsarPeer, Visitor

    pass


async def test_a_channel_that_gathers_does_not_read_what_nobody_waits_for(peer: PulsarPeer) -> None:
    async with opened(peer.url) as channels:
        producer = PulsarProducer(broker_of(channels, peer.url), PASSING)
        await producer.join()
        channel = await channels.channel(PASSING, gathers=True)
        assert channel._transport is not None
        await until(channel._transport.is_reading)
        producer.post(b"nobody waits")
        assert not channel._transport.is_reading()
        # Whoever waits is not kept waiting for it.
        ping = asyncio.ensure_future(channel.ping())
        await asyncio.sleep(0)
        assert channel._transport.is_reading()
        await ping
        await producer.send(b"somebody waits")
        await until(channel._transport.is_reading)


async def test_a_channel_that_gathers_hears_everything(peer: PulsarPeer) -> None:
    heard: list[bytes] = []
    async with opened(peer.url) as channels:
        listener = PulsarListener(broker_of(channels, peer.url), PASSING, heard.append, 4, gathers=True)
        await listener.join()
        (subscribe,) = peer.all_said(Command.SUBSCRIBE)
        visitor = next(each for each in peer.visitors if each.said(Command.SUBSCRIBE))
        for n in range(8):
            visitor.deliver(subscribe.number(4), n, b"%d" % n)
        await until(lambda: heard == [b"%d" % n for n in range(8)])
        # Four at the beginning, and half of that again each time that so many have come.
        flows = await until(lambda: (said := visitor.said(Command.FLOW)) and len(said) == 5 and said)
        assert [flow.number(2) for flow in flows] == [4, 2, 2, 2, 2]


async def test_a_channel_that_gathers_hears_in_time_whoever_posts_meanwhile(peer: PulsarPeer) -> None:
    heard: list[bytes] = []
    async with opened(peer.url) as channels:
        broker = broker_of(channels, peer.url)
        listener = PulsarListener(broker, PASSING, heard.append, 4, gathers=True)
        producer = PulsarProducer(broker, PASSING)
        await listener.join()
        await producer.join()
        (subscribe,) = peer.all_said(Command.SUBSCRIBE)
        next(each for each in peer.visitors if each.said(Command.SUBSCRIBE)).deliver(subscribe.number(4), 1, b"heard")
        async with asyncio.timeout(5.0):
            while not heard:
                producer.post(b"in every turn of the loop")
                await asyncio.sleep(0)


async def test_what_a_hearer_cannot_bear_is_its_own_trouble(peer: PulsarPeer) -> None:
    heard: list[bytes] = []

    def hear(payload: bytes) -> None:
        heard.append(payload)
        if payload == b"bad":
            raise ValueError

    async with opened(peer.url) as channels:
        listener = PulsarListener(broker_of(channels, peer.url), PASSING, hear, 4, gathers=False)
        await listener.join()
        for n, payload in enumerate((b"bad", b"good")):
            peer.visitors[0].deliver(peer.all_said(Command.SUBSCRIBE)[0].number(4), n, payload)
        await until(lambda: heard == [b"bad", b"good"])
    assert len(peer.visitors) == 1


async def test_what_has_no_receipt_is_published_again_in_order_and_once_more_only(peer: PulsarPeer) -> None:
    receipt = peer.answers.pop(Command.SEND)
    async with opened(peer.url) as channels:
        producer = PulsarProducer(broker_of(channels, peer.url), KEPT)
        await producer.join()
        sends = [asyncio.ensure_future(producer.send(b"%d" % n)) for n in range(3)]
        (visitor,) = peer.visitors
        await until(lambda: len(visitor.said(Command.SEND)) == 3)
        # The first is stored; then the broker moves the topic.
        receipt(visitor, visitor.said(Command.SEND)[0])
        await sends[0]
        visitor.tell(Command.CLOSE_PRODUCER, number(1, visitor.said(Command.PRODUCER)[0].number(2)))
        await until(lambda: not producer.connected)
        sends.append(asyncio.ensure_future(producer.send(b"3")))
        peer.answers[Command.SEND] = receipt
        await asyncio.sleep(0)
        await producer.join()
        await asyncio.gather(*sends)
        assert visitor.payloads == [b"0", b"1", b"2", b"1", b"2", b"3"]
        await producer.aclose()


async def test_gathered_messages_are_one_entry_that_is_published_again_as_a_whole(peer: PulsarPeer) -> None:
    receipt = peer.answers.pop(Command.SEND)
    async with opened(peer.url) as channels:
        broker = broker_of(channels, peer.url)
        producer = PulsarProducer(broker, KEPT, gather_ms=1)
        await producer.join()
        producer.post(b"a")
        send = asyncio.ensure_future(producer.send(b"bc"))
        (sent,) = await until(lambda: peer.all_said(Command.SEND))
        (visitor,) = peer.visitors
        assert (sent.number(3), broker.window.count, broker.window.bytes) == (2, 2, 3)
        visitor.tell(Command.CLOSE_PRODUCER, number(1, sent.number(1)))
        await until(lambda: not producer.connected)
        peer.answers[Command.SEND] = receipt
        await producer.join()
        await send
        batch = b"".join(len(meta).to_bytes(4, "big") + meta + b for b in (b"a", b"bc") for meta in [number(3, len(b))])
        assert visitor.payloads == [batch, batch]
        assert broker.window.count == broker.window.bytes == 0
        # What no batch has room for goes by itself, behind what came before.
        producer.post(b"small")
        large = b"x" * 200_000
        await producer.send(large)
        assert [sent.number(3) for sent in visitor.said(Command.SEND)] == [2, 2, 1, 1]
        assert visitor.payloads[-1].endswith(large)
        await producer.aclose()


async def test_a_send_that_nobody_waits_for_any_more_is_not_repeated(peer: PulsarPeer) -> None:
    del peer.answers[Command.SEND]
    async with opened(peer.url) as channels:
        broker = broker_of(channels, peer.url)
        producer = PulsarProducer(broker, KEPT)
        await producer.join()
        sends = [asyncio.ensure_future(producer.send(payload)) for payload in (b"left", b"kept")]
        await until(lambda: len(peer.all_said(Command.SEND)) == 2)
        sends[0].cancel()
        visitor = peer.visitors[0]
        visitor.tell(Command.CLOSE_PRODUCER, number(1, visitor.said(Command.PRODUCER)[0].number(2)))
        await until(lambda: not producer.connected)
        await producer.join()
        await until(lambda: len(visitor.payloads) == 3)
        assert visitor.payloads == [b"left", b"kept", b"kept"]
        assert broker.window.count == 1
        await producer.aclose()
        assert broker.window.count == broker.window.bytes == 0
        with pytest.raises(SendUnknown):
            await sends[1]


@pytest.mark.parametrize("gather_ms", [0, 20])
async def test_a_send_that_nobody_waits_for_any_more_takes_no_other_message_along(
    peer: PulsarPeer, gather_ms: int
) -> None:
    receipt = peer.answers.pop(Command.SEND)
    async with opened(peer.url) as channels:
        producer = PulsarProducer(broker_of(channels, peer.url), KEPT, gather_ms=gather_ms)
        await producer.join()
        left, kept = (asyncio.ensure_future(producer.send(payload)) for payload in (b"left", b"kept"))
        await asyncio.sleep(0)
        producer.post(b"posted")
        before = 1 if gather_ms else 3
        await until(lambda: len(peer.all_said(Command.SEND)) == before)
        left.cancel()
        visitor = peer.visitors[0]
        visitor.tell(Command.CLOSE_PRODUCER, number(1, visitor.said(Command.PRODUCER)[0].number(2)))
        await until(lambda: not producer.connected)
        peer.answers[Command.SEND] = receipt
        await producer.join()
        await kept
        await until(lambda: b"posted" in b"".join(visitor.payloads[before:]))
        assert b"kept" in b"".join(visitor.payloads[before:])
        await producer.aclose()


@pytest.mark.parametrize("attached", [True, False], ids=["no receipt", "not joined"])
async def test_what_waits_too_long_ends_and_leaves_its_room(peer: PulsarPeer, attached: bool) -> None:
    del peer.answers[Command.SEND]
    async with opened(peer.url) as channels:
        broker = broker_of(channels, peer.url)
        broker.limits = replace(LIMITS, send_timeout_ms=200)
        producer, bulk = PulsarProducer(broker, KEPT), PulsarProducer(broker, KEPT, gather_ms=1)
        for each in (producer, bulk):
            await each.join()
        if not attached:
            peer.visitors[0].hang_up()
            await until(lambda: not (producer.connected or bulk.connected))
        sends = [asyncio.ensure_future(each.send(b"%d" % n)) for n in range(3) for each in (producer, bulk)]
        await asyncio.sleep(0)
        producer.post(b"nobody waits")
        assert broker.window.count == 7
        await asyncio.sleep(0.1)
        late = asyncio.ensure_future(producer.send(b"late"))
        ends = await asyncio.gather(*sends, return_exceptions=True)
        # What was never written is not there, and may be sent by another way.
        error = SendUnknown if attached else BrokerUnavailable
        assert {type(end) for end in ends} == {error}
        # What came later has its own time.
        assert not late.done()
        with pytest.raises(error):
            await asyncio.wait_for(late, 1.0)
        assert broker.window.count == broker.window.bytes == 0
        for each in (producer, bulk):
            await each.aclose()


async def test_what_was_written_once_is_never_called_refused(peer: PulsarPeer) -> None:
    del peer.answers[Command.SEND]
    async with opened(peer.url) as channels:
        producer = PulsarProducer(broker_of(channels, peer.url), KEPT)
        await producer.join()
        send = asyncio.ensure_future(producer.send(b"?"))
        await until(lambda: peer.all_said(Command.SEND))
        peer.visitors[0].hang_up()
        await until(lambda: not producer.connected)
        channel = await channels.channel(KEPT, gathers=False)
        channel.full = True  # as by what other producers had to publish again
        await producer.join()
        with pytest.raises(SendUnknown):
            await send
        await producer.aclose()


async def test_a_producer_whose_closing_is_cancelled_leaves_its_room(peer: PulsarPeer) -> None:
    del peer.answers[Command.SEND], peer.answers[Command.CLOSE_PRODUCER]
    async with opened(peer.url) as channels:
        broker = broker_of(channels, peer.url)
        producer = PulsarProducer(broker, KEPT)
        await producer.join()
        send = asyncio.ensure_future(producer.send(b"?"))
        await until(lambda: peer.all_said(Command.SEND))
        closing = asyncio.ensure_future(producer.aclose())
        await until(lambda: peer.all_said(Command.CLOSE_PRODUCER))
        closing.cancel()
        with pytest.raises(SendUnknown):
            await send
        assert broker.window.count == broker.window.bytes == 0


async def test_a_send_without_a_receipt_ends_as_unknown(peer: PulsarPeer) -> None:
    del peer.answers[Command.SEND]
    async with opened(peer.url) as channels:
        producer = PulsarProducer(broker_of(channels, peer.url), KEPT)
        await producer.join()
        send = asyncio.ensure_future(producer.send(b"?"))
        await until(lambda: peer.all_said(Command.SEND))
        producer.give_up()
        with pytest.raises(SendUnknown):
            await send
        await producer.aclose()


async def test_a_receipt_that_comes_while_a_producer_closes_counts(peer: PulsarPeer) -> None:
    receipt, closed = peer.answers.pop(Command.SEND), peer.answers.pop(Command.CLOSE_PRODUCER)
    async with opened(peer.url) as channels:
        producer = PulsarProducer(broker_of(channels, peer.url), KEPT)
        await producer.join()
        send = asyncio.ensure_future(producer.send(b"last"))
        await until(lambda: peer.all_said(Command.SEND))
        closing = asyncio.ensure_future(producer.aclose())
        (close,) = await until(lambda: peer.all_said(Command.CLOSE_PRODUCER))
        receipt(peer.visitors[0], peer.all_said(Command.SEND)[0])
        closed(peer.visitors[0], close)
        await send
        await closing


@pytest.mark.parametrize(
    ("code", "error"),
    [(7, SendRejected), (4, BrokerForbidden), (15, BrokerError), (22, BrokerError), (0, SendUnknown)],
    ids=["quota", "forbidden", "terminated", "not allowed", "unknown"],
)
async def test_a_message_that_the_broker_refuses_is_refused(
    peer: PulsarPeer, code: int, error: type[BrokerError]
) -> None:
    def refuse(visitor: Visitor, sent: Fields) -> None:
        words = number(1, sent.number(1)) + number(2, sent.number(2)) + number(3, code) + text(4, b"no")
        visitor.tell(Command.SEND_ERROR, words)

    peer.answers[Command.SEND] = refuse
    async with opened(peer.url) as channels:
        producer = PulsarProducer(broker_of(channels, peer.url), KEPT)
        await producer.join()
        with pytest.raises(BrokerError) as told:
            await producer.send(b"x")
        assert told.type is error
        await producer.aclose()


async def test_what_the_broker_cannot_write_now_is_published_again_in_order(peer: PulsarPeer) -> None:
    """So it says of what comes while it moves the topic to another broker."""
    receipt = peer.answers[Command.SEND]

    def refuse(visitor: Visitor, sent: Fields) -> None:
        words = number(1, sent.number(1)) + number(2, sent.number(2)) + number(3, 2) + text(4, b"Producer is closed")
        visitor.tell(Command.SEND_ERROR, words)

    peer.answers[Command.SEND] = refuse
    async with opened(peer.url) as channels:
        producer = PulsarProducer(broker_of(channels, peer.url), KEPT)
        await producer.join()
        sends = [asyncio.ensure_future(producer.send(b"%d" % n)) for n in range(2)]
        await until(lambda: not producer.connected)
        (visitor,) = peer.visitors
        assert await until(lambda: visitor.said(Command.CLOSE_PRODUCER))
        peer.answers[Command.SEND] = receipt
        await producer.join()
        await asyncio.gather(*sends)
        assert visitor.payloads == [b"0", b"1", b"0", b"1"]
        await producer.aclose()


async def test_of_what_nobody_waits_for_no_more_is_kept_than_may_be(peer: PulsarPeer) -> None:
    room, size = 4 * 2**20, 2**19
    async with opened(peer.url, limits=replace(LIMITS, pending_bytes_max=room)) as channels:
        producer = PulsarProducer(broker_of(channels, peer.url), PASSING)
        await producer.join()
        channel = await channels.channel(PASSING, gathers=True)
        for _ in range(100):
            producer.post(bytes(size))  # without a turn of the loop: nothing is written but what the kernel takes
        assert room < channel.traffic.waiting < room + 2 * size


async def test_a_brokers_own_limit_of_bytes_is_kept(peer: PulsarPeer) -> None:
    """One byte more, and it would hang up on everything else as well."""
    peer.answers[Command.CONNECT] = lambda visitor, _: visitor.tell(Command.CONNECTED, number(3, 1000))
    async with opened(peer.url) as channels:
        producer = PulsarProducer(broker_of(channels, peer.url), PASSING)
        await producer.join()
        await producer.send(b"x" * 1000)
        for size in (1001, PAYLOAD_BYTES_MAX + 1):
            with pytest.raises(PayloadTooLarge):
                await producer.send(b"x" * size)
            producer.post(b"x" * size)
        await producer.send(b"the next one")
        assert [len(payload) for visitor in peer.visitors for payload in visitor.payloads] == [1000, 12]
        await producer.aclose()


@pytest.mark.parametrize(
    ("kind", "opening", "closing"),
    [
        (PulsarProducer, Command.PRODUCER, Command.CLOSE_PRODUCER),
        (PulsarConsumer, Command.SUBSCRIBE, Command.CLOSE_CONSUMER),
        (PulsarListener, Command.SUBSCRIBE, Command.CLOSE_CONSUMER),
    ],
)
async def test_who_is_closed_while_it_joins_stays_nowhere(
    peer: PulsarPeer, kind: type, opening: Command, closing: Command
) -> None:
    answer = peer.answers.pop(opening)
    async with opened(peer.url) as channels:
        broker = broker_of(channels, peer.url)
        member: PulsarProducer | PulsarConsumer | PulsarListener
        if kind is PulsarProducer:
            member = PulsarProducer(broker, KEPT)
        elif kind is PulsarConsumer:
            member = PulsarConsumer(broker, KEPT, "workers", Kind.SHARED)
        else:
            member = PulsarListener(broker, PASSING, lambda _: None, 10, gathers=False)
        joining = asyncio.ensure_future(member.join())
        (asked,) = await until(lambda: peer.all_said(opening))
        await member.aclose()
        answer(peer.visitors[-1], asked)
        await joining
        assert peer.all_said(closing)
        assert not member.connected
