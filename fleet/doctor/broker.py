"""The broker: whether it can be reached, how long it takes, and whether the fleet's topics can be made."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import statistics
import time
from typing import TYPE_CHECKING

from broker.interface import BrokerError, BrokerForbidden, Kind, TopicMissing
from fleet.doctor.finding import Finding, fail, ok, warn
from wire.topics import LEDGER, WORKERS

if TYPE_CHECKING:
    from broker.interface import Broker, Consumer
    from wire.topics import Topics

CHECK_WAIT_S = 15.0
"""One step with the broker takes no longer."""
ROUNDS = 7
WARM_UP = 2
SLOW_MS = 8.0
"""Pulsar's default makes a reader that has caught up look for new messages every 10 ms."""
DELAY_REMEDY = "Set managedLedgerNewEntriesCheckDelayInMillis=0 in the broker's configuration and restart it."
REACH_REMEDY = "Check PULSAR_URL, or start the broker. For the embedded broker of ./start.sh it is memory:"
MISSING_REMEDY = (
    "Make the tenant and the namespace. Where the broker makes no topics and subscriptions itself, 'fleet access' does."
)
REFUSED_REMEDY = "If that is a policy or a limit of the namespace, change it; else look into the broker's log."
_SUBSCRIPTION = "doctor"


async def check_broker(broker: Broker, topics: Topics, model: str | None) -> list[Finding]:
    """Findings on the connection, the topics and the round trip. ``model`` is the node's, if there is one."""
    began = time.perf_counter()
    try:
        async with asyncio.timeout(CHECK_WAIT_S):
            await broker.connect()
    except BrokerForbidden as error:
        return [fail("broker", str(error), "Check PULSAR_TOKEN, or ask for a token that this broker accepts.")]
    except (BrokerError, TimeoutError) as error:
        sentence = str(error) or f"The broker did not answer within {CHECK_WAIT_S:g} s."
        return [fail("broker", sentence, REACH_REMEDY)]
    took_ms = _ms_since(began)
    found = [ok("broker", f"The broker was reached in {took_ms:.0f} ms.", took_ms)]
    if model is not None:
        found.append(await _check_topic(broker, "request topic", topics.requests(model), WORKERS))
    found.append(await _check_topic(broker, "results topic", topics.results, LEDGER))
    found.append(await _check_round_trip(broker, f"persistent://{topics.tenant}/{topics.requests_namespace}/doctor"))
    return found


async def _check_topic(broker: Broker, name: str, topic: str, subscription: str) -> Finding:
    try:
        async with asyncio.timeout(CHECK_WAIT_S):
            await broker.ensure(topic, subscription)
    except BrokerForbidden as error:
        return warn(name, str(error), "Good if it is there: see 'fleet access'. Else let this token consume there.")
    except TopicMissing as error:
        return fail(name, str(error), MISSING_REMEDY)
    except (BrokerError, TimeoutError) as error:
        return fail(name, str(error) or f"The broker did not make {topic} within {CHECK_WAIT_S:g} s.", REFUSED_REMEDY)
    return ok(name, f"{topic} with its subscription {subscription!r} is there.")


async def _check_round_trip(broker: Broker, topic: str) -> Finding:
    """Through a topic of the doctor's own, which stays behind, empty."""
    name = "round trip"
    try:
        async with asyncio.timeout(CHECK_WAIT_S):
            took_ms = await _round_trip_ms(broker, topic)
    except (BrokerError, TimeoutError):
        return warn(name, f"No message came back through {topic}.", "Look into the broker's log; run the doctor again.")
    if took_ms < SLOW_MS:
        return ok(name, f"A message goes there and back in {took_ms:.1f} ms.", took_ms)
    sentence = f"A message takes {took_ms:.1f} ms there and back, as it does with Pulsar's default of 10 ms."
    return warn(name, sentence, f"If neither the way to the broker nor a busy machine is why: {DELAY_REMEDY}", took_ms)


async def _round_trip_ms(broker: Broker, topic: str) -> float:
    consumer = await broker.consumer(topic, _SUBSCRIPTION, Kind.SHARED, prefetch=1)
    producer = await broker.producer(topic)
    try:
        times = []
        for _ in range(ROUNDS):
            payload = secrets.token_bytes(16)
            began = time.perf_counter()
            back = asyncio.ensure_future(_receive(consumer, payload))
            try:
                await producer.send(payload)
                await asyncio.shield(back)
            except BaseException:
                # A pending receive ends with its consumer, and not by being cancelled.
                await consumer.aclose()
                with contextlib.suppress(BrokerError):
                    await back
                raise
            times.append(_ms_since(began))
        return statistics.median(times[WARM_UP:])
    finally:
        await producer.aclose()
        await consumer.aclose()


async def _receive(consumer: Consumer, payload: bytes) -> None:
    """Take messages until this one; others are of an earlier run that was broken off."""
    while True:
        delivery = await consumer.receive()
        consumer.ack(delivery)
        if delivery.payload == payload:
            return


def _ms_since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 3)
