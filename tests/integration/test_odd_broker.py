"""The connections to a broker, at one that does whatever a broker may do: nothing is lost, and all goes on afterwards.

The simulation has a broker of its own in the place of these connections. ``ODD_BROKER_SEEDS`` has more seeds run.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from broker.interface import BrokerError, ConsumerClosed, Kind
from broker.pulsar import PulsarBroker, PulsarLimits, patience, watch
from tests.odd_broker import OddBroker
from tests.pulsar_peer import PulsarPeer
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    from broker.interface import Consumer, Producer

    T = TypeVar("T")

KEPT = "persistent://public/default/kept"
GATHERED = "persistent://public/default/gathered"
LIMITS = PulsarLimits(
    ping_timeout_s=0.2,
    connect_timeout_s=0.4,
    operation_timeout_s=1,
    open_timeout_s=0.5,
    watch_interval_s=0.03,
    send_timeout_ms=500,
    closing_s=0.3,
)
SEEDS = range(int(os.environ.get("ODD_BROKER_SEEDS", "4")))
MESSAGES = 30
SLOTS = 3
ODD_S = 1.0
"""Within this all is published for the first time."""


async def _opened(begin: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await begin()
        except BrokerError:
            await asyncio.sleep(0.02)


async def _publish(producer: Producer, payload: bytes, after_s: float) -> None:
    """Until it is confirmed."""
    await asyncio.sleep(after_s)
    while True:
        try:
            return await producer.send(payload)
        except BrokerError:
            await asyncio.sleep(0.01)


async def _work(consumer: Consumer, taken: Counter[bytes], dice: random.Random, odd: OddBroker) -> None:
    while True:
        try:
            delivery = await consumer.receive()
        except ConsumerClosed:
            return
        taken[delivery.payload] += 1
        await asyncio.sleep(dice.random() * 0.05)
        if not odd.calm and dice.random() < 0.2:
            consumer.nack(delivery)
        else:
            consumer.ack(delivery)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", SEEDS)
async def test_at_an_odd_broker_nothing_is_lost_and_all_goes_on(
    seed: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module, name, seconds in (
        (watch, "_LOOKS_APART_S", 0.01),
        (watch, "_LOOKS_APART_MAX_S", 0.05),
        (watch, "_NOBODY_S", 0.5),
        (patience, "_RETRY_S", 0.01),
        (patience, "_RETRY_MAX_S", 0.05),
    ):
        monkeypatch.setattr(module, name, seconds)
    dice = random.Random(seed)
    taken: Counter[bytes] = Counter()
    async with PulsarPeer() as peer:
        odd = OddBroker(peer, dice, KEPT)
        broker = PulsarBroker(peer.url, limits=LIMITS)
        producers = [
            await _opened(lambda: broker.producer(KEPT)),
            await _opened(lambda: broker.producer(GATHERED, gather_ms=5)),
        ]
        consumer = await _opened(lambda: broker.consumer(KEPT, "workers", Kind.SHARED))
        slots = [asyncio.create_task(_work(consumer, taken, dice, odd)) for _ in range(SLOTS)]
        payloads = {b"%d" % number for number in range(MESSAGES)}
        sends = [
            asyncio.create_task(_publish(producer, payload, dice.random() * ODD_S))
            for producer in producers
            for payload in sorted(payloads)
        ]
        # It must not be so odd that nothing is ever done.
        await until(lambda: sum(send.done() for send in sends) >= len(sends) * 3 / 4, within_s=60)
        odd.calm = True
        await asyncio.gather(*sends)
        await until(lambda: odd.done, within_s=30)
        # What was confirmed is there, and whoever waits has its permit and no second one.
        assert set(odd.stored[KEPT]) == set(odd.stored[GATHERED]) == set(taken) == payloads
        await until(lambda: broker.connected and all(member.connected for member in broker.members), within_s=30)
        await until(lambda: odd.permits == [SLOTS], within_s=10)
        assert odd.producing == len(producers)
        assert (broker.window.count, broker.window.bytes) == (0, 0)
        await broker.aclose()
        await asyncio.gather(*slots)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
