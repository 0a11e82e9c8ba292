"""What is lost comes back and what is well is left alone, at a broker that does what real ones seldom do."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from broker.interface import BrokerUnavailable, Kind, SendUnknown
from broker.pulsar import PulsarBroker, PulsarLimits
from broker.pulsar.frames import Command, Fields, number, text
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.pulsar_peer import PulsarPeer, Visitor

A = "persistent://public/default/a"
B = "persistent://public/default/b"
LIMITS = PulsarLimits(
    ping_timeout_s=0.2,
    connect_timeout_s=2.0,
    operation_timeout_s=2,
    open_timeout_s=0.5,
    watch_interval_s=0.05,
    send_timeout_ms=300,
    pending_sends_max=5,
)
TOPIC_FIELD = 1
SERVICE_NOT_READY = number(2, 6) + text(3, b"not now")


@pytest.fixture
async def broker(peer: PulsarPeer) -> AsyncIterator[PulsarBroker]:
    broker = PulsarBroker(peer.url, limits=LIMITS)
    yield broker
    await broker.aclose()


def _refuse(peer: PulsarPeer, command: Command, topic: str, request: int) -> None:
    """From now on, openings of one topic fail; ``request`` is the field with the number of the request."""
    usual = peer.answers[command]

    def answer(visitor: Visitor, asked: Fields) -> None:
        if asked.text(TOPIC_FIELD) == topic:
            visitor.tell(Command.ERROR, number(1, asked.number(request)) + SERVICE_NOT_READY)
        else:
            usual(visitor, asked)

    peer.answers[command] = answer


def _close(peer: PulsarPeer, opened: Command, closed: Command, id_field: int, topic: str) -> None:
    """As when the broker moves a topic."""
    for visitor in peer.visitors:
        for said in visitor.said(opened):
            if said.text(TOPIC_FIELD) == topic:
                visitor.tell(closed, number(1, said.number(id_field)))


def _close_consumer(peer: PulsarPeer, topic: str) -> None:
    _close(peer, Command.SUBSCRIBE, Command.CLOSE_CONSUMER, 4, topic)


async def test_a_topic_that_cannot_be_joined_leaves_the_others_their_room(
    peer: PulsarPeer, broker: PulsarBroker
) -> None:
    stuck, well = await broker.producer(A), await broker.producer(B)
    _refuse(peer, Command.PRODUCER, A, 3)
    _close(peer, Command.PRODUCER, Command.CLOSE_PRODUCER, 2, A)
    await until(lambda: not stuck.connected)
    ends = await asyncio.gather(*(stuck.send(b"%d" % n) for n in range(5)), return_exceptions=True)
    assert {type(end) for end in ends} == {BrokerUnavailable}  # none was written
    await well.send(b"room")
    assert broker.connected


async def test_a_member_that_is_long_in_coming_back_keeps_no_other_away(peer: PulsarPeer, broker: PulsarBroker) -> None:
    slow, other = [await broker.consumer(topic, "workers", Kind.SHARED) for topic in (A, B)]
    usual = peer.answers[Command.SUBSCRIBE]

    def answer(visitor: Visitor, asked: Fields) -> None:
        if asked.text(TOPIC_FIELD) != A:
            usual(visitor, asked)

    peer.answers[Command.SUBSCRIBE] = answer
    _close_consumer(peer, A)
    await until(lambda: [each.text(TOPIC_FIELD) for each in peer.all_said(Command.SUBSCRIBE)].count(A) == 2)
    _close_consumer(peer, B)
    async with asyncio.timeout(1.0):  # half of what the other one takes to find out that it has failed
        await until(lambda: [each.text(TOPIC_FIELD) for each in peer.all_said(Command.SUBSCRIBE)].count(B) == 2)
        await until(lambda: other.connected)
    assert not slow.connected


async def test_while_a_channel_answers_no_new_connection_is_asked(peer: PulsarPeer, broker: PulsarBroker) -> None:
    lost, well = await broker.consumer(A, "workers", Kind.SHARED), await broker.producer(B)
    _refuse(peer, Command.SUBSCRIBE, A, 5)
    del peer.answers[Command.CONNECT]  # whoever comes anew gets no answer
    _close_consumer(peer, A)
    seen = len(peer.all_said(Command.PING))
    await until(lambda: len(peer.all_said(Command.PING)) >= seen + 5)
    assert broker.connected
    assert not lost.connected
    await well.send(b"well")


async def test_subscriptions_are_made_anew_before_anything_is_published_at_a_broker_that_was_away(
    peer: PulsarPeer, broker: PulsarBroker
) -> None:
    """It may have come back without its data, and what is published before would be for nobody."""
    for _ in range(2):
        await broker.ensure(A, "workers")
    assert len(peer.all_said(Command.SUBSCRIBE)) == 1
    producer = await broker.producer(A)
    greeting = peer.answers.pop(Command.CONNECT)
    for visitor in peer.visitors:
        visitor.hang_up()
    await until(lambda: not broker.connected)
    known = len(peer.visitors)
    peer.answers[Command.CONNECT] = greeting
    await until(lambda: broker.connected and producer.connected)
    said = [command for visitor in peer.visitors[known:] for command, _ in visitor.commands]
    assert said.index(Command.SUBSCRIBE) < said.index(Command.PRODUCER)
    assert len(peer.all_said(Command.SUBSCRIBE)) == 2
    await producer.send(b"for somebody")


async def test_subscriptions_of_a_topic_that_was_closed_are_made_anew_before_anything_is_published(
    peer: PulsarPeer, broker: PulsarBroker
) -> None:
    """Somebody may have deleted it, and who publishes makes it anew without any."""
    await broker.ensure(A, "workers")
    producer = await broker.producer(A)
    _close(peer, Command.PRODUCER, Command.CLOSE_PRODUCER, 2, A)
    await until(lambda: len(peer.all_said(Command.PRODUCER)) == 2)
    (visitor,) = (each for each in peer.visitors if each.said(Command.PRODUCER))
    said = [command for command, _ in visitor.commands if command in (Command.SUBSCRIBE, Command.PRODUCER)]
    assert said == [Command.SUBSCRIBE, Command.PRODUCER] * 2
    await until(lambda: producer.connected)
    await producer.send(b"for somebody")


async def test_subscriptions_of_a_topic_that_nobody_published_to_meanwhile_are_made_anew(
    peer: PulsarPeer, broker: PulsarBroker
) -> None:
    """Who does not publish to it does not hear that it is deleted."""
    for times in (1, 2):
        await broker.ensure(A, "workers")
        producer = await broker.producer(A)
        assert len(peer.all_said(Command.SUBSCRIBE)) == times
        await producer.aclose()


async def test_who_may_only_publish_any_more_goes_on_publishing(peer: PulsarPeer, broker: PulsarBroker) -> None:
    await broker.ensure(A, "workers")
    producer = await broker.producer(A)
    peer.answers[Command.SUBSCRIBE] = lambda visitor, asked: visitor.tell(
        Command.ERROR, number(1, asked.number(5)) + number(2, 4) + text(3, b"no")
    )
    _close(peer, Command.PRODUCER, Command.CLOSE_PRODUCER, 2, A)
    await until(lambda: len(peer.all_said(Command.PRODUCER)) == 2)
    await until(lambda: producer.connected)


async def test_why_a_topic_cannot_be_joined_is_told_once_and_anew_after_it_was(
    peer: PulsarPeer, broker: PulsarBroker, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = await broker.consumer(A, "workers", Kind.SHARED)
    joins = peer.answers[Command.SUBSCRIBE]
    for times in (1, 2):
        peer.answers[Command.SUBSCRIBE] = lambda visitor, asked: visitor.tell(
            Command.ERROR, number(1, asked.number(5)) + number(2, 4) + text(3, b"no")
        )
        asked = len(peer.all_said(Command.SUBSCRIBE))
        _close_consumer(peer, A)
        await until(lambda: len(peer.all_said(Command.SUBSCRIBE)) >= asked + 4)  # noqa: B023
        assert [record.message for record in caplog.records].count("A topic cannot be joined anew yet.") == times
        peer.answers[Command.SUBSCRIBE] = joins
        await until(lambda: consumer.connected)


@pytest.mark.parametrize(
    "code", [pytest.param(7, id="quota"), pytest.param(11, id="deleted"), pytest.param(15, id="terminated")]
)
async def test_a_send_does_not_wait_for_a_topic_that_takes_nothing(peer: PulsarPeer, code: int) -> None:
    broker = PulsarBroker(peer.url, limits=replace(LIMITS, send_timeout_ms=60_000))
    producer, _ = await broker.producer(A), await broker.producer(B)
    joins, receipt = peer.answers[Command.PRODUCER], peer.answers.pop(Command.SEND)
    written = asyncio.ensure_future(producer.send(b"perhaps it has this one"))
    await until(lambda: peer.all_said(Command.SEND))
    peer.answers[Command.PRODUCER] = lambda visitor, asked: visitor.tell(
        Command.ERROR, number(1, asked.number(3)) + number(2, code) + text(3, b"no")
    )
    _close(peer, Command.PRODUCER, Command.CLOSE_PRODUCER, 2, A)
    await until(lambda: not producer.connected)
    async with asyncio.timeout(10):
        with pytest.raises(BrokerUnavailable) as refused:
            await producer.send(b"not written")
        assert not isinstance(refused.value, SendUnknown)
        with pytest.raises(SendUnknown):
            await written
    assert broker.window.count == 0
    peer.answers |= {Command.PRODUCER: joins, Command.SEND: receipt}
    await until(lambda: producer.connected)
    await producer.send(b"it takes some again")
    await broker.aclose()


async def test_why_the_broker_refuses_is_told_once(
    peer: PulsarPeer, broker: PulsarBroker, caplog: pytest.LogCaptureFixture
) -> None:
    await broker.producer(A)
    greeting = peer.answers[Command.CONNECT]
    peer.answers[Command.CONNECT] = lambda visitor, _: visitor.tell(Command.ERROR, number(2, 3) + text(3, b"expired"))
    for visitor in peer.visitors:
        visitor.hang_up()
    asked = len(peer.visitors)
    await until(lambda: len(peer.visitors) >= asked + 4)
    assert not broker.connected
    assert [record.message for record in caplog.records].count("The broker refuses this process.") == 1
    peer.answers[Command.CONNECT] = greeting
    await until(lambda: broker.connected)


async def test_why_the_connection_is_lost_is_told(
    peer: PulsarPeer, broker: PulsarBroker, caplog: pytest.LogCaptureFixture
) -> None:
    await broker.producer(A)
    peer.answers[Command.CONNECT] = lambda visitor, _: visitor.tell(
        Command.ERROR, number(2, 22) + text(3, b"Reached the maximum number of connections")
    )
    for visitor in peer.visitors:
        visitor.hang_up()
    await until(lambda: not broker.connected)
    (lost,) = [record for record in caplog.records if record.message == "The connection to the broker is lost."]
    assert "Reached the maximum number of connections" in vars(lost)["fields"]["why"]


async def test_what_was_closed_is_never_brought_back(peer: PulsarPeer, broker: PulsarBroker) -> None:
    """It would take a place at the broker again and again, for nobody."""
    lasting = await broker.producer(B)
    members = [
        await broker.producer(A),
        await broker.consumer(A, "workers", Kind.SHARED),
        await broker.listen(A.replace("persistent", "non-persistent"), lambda _: None, waiting_max=1),
    ]
    for member in members:
        await member.aclose()
    assert broker.members == {lasting}


async def test_what_is_opened_while_the_connection_is_closed_is_closed_too(peer: PulsarPeer) -> None:
    opened = peer.answers.pop(Command.PRODUCER)
    broker = PulsarBroker(peer.url, limits=LIMITS)
    opening = asyncio.ensure_future(broker.producer(A))
    (asked,) = await until(lambda: peer.all_said(Command.PRODUCER))
    closing = asyncio.ensure_future(broker.aclose())
    opened(next(visitor for visitor in peer.visitors if visitor.said(Command.PRODUCER)), asked)
    await closing
    with pytest.raises(BrokerUnavailable):
        await opening
    assert not broker.members


async def test_a_connection_that_is_closed_while_it_is_made_watches_nothing(peer: PulsarPeer) -> None:
    greeting = peer.answers.pop(Command.CONNECT)
    broker = PulsarBroker(peer.url, limits=LIMITS)
    connecting = asyncio.ensure_future(broker.connect())
    (asked,) = await until(lambda: peer.all_said(Command.CONNECT))
    await broker.aclose()
    greeting(peer.visitors[0], asked)
    with pytest.raises(BrokerUnavailable, match="closed"):
        await connecting
    assert not broker.connected
