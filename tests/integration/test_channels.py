"""Our own connections to a broker, against one that does what real ones seldom do."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from broker.interface import PAYLOAD_BYTES_MAX, BrokerError, Kind, PayloadTooLarge, SendRejected, SendUnknown
from broker.pulsar import PulsarLimits
from broker.pulsar.address import Address
from broker.pulsar.channel import Traffic
from broker.pulsar.channels import Channels, Route
from broker.pulsar.consumer import NACK_DELAY_S, NACK_TICK_S, PulsarConsumer
from broker.pulsar.credential import Credential
from broker.pulsar.failure import PulsarFailure
from broker.pulsar.frames import Command, Fields, frame, number, text
from broker.pulsar.limits import Window
from broker.pulsar.listener import PulsarListener
from broker.pulsar.producer import PulsarProducer
from tests.pulsar_peer import PulsarPeer, Visitor
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

KEPT = "persistent://public/default/kept"
PASSING = "non-persistent://public/default/passing"
LIMITS = PulsarLimits(ping_timeout_s=0.2, connect_timeout_s=2.0, operation_timeout_s=2, open_timeout_s=0.5)


@pytest.fixture
async def peer() -> AsyncIterator[PulsarPeer]:
    async with PulsarPeer() as peer:
        yield peer


@contextlib.asynccontextmanager
async def _channels(
    url: str, *, token: str | Callable[[], str] | None = None, authorities: str | None = None
) -> AsyncIterator[Channels]:
    channels = Channels(Address(url), Credential(token=token, tls_trust_certs=authorities), LIMITS)
    try:
        yield channels
    finally:
        await channels.aclose()


def _broker(channels: Channels, url: str) -> Any:
    """What a member needs of its broker."""
    return SimpleNamespace(
        channels=channels,
        limits=LIMITS,
        window=Window(LIMITS.pending_sends_max, LIMITS.pending_bytes_max),
        connected=True,
        address=url,
        members=set(),
        hurry=lambda: None,
        ensure_again=_nothing_to_ensure,
    )


async def _nothing_to_ensure(topic: str) -> None:
    pass


async def test_a_broker_that_knows_another_one_is_followed(peer: PulsarPeer) -> None:
    async with PulsarPeer() as other, _channels(peer.url) as channels:
        peer.answers[Command.LOOKUP] = lambda visitor, asked: visitor.tell(
            Command.LOOKUP_RESPONSE, peer.found(asked, url=other.url, redirect=True)
        )
        await (await channels.channel(KEPT, gathers=False)).ping()
        assert other.all_said(Command.PING)
        # The first one said that the second one need not ask any more.
        assert [asked.number(3) for asked in (*peer.all_said(Command.LOOKUP), *other.all_said(Command.LOOKUP))] == [
            0,
            1,
        ]


async def test_brokers_that_send_one_another_round_are_given_up(peer: PulsarPeer) -> None:
    peer.answers[Command.LOOKUP] = lambda visitor, asked: visitor.tell(
        Command.LOOKUP_RESPONSE, peer.found(asked, redirect=True)
    )
    async with _channels(peer.url) as channels:
        with pytest.raises(PulsarFailure, match="in circles"):
            await channels.channel(KEPT, gathers=False)


async def test_a_broker_behind_a_proxy_is_reached_through_it(peer: PulsarPeer) -> None:
    peer.answers[Command.LOOKUP] = lambda visitor, asked: visitor.tell(
        Command.LOOKUP_RESPONSE, peer.found(asked, url="pulsar://inside:6650", proxied=True)
    )
    async with _channels(peer.url) as channels:
        await channels.channel(KEPT, gathers=False)
    assert [said.text(6) for said in peer.all_said(Command.CONNECT)] == ["", "inside:6650"]


async def test_the_next_host_is_asked_when_one_is_dead(peer: PulsarPeer) -> None:
    async with _channels(f"pulsar://127.0.0.1:1,127.0.0.1:{peer.port}") as channels:
        for _ in range(2):
            await channels.channel(KEPT, gathers=False)
    assert len(peer.visitors) == 1


async def test_topics_of_a_broker_share_its_connections(peer: PulsarPeer) -> None:
    async with _channels(peer.url) as channels:
        found = await asyncio.gather(*(channels.channel(f"{KEPT}-{n}", gathers=n % 2 == 1) for n in range(6)))
    assert len(set(found)) == len(peer.visitors) == 2


async def test_a_topic_without_an_address_for_tls_is_not_spoken_to_in_the_clear(
    tmp_path: Path, peer: PulsarPeer
) -> None:
    peer.answers[Command.LOOKUP] = lambda visitor, asked: visitor.tell(
        Command.LOOKUP_RESPONSE, text(1, peer.url.encode()) + number(3, 1) + number(4, asked.number(2))
    )
    async with _channels(peer.url) as channels:
        channels._address.tls = True
        channels._channels[Route("127.0.0.1", peer.port)] = await _in_the_clear(channels, peer)
        with pytest.raises(PulsarFailure, match="no address of this kind"):
            await channels.channel(KEPT, gathers=False)


async def _in_the_clear(channels: Channels, peer: PulsarPeer) -> Any:
    channels._address.tls = False
    channel = await channels.greet(Route("127.0.0.1", peer.port), 2.0)
    channels._address.tls = True
    return channel


async def test_the_next_token_is_shown_when_the_broker_asks_for_it(peer: PulsarPeer) -> None:
    tokens = iter(["first", "second"])
    async with _channels(peer.url, token=lambda: next(tokens)) as channels:
        channel = await channels.channel(KEPT, gathers=False)
        (visitor,) = peer.visitors
        (connect,) = visitor.said(Command.CONNECT)
        assert (connect.text(3), connect.text(5)) == ("first", "token")
        visitor.tell(Command.AUTH_CHALLENGE)
        (response,) = await until(lambda: visitor.said(Command.AUTH_RESPONSE))
        assert (response.inner(2).text(1), response.inner(2).text(2)) == ("token", "second")
        # One that cannot be read is no reason to fall over: the broker hangs up by itself.
        visitor.tell(Command.AUTH_CHALLENGE)
        await channel.ping()
        assert len(visitor.said(Command.AUTH_RESPONSE)) == 1


@pytest.mark.parametrize("command", [Command.PRODUCER, Command.SUBSCRIBE])
async def test_what_was_opened_for_somebody_who_is_gone_is_closed(peer: PulsarPeer, command: Command) -> None:
    del peer.answers[command]
    async with _channels(peer.url) as channels:
        channel = await channels.channel(KEPT, gathers=False)
        if command == Command.PRODUCER:
            opening = asyncio.ensure_future(channel.produce(KEPT, lambda *_: None, lambda: None))
            close, field = Command.CLOSE_PRODUCER, 2
        else:
            opening = asyncio.ensure_future(
                channel.consume(KEPT, "s", Kind.SHARED, from_earliest=True, take=lambda _: None, on_lost=lambda: None)  # type: ignore[arg-type]
            )
            close, field = Command.CLOSE_CONSUMER, 4
        (asked,) = await until(lambda: peer.all_said(command))
        opening.cancel()
        (closed,) = await until(lambda: peer.all_said(close))
        assert closed.number(1) == asked.number(field)


@pytest.mark.parametrize("nonsense", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" * 64])
async def test_what_is_no_broker_is_said_to_be_none(peer: PulsarPeer, nonsense: bytes) -> None:
    peer.answers[Command.CONNECT] = lambda visitor, _: visitor.send(nonsense)
    async with _channels(peer.url) as channels:
        with pytest.raises(EOFError, match="no Pulsar broker"):
            await channels.greet(Route("127.0.0.1", peer.port), 2.0)


async def test_a_silent_channel_is_ended_and_another_one_opened(peer: PulsarPeer) -> None:
    async with _channels(peer.url) as channels:
        channel = await channels.channel(KEPT, gathers=False)
        answer = peer.answers.pop(Command.PING)
        assert await channels.check() == [False]
        await until(lambda: channel.lost)
        assert len(peer.all_said(Command.PING)) == 2  # with a second chance
        peer.answers[Command.PING] = answer
        fresh = await channels.channel(KEPT, gathers=False)
        assert fresh is not channel
        assert await channels.check() == [True]
        await fresh.ping()


async def test_a_busy_channel_is_not_a_silent_one(peer: PulsarPeer) -> None:
    """An answer comes behind all that is on its way already."""
    async with _channels(peer.url) as channels:
        channel = await channels.channel(KEPT, gathers=False)
        peer.answers[Command.PING] = lambda visitor, _: visitor.tell(Command.PING)  # something else
        assert await channels.check() == [True]
        assert not channel.lost


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [
        pytest.param(Traffic(5, 100, 0), Traffic(5, 100, 0), False, id="nothing"),
        pytest.param(Traffic(5, 100, 0), Traffic(6, 100, 0), True, id="came"),
        pytest.param(Traffic(5, 100, 900), Traffic(5, 300, 700), True, id="taken of what waited"),
        pytest.param(Traffic(5, 100, 900), Traffic(5, 1000, 0), True, id="all taken of what waited"),
        pytest.param(Traffic(5, 100, 900), Traffic(5, 100, 2000), False, id="more waits"),
        pytest.param(Traffic(5, 100, 0), Traffic(5, 3_000_100, 700), False, id="the kernel's room is filled"),
    ],
)
def test_traffic_shows_whether_the_other_side_lives(before: Traffic, after: Traffic, moved: bool) -> None:
    assert after.since(before) is moved


async def test_many_topics_find_out_together_that_a_host_is_silent(peer: PulsarPeer) -> None:
    async with PulsarPeer() as silent:
        del silent.answers[Command.CONNECT]
        limits = replace(LIMITS, connect_timeout_s=0.2)
        url = f"pulsar://127.0.0.1:{silent.port},127.0.0.1:{peer.port}"
        channels = Channels(Address(url), Credential(token=None, tls_trust_certs=None), limits)
        opened = await asyncio.gather(*(channels.channel(f"{KEPT}-{n}", gathers=False) for n in range(20)))
        assert len(set(opened)) == 1
        assert len(silent.visitors) == 1
        # Nor does anybody ask it again.
        await channels.channel(KEPT, gathers=True)
        assert len(silent.visitors) == 1
        await channels.aclose()


async def test_a_host_that_knows_no_topics_now_is_passed_over(peer: PulsarPeer) -> None:
    async with PulsarPeer() as ill:
        ill.answers[Command.LOOKUP] = lambda visitor, asked: visitor.tell(
            Command.LOOKUP_RESPONSE, number(3, 2) + number(4, asked.number(2)) + number(6, 6) + text(7, b"not now")
        )
        async with _channels(f"pulsar://127.0.0.1:{ill.port},127.0.0.1:{peer.port}") as channels:
            with pytest.raises(PulsarFailure, match="not now"):
                await channels.channel(KEPT, gathers=False)
            await (await channels.channel(KEPT, gathers=False)).ping()
        assert peer.all_said(Command.PING)


async def test_nothing_is_opened_once_they_are_closed(peer: PulsarPeer) -> None:
    greeting = peer.answers.pop(Command.CONNECT)
    async with _channels(peer.url) as channels:
        opening = asyncio.ensure_future(channels.channel(KEPT, gathers=False))
        await until(lambda: peer.all_said(Command.CONNECT))
    peer.answers[Command.CONNECT] = greeting
    for late in (opening, channels.channel(KEPT, gathers=False)):
        with pytest.raises(PulsarFailure, match="AlreadyClosed"):
            await late
    assert len(peer.visitors) == 1


async def test_a_channel_that_gathers_does_not_read_what_nobody_waits_for(peer: PulsarPeer) -> None:
    async with _channels(peer.url) as channels:
        producer = PulsarProducer(_broker(channels, peer.url), PASSING)
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
    async with _channels(peer.url) as channels:
        listener = PulsarListener(_broker(channels, peer.url), PASSING, heard.append, 4, gathers=True)
        await listener.join()
        (subscribe,) = peer.all_said(Command.SUBSCRIBE)
        visitor = next(each for each in peer.visitors if each.said(Command.SUBSCRIBE))
        for n in range(8):
            _deliver(visitor, subscribe.number(4), n, b"%d" % n)
        await until(lambda: heard == [b"%d" % n for n in range(8)])
        # Four at the beginning, and half of that again each time that so many have come.
        flows = await until(lambda: (said := visitor.said(Command.FLOW)) and len(said) == 5 and said)
        assert [flow.number(2) for flow in flows] == [4, 2, 2, 2, 2]


async def test_a_batch_is_heard_message_by_message(peer: PulsarPeer) -> None:
    """Other people's clients gather unless they are told not to."""
    async with _channels(peer.url) as channels:
        heard: list[bytes] = []
        channel = await channels.channel(PASSING, gathers=False)
        await channel.read(PASSING, heard.append, permits=4, on_lost=lambda: None)
        (subscribe,) = peer.all_said(Command.SUBSCRIBE)
        _deliver(peer.visitors[0], subscribe.number(4), 1, b"one", b"two", b"three", batch=True)
        _deliver(peer.visitors[0], subscribe.number(4), 2, b"four")
        await until(lambda: heard == [b"one", b"two", b"three", b"four"])
        # Each took a permit.
        flows = await until(lambda: (said := peer.all_said(Command.FLOW)) and len(said) == 2 and said)
        assert [flow.number(2) for flow in flows] == [4, 3]


