"""Many static nodes in one process, each with a model of its own, on one connection to the broker.

``python -m bench.scale.many_nodes COUNT PORT``. They answer as the compiled upstream does, so that the load generator
can check every token. PORT serves ``/readyz`` once all take work.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from prometheus_client import CollectorRegistry

import workernode.role
from broker.open import open_broker
from process.http import bind, health_server
from process.logging import set_up
from process.settings import load
from workernode.settings import NodeSettings

TOKENS = 50
STARTING_MAX = 20
"""So many nodes start at once."""


def model(number: int) -> str:
    """The name of a node's model."""
    return f"bench-{number}"


async def run(count: int, port: int) -> None:
    """Serve until cancelled."""
    ready = 0
    answer = "".join(f"token-{number:04d} " for number in range(TOKENS))
    common = load(NodeSettings, None)
    broker = open_broker(common.pulsar_url, **common.broker_options)
    starting = asyncio.Semaphore(STARTING_MAX)

    async def node(number: int) -> None:
        nonlocal ready
        began = asyncio.Event()
        # The last space, which a variable of the environment would lose, is a part of the last token.
        own = {"static_answer": answer, "model_name": model(number), "node_name": model(number), "node_port": 0}
        async with starting:
            role = workernode.role.run(common.model_copy(update=own), broker, asyncio.Event(), ready=began.set)
            running = asyncio.ensure_future(role)
            await began.wait()
        ready += 1
        await running

    def report() -> tuple[bool, dict[str, int]]:
        return ready == count, {"ready": ready}

    async with health_server(bind("127.0.0.1", port, "PORT"), CollectorRegistry(), report):
        await asyncio.gather(*(node(number) for number in range(count)))


if __name__ == "__main__":
    set_up("warning")
    uvloop.run(run(int(sys.argv[1]), int(sys.argv[2])))
