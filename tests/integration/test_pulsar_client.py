"""What Pulsar's client and broker do that broker/pulsar relies on or works around.

These are not promises of ours. A test that fails after an update tells what a new version does differently, and which
of our precautions is needed no more, or no longer enough.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import subprocess
import sys
import urllib.request
import uuid
from typing import TYPE_CHECKING, Any

import _pulsar
import pulsar
import pulsar.asyncio
import pytest

from tests.contract.waiting import until, within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.pulsar_server import PulsarServer

pytestmark = pytest.mark.pulsar

HOLDER = """
import sys, pulsar
url, topic, acks = sys.argv[1:4]
client = pulsar.Client(url, logger=pulsar.FileLogger(pulsar.LoggerLevel.Error, "/dev/null"))
consumer = client.subscribe(topic, "workers", pulsar.ConsumerType.Shared, receiver_queue_size=0)
message = consumer.receive()
if acks == "acks":
    consumer.acknowledge(message)
print(message.redelivery_count(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
async def client(pulsar_server: PulsarServer) -> AsyncIterator[pulsar.asyncio.Client]:
    logger = pulsar.FileLogger(pulsar.LoggerLevel.Error, os.devnull)
    client = pulsar.asyncio.Client(pulsar_server.url, logger=logger)
    yield client
    await client.close()


@pytest.fixture
def topic() -> str:
    return f"persistent://public/default/pinned-{uuid.uuid4().hex[:12]}"


async def shared(client: pulsar.asyncio.Client, topic: str, **options: Any) -> pulsar.asyncio.Consumer:
    return await client.subscribe(topic, "workers", pulsar.ConsumerType.Shared, **{"receiver_queue_size": 0, **options})


async def held_by_a_process(server: PulsarServer, topic: str, *, acks: bool = False) -> tuple[Any, int]:
    """A process that holds one message, and how often the broker says that it was delivered before."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HOLDER, server.url, topic, "acks" if acks else "holds"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    return process, int(await within(20, process.stdout.readline()))


def backlog(server: PulsarServer, topic: str) -> int:
    url = f"{server.admin_url}/admin/v2/{topic.replace('://', '/')}/stats"
    with urllib.request.urlopen(url, timeout=10) as response:
        return int(json.load(response)["subscriptions"]["workers"]["msgBacklog"])


async def test_a_cancelled_receive_takes_a_message_along(client: pulsar.asyncio.Client, topic: str) -> None:
    """So no receive of the client is ever cancelled: broker/mailbox.py."""
    consumer = await shared(client, topic)
    producer = await client.create_producer(topic, batching_enabled=False)
    abandoned = asyncio.ensure_future(consumer.receive())
    await asyncio.sleep(0)
    abandoned.cancel()
    await asyncio.wait({abandoned})
    await producer.send(b"lost")
    await producer.send(b"next")
    assert (await within(10, consumer.receive())).data() == b"next"


async def test_a_death_is_no_redelivery_to_the_broker(
    client: pulsar.asyncio.Client, pulsar_server: PulsarServer, topic: str
) -> None:
    """So the gateway counts the deaths of a request's holders: gateway/requests/conversation.py."""
    await (await shared(client, topic)).close()
    await (await client.create_producer(topic)).send(b"poison")
    for _ in range(2):
        process, deliveries = await held_by_a_process(pulsar_server, topic)
        assert deliveries == 0
        process.send_signal(signal.SIGKILL)
        await process.wait()
    assert (await within(10, (await shared(client, topic)).receive())).redelivery_count() == 0


async def test_an_acknowledgement_that_returned_was_not_sent(
    client: pulsar.asyncio.Client, pulsar_server: PulsarServer, topic: str
) -> None:
    """So a crash repeats finished work, and its identity must make that harmless: workernode/attempt.py."""
    await (await shared(client, topic)).close()
    await (await client.create_producer(topic)).send(b"done")
    process, _ = await held_by_a_process(pulsar_server, topic, acks=True)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert (await within(10, (await shared(client, topic)).receive())).data() == b"done"


async def test_an_unload_delivers_again_what_is_held_and_counts_nothing(
    client: pulsar.asyncio.Client, pulsar_server: PulsarServer, topic: str
) -> None:
    """So a second delivery is parked while its first holder lives; the holder's later acknowledgement still counts."""
    consumer = await shared(client, topic)
    await (await client.create_producer(topic)).send(b"held")
    held = await within(10, consumer.receive())
    again = asyncio.ensure_future(consumer.receive())
    await asyncio.to_thread(pulsar_server.unload, topic)
    async with asyncio.timeout(20):
        second = await again
    assert (second.data(), second.redelivery_count()) == (b"held", 0)
    await consumer.acknowledge(held)
    await until(lambda: backlog(pulsar_server, topic) == 0)


async def test_negative_acknowledgements_one_after_the_other_hold_all_of_them_up(
    client: pulsar.asyncio.Client, topic: str
) -> None:
    """So they are gathered and given together, on a tick: broker/pulsar/prefetching_consumer.py."""
    consumer = await shared(client, topic, negative_ack_redelivery_delay_ms=2000)
    producer = await client.create_producer(topic)
    for number in range(60):
        await producer.send(b"%d" % number)
    messages = [await within(10, consumer.receive()) for _ in range(60)]
    again = asyncio.ensure_future(consumer.receive())
    for message in messages:  # for 3 s
        await consumer.negative_acknowledge(message)
        await asyncio.wait({again}, timeout=0.05)
    assert not again.done()
    async with asyncio.timeout(10):
        await again


async def test_a_receipt_on_a_non_persistent_topic_does_not_say_that_anybody_heard(
    client: pulsar.asyncio.Client, topic: str
) -> None:
    """So links have acknowledgements of their own: wire/link.py."""
    producer = await client.create_producer(topic.replace("persistent", "non-persistent"))
    assert await within(10, producer.send(b"nobody listens")) is not None


async def test_the_defaults_that_we_never_leave_alone() -> None:
    """Batching delays a request by 10 ms; prefetching hoards a backlog; hosts are not compared with certificates."""
    defaults = inspect.signature(pulsar.asyncio.Client.create_producer).parameters
    assert defaults["batching_enabled"].default is True
    assert defaults["batching_max_publish_delay_ms"].default == 10
    defaults = inspect.signature(pulsar.asyncio.Client.subscribe).parameters
    assert defaults["receiver_queue_size"].default == 1000
    assert defaults["negative_ack_redelivery_delay_ms"].default == 60_000
    assert inspect.signature(pulsar.Client.__init__).parameters["tls_validate_hostname"].default is False
    assert _pulsar.ConsumerConfiguration().subscription_initial_position() == _pulsar.InitialPosition.Latest


async def test_nobody_need_be_told_of_an_acknowledgement(client: pulsar.asyncio.Client, topic: str) -> None:
    """``None`` is taken for a callback, which spares a change of threads: broker/pulsar/prefetching_consumer.py."""
    consumer = await shared(client, topic)
    producer = await client.create_producer(topic)
    await producer.send(b"one")
    message = await within(10, consumer.receive())
    consumer._consumer.acknowledge_async(message.message_id(), None)