def _deliver(visitor: Visitor, consumer: int, entry: int, *payloads: bytes, batch: bool = False) -> None:
    id_ = number(1, 7) + number(2, entry)
    command = frame(Command.MESSAGE, number(1, consumer) + text(2, id_))[8:]
    metadata = text(1, b"peer") + number(2, entry) + number(3, 1_700_000_000_000)
    if batch:
        metadata += number(11, len(payloads))
        singles = [number(3, len(payload)) for payload in payloads]
        payloads = tuple(
            len(single).to_bytes(4, "big") + single + each for single, each in zip(singles, payloads, strict=True)
        )
    checked = b"\x0e\x01" + b"\0" * 4
    rest = checked + len(metadata).to_bytes(4, "big") + metadata + b"".join(payloads)
    size = 4 + len(command) + len(rest)
    visitor.send(size.to_bytes(4, "big") + len(command).to_bytes(4, "big") + command + rest)


@pytest.mark.parametrize("batch", [False, True])
async def test_a_pulled_message_is_acknowledged_by_its_own_name(peer: PulsarPeer, batch: bool) -> None:
    async with _channels(peer.url) as channels:
        consumer = PulsarConsumer(_broker(channels, peer.url), KEPT, "workers", Kind.SHARED)
        await consumer.join(from_earliest=False)
        (subscribe,) = peer.all_said(Command.SUBSCRIBE)
        assert [subscribe.text(2), subscribe.number(3), subscribe.number(13)] == ["workers", 1, 0]
        received = asyncio.ensure_future(consumer.receive())
        await until(lambda: peer.all_said(Command.FLOW))
        _deliver(peer.visitors[0], subscribe.number(4), 300, b"work", batch=batch)
        delivery = await received
        assert (delivery.payload, delivery.published_ms) == (b"work", 1_700_000_000_000)
        consumer.ack(delivery)
        (ack,) = await until(lambda: peer.all_said(Command.ACK))
        assert dict(ack.inner(3)) == {1: 7, 2: 300}
        await consumer.aclose()


