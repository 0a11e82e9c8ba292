"""What cannot be published is refused or put aside; it never piles up."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from broker.interface import SendUnknown
from broker.memory import MemoryBroker, MemoryServer
from broker.open import open_broker
from broker.pulsar import PulsarBroker
from gateway.settings import GatewaySettings
from process.settings import load
from tests.in_process import InProcessFleet
from tests.integration.test_ends import get
from tests.integration.test_main_job import accepted, asked, known, whole
from tests.integration.test_main_job import client_of as client_of_gateway
from tests.waiting import until
from tests.watched_broker import Watch, WatchedBroker, WatchedProducer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pulsar_server import PulsarServer

PENDING_MAX = 8
SILENT_S = 0.2
"""How long a silent broker lets its senders wait, in which a node answers."""


def test_the_settings_bound_what_waits_for_the_broker() -> None:
    environment = {"PUBLISH_PENDING_MAX": "7", "PUBLISH_PENDING_BYTES_MAX": str(5 * 1024 * 1024)}
    settings = load(GatewaySettings, environment)
    broker = open_broker(settings.pulsar_url, **settings.broker_options)
    assert isinstance(broker, PulsarBroker)
    assert broker.limits.pending_sends_max == 7
    assert broker.limits.pending_bytes_max == 5 * 1024 * 1024


@pytest.mark.pulsar
async def test_requests_beyond_the_limit_are_told_to_come_again_and_not_kept(
    pulsar_url: str, pulsar_server: PulsarServer
) -> None:
    model = f"model-{uuid.uuid4().hex[:8]}"
    limits = {"PULSAR_URL": pulsar_url, "PUBLISH_PENDING_MAX": str(PENDING_MAX)}
    options = load(GatewaySettings, limits).broker_options
    common = {"RES_TOPIC_NAME": f"results-{model}", "MODEL_NAME": model}
    fleet = InProcessFleet(lambda: open_broker(pulsar_url, **options), common)
    gateway = await fleet.gateway(MODELS=model)
    url = f"{gateway.url}/v1/chat/completions"
    async with aiohttp.ClientSession() as session:

        async def ask() -> tuple[int, str | None, str]:
            async with session.post(url, json=asked(model, "r")) as response:
                error: dict[str, Any] = (await response.json()).get("error", {})
                return response.status, response.headers.get("x-should-retry"), error.get("code", "")

        first = asyncio.ensure_future(ask())  # its topic is open from here on
        await accepted(gateway, 1)
        await asyncio.to_thread(pulsar_server.freeze)
        try:
            load_ = [asyncio.ensure_future(ask()) for _ in range(10 * PENDING_MAX)]
            await until(lambda: sum(task.done() for task in load_) >= 9 * PENDING_MAX, within_s=5)
            refused = [task.result() for task in load_ if task.done()]
            assert set(refused) == {(503, "true", "overloaded")}

            async def keeps_the_others_alone() -> bool:
                # The window is the connection's: the first request's receipt or a heartbeat may have a place of it.
                waiting = sum(not task.done() for task in [first, *load_])
                async with session.get(f"{gateway.url}/metrics") as response:
                    owned = f"gateway_requests_owned {float(waiting)}" in await response.text()
                return owned and 1 < waiting <= 1 + PENDING_MAX

            await until(keeps_the_others_alone, within_s=5)
        finally:
            await asyncio.to_thread(pulsar_server.thaw)
            for task in [first, *load_]:
                task.cancel()
            await asyncio.gather(first, *load_, return_exceptions=True)
    await fleet.aclose()


class SilentBroker(WatchedBroker):
    """Takes requests and gives no receipt for them; ``stored``: after it has stored them."""

    def __init__(self, server: MemoryServer, *, stored: bool) -> None:
        super().__init__(MemoryBroker(server), Watch())
        self._stored = stored

    async def producer(self, topic: str, *, gather_ms: int = 0) -> WatchedProducer:
        inner = await super().producer(topic, gather_ms=gather_ms)
        return SilentProducer(inner, topic, Watch(), self._stored) if "/requests." in topic else inner


class SilentProducer(WatchedProducer):
    def __init__(self, inner: WatchedProducer, topic: str, watch: Watch, stored: bool) -> None:
        super().__init__(inner, topic, watch)
        self._stored = stored

    async def send(self, payload: bytes) -> None:
        if self._stored:
            await super().send(payload)
            await asyncio.sleep(SILENT_S)
            raise SendUnknown("No receipt came in time.")
        await asyncio.get_running_loop().create_future()


async def test_a_deadline_that_passes_before_the_receipt_is_a_504_at_that_moment() -> None:
    fleet = InProcessFleet(lambda: SilentBroker(MemoryServer(), stored=False), {"MODEL_NAME": "model"})
    gateway = await fleet.gateway(MODELS="model")
    headers = {"x-request-timeout-ms": "200"}
    async with (
        aiohttp.ClientSession() as session,
        asyncio.timeout(5),
        session.post(f"{gateway.url}/v1/chat/completions", json=asked("model", "r"), headers=headers) as response,
    ):
        assert response.status == 504
        assert (await response.json())["error"]["code"] == "deadline_exceeded"
    await fleet.aclose()


async def test_a_request_without_a_receipt_that_a_node_answers_is_answered(tmp_path: Path) -> None:
    server = MemoryServer()
    fleet = InProcessFleet(lambda: SilentBroker(server, stored=True), {})
    gateway, node = await fleet.gateway(), await fleet.node()
    await known(gateway, node.model)
    async with client_of_gateway(gateway) as client:
        assert await whole(client, node.model, "r1")
    await fleet.aclose()


async def test_a_request_that_perhaps_is_published_has_failed_and_was_not_refused() -> None:
    server = MemoryServer()
    fleet = InProcessFleet(lambda: SilentBroker(server, stored=True), {"MODELS": "model"})
    gateway = await fleet.gateway()
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{gateway.url}/v1/chat/completions", json=asked("model", "r")) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (503, "queue_unavailable")
            assert (response.headers["x-should-retry"], response.headers["retry-after"]) == ("true", "1")
        async with session.get(f"{gateway.url}/metrics") as response:
            figures = (await response.text()).splitlines()
    assert 'gateway_requests_total{outcome="failed"} 1.0' in figures
    assert 'gateway_errors_total{code="queue_unavailable"} 1.0' in figures
    assert 'gateway_refused_requests_total{status="503"} 0.0' in figures
    await fleet.aclose()


async def test_a_message_that_nobody_can_read_leaves_a_trace_and_no_content(
    fleet: InProcessFleet, tmp_path: Path
) -> None:
    gateway = await fleet.gateway()
    node = await fleet.node(MAX_PROCESS_NUM="1")
    management = await fleet.management(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
    await known(gateway, node.model)
    topic = load(GatewaySettings, fleet._common).topics.requests(node.model)
    secret = b"a prompt that is nobody's business"
    producer = await node.broker.producer(topic)
    await producer.send(secret)
    await producer.send(secret)

    async def told() -> list[dict[str, Any]]:
        data: list[dict[str, Any]] = (await get(management, "events?type=node.quarantined"))["data"]
        return data

    (stored,) = await until(told)
    message = stored["event"]["data"]["message"]
    assert hashlib.sha256(secret).hexdigest() in message
    assert f"{len(secret)} bytes" in message
    assert "prompt" not in str(stored)
    async with client_of_gateway(gateway) as client:
        assert await whole(client, node.model, "r1")
