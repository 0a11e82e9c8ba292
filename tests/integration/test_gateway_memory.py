"""What a gateway keeps of a request while it is answered."""

from __future__ import annotations

import contextlib
import gc
import tracemalloc

from broker.interface import Kind
from broker.memory import MemoryBroker, MemoryServer
from tests.in_process import InProcessFleet
from tests.raw_http import Connection, post
from wire.topics import WORKERS, Topics

MIB = 2**20
REQUESTS = 6


async def test_a_prompt_is_kept_by_the_queue_alone_once_it_is_there() -> None:
    server = MemoryServer()
    fleet = InProcessFleet(lambda: MemoryBroker(server), {"PULSAR_URL": "memory:", "MODELS": "model"})
    node = MemoryBroker(server)
    requests = await node.consumer(Topics().requests("model"), WORKERS, Kind.SHARED, from_earliest=True)
    body = {"model": "model", "stream": True, "messages": [{"role": "user", "content": "w" * MIB}]}
    question = post(body)
    tracemalloc.start()
    try:
        gateway = await fleet.gateway(STATUS_HOLD_S="0.01")
        async with contextlib.AsyncExitStack() as stack:
            kept = tracemalloc.get_traced_memory()[0]
            for _ in range(REQUESTS):
                client = await stack.enter_async_context(Connection(gateway.port))
                client.send(question)
                requests.ack(await requests.receive())
                status, _ = await client.head()
                assert status == 200
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] - kept < REQUESTS * MIB / 4
    finally:
        tracemalloc.stop()
        await fleet.aclose()
        await node.aclose()