async def test_what_a_lost_connection_held_is_not_handed_back_by_the_next_one(peer: PulsarPeer) -> None:
    """It comes again by itself, perhaps to this very consumer, and is then worked on."""
    async with _channels(peer.url) as channels:
        consumer = PulsarConsumer(_broker(channels, peer.url), KEPT, "workers", Kind.SHARED)
        await consumer.join()
        before = asyncio.ensure_future(consumer.receive())
        await until(lambda: peer.all_said(Command.FLOW))
        _deliver(peer.visitors[0], peer.all_said(Command.SUBSCRIBE)[0].number(4), 1, b"work")
        consumer.nack(await before)
        peer.visitors[0].hang_up()
        await until(lambda: not consumer.connected)
        await consumer.join()
        again = asyncio.ensure_future(consumer.receive())
        await until(lambda: len(peer.all_said(Command.FLOW)) == 2)
        _deliver(peer.visitors[-1], peer.all_said(Command.SUBSCRIBE)[1].number(4), 1, b"work")
        delivery = await again
        await asyncio.sleep(NACK_TICK_S + NACK_DELAY_S + 0.05)
        assert not peer.all_said(Command.REDELIVER)
        consumer.nack(delivery)
        (redeliver,) = await until(lambda: peer.all_said(Command.REDELIVER))
        assert dict(redeliver.inner(2)) == {1: 7, 2: 1}
        await consumer.aclose()


