"""Our own connections to a broker, against one that does what real ones seldom do."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from broker.interface import BrokerError, BrokerUnavailable, Kind, TopicMissing
from broker.pulsar import PulsarBroker, patience, watch
from broker.pulsar.channels import Channels, Route
from broker.pulsar.connection import Traffic
from broker.pulsar.failure import PulsarFailure, Result
from broker.pulsar.frames import Command, frame, number, text
from broker.pulsar.producer import PulsarProducer
from tests.channels import KEPT, LIMITS, PASSING, broker_of, opened
from tests.pulsar_peer import PulsarPeer
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path

    from broker.pulsar.frames import Fields
    from tests.pulsar_peer import Visitor


async def test_a_broker_that_knows_another_one_is_followed(peer: PulsarPeer) -> None:
    async with PulsarPeer() as other, opened(peer.url) as channels:
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
    async with opened(peer.url) as channels:
        with pytest.raises(PulsarFailure, match="in circles"):
            await channels.channel(KEPT, gathers=False)


async def test_a_broker_behind_a_proxy_is_reached_through_it(peer: PulsarPeer) -> None:
    peer.answers[Command.LOOKUP] = lambda visitor, asked: visitor.tell(
        Command.LOOKUP_RESPONSE, peer.found(asked, url="pulsar://inside:6650", proxied=True)
    )
    async with opened(peer.url) as channels:
        await channels.channel(KEPT, gathers=False)
    assert [said.text(6) for said in peer.all_said(Command.CONNECT)] == ["", "inside:6650"]


async def test_the_next_host_is_asked_when_one_is_dead(peer: PulsarPeer) -> None:
    async with opened(f"pulsar://127.0.0.1:1,127.0.0.1:{peer.port}") as channels:
        for _ in range(2):
            await channels.channel(KEPT, gathers=False)
    assert len(peer.visitors) == 1


async def test_topics_of_a_broker_share_its_connections(peer: PulsarPeer) -> None:
    async with opened(peer.url) as channels:
        found = await asyncio.gather(*(channels.channel(f"{KEPT}-{n}", gathers=n % 2 == 1) for n in range(6)))
    assert len(set(found)) == len(peer.visitors) == 2


async def test_a_topic_without_an_address_for_tls_is_not_spoken_to_in_the_clear(
    tmp_path: Path, peer: PulsarPeer
) -> None:
    peer.answers[Command.LOOKUP] = lambda visitor, asked: visitor.tell(
        Command.LOOKUP_RESPONSE, text(1, peer.url.encode()) + number(3, 1) + number(4, asked.number(2))
    )
    async with opened(peer.url) as channels:
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
    async with opened(peer.url, token=lambda: next(tokens)) as channels:
        channel = await channels.channel(KEPT, gathers=False)
        (visitor,) = peer.visitors
        (connect,) = visitor.said(Command.CONNECT)
        assert (connect.text(3), connect.text(5)) == ("first", "token")
        assert connect.inner(10).number(1)  # else the broker would not ask, and hang up when the first one expires
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
    async with opened(peer.url) as channels:
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


@pytest.mark.parametrize(
    "nonsense",
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="HTTP"),
        pytest.param(b"\0\0\0\4\0\0\0\0\0", id="HTTP/2"),
        pytest.param(b"\xff" * 64, id="noise"),
    ],
)
async def test_what_is_no_broker_is_said_to_be_none(peer: PulsarPeer, nonsense: bytes) -> None:
    peer.answers[Command.CONNECT] = lambda visitor, _: visitor.send(nonsense)
    async with opened(peer.url) as channels:
        with pytest.raises(EOFError, match="no Pulsar broker"):
            await channels.greet(Route("127.0.0.1", peer.port), 2.0)


async def test_who_is_hung_up_on_at_the_first_word_hears_it_at_once(peer: PulsarPeer) -> None:
    peer.answers[Command.CONNECT] = lambda visitor, _: visitor._writer.close()
    async with asyncio.timeout(10), opened(peer.url) as channels:
        with pytest.raises(EOFError, match="closed without an answer"):
            await channels.greet(Route("127.0.0.1", peer.port), 60.0)


async def test_a_token_that_cannot_be_read_is_told_at_once(peer: PulsarPeer) -> None:
    def unreadable() -> str:
        raise OSError

    async with asyncio.timeout(10), opened(peer.url, token=unreadable) as channels:
        with pytest.raises(PulsarFailure) as refused:
            await channels.greet(Route("127.0.0.1", peer.port), 60.0)
        assert refused.value.result is Result.ErrorGettingAuthenticationData


async def test_why_the_broker_lets_nobody_in_is_told_in_its_words(peer: PulsarPeer) -> None:
    """As where it has no room for a further connection: it says so to whoever comes, asked or not."""
    words = number(1, 2**64 - 1) + number(2, 22) + text(3, b"Reached the maximum number of connections")
    peer.answers[Command.CONNECT] = lambda visitor, _: visitor.tell(Command.ERROR, words)
    broker = PulsarBroker(peer.url, limits=LIMITS)
    with pytest.raises(BrokerUnavailable, match="Reached the maximum number of connections"):
        await broker.connect()
    await broker.aclose()


async def test_a_silent_channel_is_ended_and_another_one_opened(peer: PulsarPeer) -> None:
    async with opened(peer.url) as channels:
        channel = await channels.channel(KEPT, gathers=False)
        answers = {command: peer.answers.pop(command) for command in (Command.PING, Command.CONNECT)}
        assert await channels.check() == [False]
        await until(lambda: channel.lost)
        assert len(peer.all_said(Command.PING)) == 2  # with a second chance
        peer.answers |= answers
        fresh = await channels.channel(KEPT, gathers=False)
        assert fresh is not channel
        assert await channels.check() == [True]
        await fresh.ping()


async def test_a_broker_that_reads_no_more_from_a_channel_is_given_time(peer: PulsarPeer) -> None:
    """Its storage may be slow. A new connection would have everything written once more."""
    limits = replace(LIMITS, ping_timeout_s=0.1, send_timeout_ms=1000)
    async with opened(peer.url, limits=limits) as channels:
        channel = await channels.channel(KEPT, gathers=False)
        answer = peer.answers.pop(Command.PING)
        assert await channels.check() == [True]
        assert not channel.lost
        # It goes on, and a later pause has a time of its own.
        peer.answers[Command.PING] = answer
        assert await channels.check() == [True]
        assert channel.silent_since is None
        del peer.answers[Command.PING]
        assert await channels.check() == [True]
        # Nobody pauses for longer than anybody waits for receipts: then it is this connection that is dead.
        assert channel.silent_since is not None
        channel.silent_since -= 1.0
        assert await channels.check() == [False]
        await until(lambda: channel.lost)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (16, "Topic reached max producers limit"),
        (0, "Policies are not there"),
        (1, "Encryption is required"),
        (13, "Consumer not found"),
    ],
)
async def test_why_the_broker_opens_nothing_is_told_in_its_words(peer: PulsarPeer, code: int, message: str) -> None:
    peer.answers[Command.PRODUCER] = lambda visitor, asked: visitor.tell(
        Command.ERROR, number(1, asked.number(3)) + number(2, code) + text(3, message.encode())
    )
    broker = PulsarBroker(peer.url, limits=LIMITS)
    with pytest.raises(BrokerUnavailable, match=message):
        await broker.producer(KEPT)
    await broker.aclose()


async def test_a_refusal_is_one_sentence(peer: PulsarPeer) -> None:
    peer.answers[Command.PRODUCER] = lambda visitor, asked: visitor.tell(
        Command.ERROR, number(1, asked.number(3)) + number(2, 22) + text(3, b"Exceed maximum number of topics.")
    )
    broker = PulsarBroker(peer.url, limits=LIMITS)
    with pytest.raises(BrokerError, match=r"[^.]\.$"):
        await broker.producer(KEPT)
    await broker.aclose()


@pytest.mark.parametrize(("code", "message"), [(11, "Namespace not found"), (12, "Subscription does not exist")])
async def test_what_the_broker_does_not_make_is_told_as_such(peer: PulsarPeer, code: int, message: str) -> None:
    """As where a namespace is missing, or allowAutoTopicCreation or allowAutoSubscriptionCreation is off."""
    peer.answers[Command.SUBSCRIBE] = lambda visitor, asked: visitor.tell(
        Command.ERROR, number(1, asked.number(5)) + number(2, code) + text(3, message.encode())
    )
    broker = PulsarBroker(peer.url, limits=LIMITS)
    with pytest.raises(TopicMissing, match=message):
        await broker.ensure(KEPT, "workers")
    await broker.aclose()


@pytest.mark.parametrize("command", [Command.PRODUCER, Command.SUBSCRIBE])
async def test_what_the_broker_closes_while_it_is_opened_is_not_waited_for(peer: PulsarPeer, command: Command) -> None:
    close = Command.CLOSE_PRODUCER if command == Command.PRODUCER else Command.CLOSE_CONSUMER
    field = 2 if command == Command.PRODUCER else 4
    peer.answers[command] = lambda visitor, asked: visitor.tell(close, number(1, asked.number(field)))
    async with opened(peer.url, limits=replace(LIMITS, operation_timeout_s=60)) as channels:
        channel = await channels.channel(KEPT, gathers=False)
        opening: Awaitable[object]
        if command == Command.PRODUCER:
            opening = channel.produce(KEPT, lambda *_: None, lambda: None)
        else:
            opening = channel.read(PASSING, lambda _: None, permits=1, on_lost=lambda: None)
        with pytest.raises(PulsarFailure, match="NotConnected"):
            await asyncio.wait_for(opening, 5)
        await channel.ping()


@pytest.mark.parametrize("command", [Command.PRODUCER, Command.SUBSCRIBE])
async def test_what_the_broker_closes_as_soon_as_it_is_opened_is_not_taken_for_open(
    peer: PulsarPeer, command: Command
) -> None:
    """Nobody would join it anew, and it would bring and carry nothing."""

    def open_and_close(visitor: Visitor, asked: Fields) -> None:
        if command == Command.PRODUCER:
            begun = frame(Command.PRODUCER_SUCCESS, number(1, asked.number(3)) + text(2, b"name"))
            ended = frame(Command.CLOSE_PRODUCER, number(1, asked.number(2)))
        else:
            begun = frame(Command.SUCCESS, number(1, asked.number(5)))
            ended = frame(Command.CLOSE_CONSUMER, number(1, asked.number(4)))
        visitor.send(begun + ended)

    peer.answers[command] = open_and_close
    async with opened(peer.url) as channels:
        channel = await channels.channel(KEPT, gathers=False)
        opening: Awaitable[object]
        if command == Command.PRODUCER:
            opening = channel.produce(KEPT, lambda *_: None, lambda: None)
        else:
            opening = channel.consume(
                KEPT, "s", Kind.SHARED, from_earliest=True, take=lambda _: None, on_lost=lambda: None
            )
        with pytest.raises(PulsarFailure, match="NotConnected"):
            await opening


@pytest.mark.parametrize("command", [Command.PING, Command.LOOKUP])
async def test_who_waits_for_an_answer_hears_at_once_that_the_connection_is_lost(
    peer: PulsarPeer, command: Command
) -> None:
    async with opened(peer.url, limits=replace(LIMITS, operation_timeout_s=60, ping_timeout_s=60)) as channels:
        channel = await channels.channel(KEPT, gathers=False)
        peer.answers[command] = lambda visitor, _: visitor.hang_up()
        for _ in range(2):  # the second one asks on a connection that is known to be lost
            with pytest.raises(PulsarFailure, match="NotConnected"):
                await asyncio.wait_for(
                    channel.ping() if command == Command.PING else channel.look_up(KEPT, authoritative=False), 5
                )


async def test_a_connection_that_nobody_uses_is_not_kept(peer: PulsarPeer) -> None:
    """A broker that lets nobody in is asked again and again, and one that pauses whether it would let one in."""
    async with opened(peer.url) as channels:
        channel = await channels.channel(KEPT, gathers=False)
        del peer.answers[Command.PING]
        assert await channels.check() == [True]
        del peer.answers[Command.CONNECT]
        with pytest.raises(TimeoutError):
            await channels.greet(Route("127.0.0.1", peer.port), 0.1)
        await until(lambda: [visitor.gone for visitor in peer.visitors] == [False, True, True])
        assert not channel.lost


async def test_a_silent_address_of_a_host_is_passed_over(peer: PulsarPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent:
        host, port = silent.getsockname()
        # Who has taken the one place that there is keeps all others waiting for an answer.
        taken = socket.create_connection((host, port))
        loop = asyncio.get_running_loop()
        found = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, at)) for at in (port, peer.port)]

        async def getaddrinfo(*_: object, **__: object) -> list[Any]:
            return found

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        async with opened("pulsar://brokers:6650") as channels:
            await (await channels._to(Route("brokers", 6650))).ping()
        taken.close()
    assert peer.all_said(Command.PING)


async def test_an_address_that_leads_nowhere_is_named(peer: PulsarPeer) -> None:
    """A broker names one of its own for its topics, which may be known only where it runs."""
    broker = PulsarBroker(peer.url, limits=replace(LIMITS, connect_timeout_s=0.2))
    async with PulsarPeer() as silent:
        del silent.answers[Command.CONNECT]
        for port, why in ((1, ": "), (silent.port, " gives no answer")):
            peer.answers[Command.LOOKUP] = lambda visitor, asked: visitor.tell(
                Command.LOOKUP_RESPONSE,
                peer.found(asked, url=f"pulsar://127.0.0.1:{port}"),  # noqa: B023
            )
            with pytest.raises(BrokerUnavailable, match=rf"no connection could be made \(127.0.0.1:{port}{why}"):
                await broker.producer(KEPT)
    await broker.aclose()


async def test_a_file_without_authorities_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    for text_ in (None, "", "-----BEGIN PRIVATE KEY-----"):
        if text_ is not None:
            file.write_text(text_, encoding="utf-8")
        broker = PulsarBroker("pulsar+ssl://127.0.0.1:1", tls_trust_certs=str(file), limits=LIMITS)
        with pytest.raises(BrokerUnavailable, match=f"127.0.0.1:1 failed: {file} holds no certificate"):
            await broker.connect()


@pytest.mark.parametrize("host", ["pulsar..svc", "p" * 64])
async def test_a_name_that_no_host_has_is_one_that_cannot_be_reached(peer: PulsarPeer, host: str) -> None:
    broker = PulsarBroker(f"pulsar://{host}:6650", limits=LIMITS)
    with pytest.raises(BrokerUnavailable, match=f"{host}:6650 failed: no host has such a name"):
        await broker.connect()
    async with opened(peer.url) as channels:
        peer.answers[Command.LOOKUP] = lambda visitor, asked: visitor.tell(
            Command.LOOKUP_RESPONSE, peer.found(asked, url=f"pulsar://{host}:6650")
        )
        with pytest.raises(PulsarFailure, match="no host has such a name"):
            await channels.channel(KEPT, gathers=False)


async def test_behind_a_proxy_the_loss_of_the_brokers_is_noticed(
    peer: PulsarPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_NOBODY_S", 0.3)
    peer.answers[Command.LOOKUP] = lambda visitor, asked: visitor.tell(
        Command.LOOKUP_RESPONSE, peer.found(asked, url="pulsar://inside:6650", proxied=True)
    )
    connected = peer.answers[Command.CONNECT]
    broker = PulsarBroker(peer.url, limits=replace(LIMITS, watch_interval_s=0.05))
    producer = await broker.producer(KEPT)
    await producer.send(b"before")
    # The proxy lets in whoever only asks, and hangs up on who wants to be led to a broker.
    peer.answers[Command.CONNECT] = lambda visitor, asked: (
        visitor.hang_up() if asked.text(6) else connected(visitor, asked)
    )
    next(visitor for visitor in peer.visitors if visitor.said(Command.PRODUCER)).hang_up()
    await until(lambda: not broker.connected)
    with pytest.raises(BrokerUnavailable, match="was not sent"):
        await producer.send(b"meanwhile")
    peer.answers[Command.CONNECT] = connected
    await until(lambda: broker.connected)
    await producer.send(b"after")
    await broker.aclose()


async def test_an_address_behind_a_proxy_is_handed_on_as_it_is(peer: PulsarPeer) -> None:
    peer.answers[Command.LOOKUP] = lambda visitor, asked: visitor.tell(
        Command.LOOKUP_RESPONSE, peer.found(asked, url="pulsar://[fd00::1]:6650", proxied=True)
    )
    async with opened(peer.url) as channels:
        await channels.channel(KEPT, gathers=False)
        urls = ["pulsar://inside:port", "pulsar://[fd00::1:6650", "pulsar://", "inside"]
        peer.answers[Command.LOOKUP] = lambda visitor, asked: visitor.tell(
            Command.LOOKUP_RESPONSE, peer.found(asked, url=urls[0])
        )
        while urls:
            with pytest.raises(PulsarFailure, match="no address of this kind"):
                await channels.channel(KEPT, gathers=False)
            del urls[0]
    assert [said.text(6) for said in peer.all_said(Command.CONNECT)] == ["", "[fd00::1]:6650"]


async def test_pauses_between_tries_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    paused: list[float] = []

    async def pause(seconds: float) -> None:
        paused.append(seconds)

    monkeypatch.setattr(patience, "time", SimpleNamespace(monotonic=lambda: sum(paused)))
    monkeypatch.setattr(patience, "asyncio", SimpleNamespace(sleep=pause))

    async def refuse() -> None:
        raise PulsarFailure(Result.ServiceUnitNotReady)

    with pytest.raises(PulsarFailure):
        await patience.patiently(refuse, replace(LIMITS, open_timeout_s=30.0))
    assert sum(paused) == pytest.approx(30.0)
    assert paused[0] <= 0.3
    assert max(paused) <= 3.0
    assert len(paused) < 40
    assert len(set(paused)) == len(paused)


async def test_a_busy_channel_is_not_a_silent_one(peer: PulsarPeer) -> None:
    """An answer comes behind all that is on its way already."""
    async with opened(peer.url) as channels:
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
        async with opened(url, limits=limits) as channels:
            found = await asyncio.gather(*(channels.channel(f"{KEPT}-{n}", gathers=False) for n in range(20)))
            assert len(set(found)) == 1
            assert len(silent.visitors) == 1
            # Nor does anybody ask it again.
            await channels.channel(KEPT, gathers=True)
            assert len(silent.visitors) == 1


async def test_a_host_that_knows_no_topics_now_is_passed_over(peer: PulsarPeer) -> None:
    async with PulsarPeer() as ill:
        ill.answers[Command.LOOKUP] = lambda visitor, asked: visitor.tell(
            Command.LOOKUP_RESPONSE, number(3, 2) + number(4, asked.number(2)) + number(6, 6) + text(7, b"not now")
        )
        async with opened(f"pulsar://127.0.0.1:{ill.port},127.0.0.1:{peer.port}") as channels:
            with pytest.raises(PulsarFailure, match="not now"):
                await channels.channel(KEPT, gathers=False)
            await (await channels.channel(KEPT, gathers=False)).ping()
        assert peer.all_said(Command.PING)


async def test_what_waits_to_be_written_is_written_before_the_end(peer: PulsarPeer) -> None:
    """And no longer than that is waited for."""
    del peer.answers[Command.SEND]
    payload = bytes(1_000_000)
    async with asyncio.timeout(30):
        async with opened(peer.url, limits=replace(LIMITS, ping_timeout_s=60.0)) as channels:
            producer = PulsarProducer(broker_of(channels, peer.url), KEPT)
            await producer.join()
            for _ in range(20):
                producer.post(payload)
    await until(lambda: [payload] * 20 in [visitor.payloads for visitor in peer.visitors])


async def test_the_end_waits_for_no_broker_that_reads_nothing(peer: PulsarPeer) -> None:
    async with opened(peer.url) as channels:
        channel = await channels.channel(KEPT, gathers=False)
        (visitor,) = peer.visitors
        visitor._writer.transport.pause_reading()  # type: ignore[attr-defined]
        channel.write(bytes(20_000_000))
    await until(lambda: channel.lost)


async def test_nothing_is_opened_once_they_are_closed(peer: PulsarPeer) -> None:
    greeting = peer.answers.pop(Command.CONNECT)
    async with opened(peer.url) as channels:
        opening = asyncio.ensure_future(channels.channel(KEPT, gathers=False))
        await until(lambda: peer.all_said(Command.CONNECT))
    peer.answers[Command.CONNECT] = greeting
    for late in (opening, channels.channel(KEPT, gathers=False)):
        with pytest.raises(PulsarFailure, match="AlreadyClosed"):
            await late
    assert len(peer.visitors) == 1


async def test_a_batch_is_heard_message_by_message(peer: PulsarPeer) -> None:
    """Other people's clients gather unless they are told not to."""
    async with opened(peer.url) as channels:
        heard: list[bytes] = []
        channel = await channels.channel(PASSING, gathers=False)
        await channel.read(PASSING, heard.append, permits=4, on_lost=lambda: None)
        (subscribe,) = peer.all_said(Command.SUBSCRIBE)
        peer.visitors[0].deliver(subscribe.number(4), 1, b"one", b"two", b"three", batch=True)
        peer.visitors[0].deliver(subscribe.number(4), 2, b"four")
        await until(lambda: heard == [b"one", b"two", b"three", b"four"])
        # Each took a permit.
        flows = await until(lambda: (said := peer.all_said(Command.FLOW)) and len(said) == 2 and said)
        assert [flow.number(2) for flow in flows] == [4, 3]