async def test_an_acknowledgement_waits_for_a_connection(peer: PulsarPeer) -> None:
    async with _channels(peer.url) as channels:
        consumer = PulsarConsumer(_broker(channels, peer.url), KEPT, "workers", Kind.SHARED)
        await consumer.join()
        received = asyncio.ensure_future(consumer.receive())
        await until(lambda: peer.all_said(Command.FLOW))
        (subscribe,) = peer.all_said(Command.SUBSCRIBE)
        _deliver(peer.visitors[0], subscribe.number(4), 1, b"work")
        delivery = await received
        peer.visitors[0].hang_up()
        await until(lambda: not consumer.connected)
        consumer.ack(delivery)
        await asyncio.sleep(0.15)  # more than its tick
        assert not peer.all_said(Command.ACK)
        await consumer.join()
        (ack,) = await until(lambda: peer.all_said(Command.ACK))
        assert dict(ack.inner(3)) == {1: 7, 2: 1}
        await consumer.aclose()


async def test_what_has_no_receipt_is_published_again_in_order_and_once_more_only(peer: PulsarPeer) -> None:
    receipt = peer.answers.pop(Command.SEND)
    async with _channels(peer.url) as channels:
        producer = PulsarProducer(_broker(channels, peer.url), KEPT)
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
    async with _channels(peer.url) as channels:
        broker = _broker(channels, peer.url)
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
    async with _channels(peer.url) as channels:
        broker = _broker(channels, peer.url)
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


@pytest.mark.parametrize("attached", [True, False], ids=["no receipt", "not joined"])
async def test_what_waits_too_long_ends_as_unknown_and_leaves_its_room(peer: PulsarPeer, attached: bool) -> None:
    del peer.answers[Command.SEND]
    async with _channels(peer.url) as channels:
        broker = _broker(channels, peer.url)
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
        assert {type(end) for end in ends} == {SendUnknown}
        # What came later has its own time.
        assert not late.done()
        with pytest.raises(SendUnknown):
            await asyncio.wait_for(late, 1.0)
        assert broker.window.count == broker.window.bytes == 0
        for each in (producer, bulk):
            await each.aclose()


async def test_what_was_written_once_is_never_called_refused(peer: PulsarPeer) -> None:
    del peer.answers[Command.SEND]
    async with _channels(peer.url) as channels:
        producer = PulsarProducer(_broker(channels, peer.url), KEPT)
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
    async with _channels(peer.url) as channels:
        broker = _broker(channels, peer.url)
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
    async with _channels(peer.url) as channels:
        producer = PulsarProducer(_broker(channels, peer.url), KEPT)
        await producer.join()
        send = asyncio.ensure_future(producer.send(b"?"))
        await until(lambda: peer.all_said(Command.SEND))
        producer.give_up()
        with pytest.raises(SendUnknown):
            await send
        await producer.aclose()


async def test_a_receipt_that_comes_while_a_producer_closes_counts(peer: PulsarPeer) -> None:
    receipt, closed = peer.answers.pop(Command.SEND), peer.answers.pop(Command.CLOSE_PRODUCER)
    async with _channels(peer.url) as channels:
        producer = PulsarProducer(_broker(channels, peer.url), KEPT)
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
    ("code", "error"), [(7, SendRejected), (4, BrokerError), (0, SendUnknown)], ids=["quota", "forbidden", "unknown"]
)
async def test_a_message_that_the_broker_refuses_is_refused(
    peer: PulsarPeer, code: int, error: type[BrokerError]
) -> None:
    def refuse(visitor: Visitor, sent: Fields) -> None:
        words = number(1, sent.number(1)) + number(2, sent.number(2)) + number(3, code) + text(4, b"no")
        visitor.tell(Command.SEND_ERROR, words)

    peer.answers[Command.SEND] = refuse
    async with _channels(peer.url) as channels:
        producer = PulsarProducer(_broker(channels, peer.url), KEPT)
        await producer.join()
        with pytest.raises(error):
            await producer.send(b"x")
        await producer.aclose()


async def test_a_brokers_own_limit_of_bytes_is_kept(peer: PulsarPeer) -> None:
    """One byte more, and it would hang up on everything else as well."""
    peer.answers[Command.CONNECT] = lambda visitor, _: visitor.tell(Command.CONNECTED, number(3, 1000))
    async with _channels(peer.url) as channels:
        producer = PulsarProducer(_broker(channels, peer.url), PASSING)
        await producer.join()
        await producer.send(b"x" * 1000)
        for size in (1001, PAYLOAD_BYTES_MAX + 1):
            with pytest.raises(PayloadTooLarge):
                await producer.send(b"x" * size)
            producer.post(b"x" * size)
        await producer.send(b"the next one")
        assert [len(payload) for visitor in peer.visitors for payload in visitor.payloads] == [1000, 12]
        await producer.aclose()
