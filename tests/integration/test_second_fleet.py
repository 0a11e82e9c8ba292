"""A node whose provider is a gateway of ours: what must cross does, and nothing goes round in circles."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import openai
import pytest

from broker.interface import Kind
from broker.memory import MemoryBroker, MemoryServer
from tests.fake_upstream import FakeUpstream, oracle_text, oracle_usage
from tests.in_process import InProcessFleet
from tests.integration.test_main_job import PUBLIC, asked, client_of, known
from wire import codec
from wire.request import HOPS_MAX
from wire.topics import Topics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.in_process import Running
    from wire.request import Request

MODEL = "model-of-both"


class Fleet(InProcessFleet):
    """A fleet on a broker of its own, and what a listener beside it hears."""

    def __init__(self) -> None:
        server = MemoryServer()
        super().__init__(lambda: MemoryBroker(server), {"MODEL_NAME": MODEL})
        self._beside = MemoryBroker(server)

    async def charged(self) -> dict[str, Any]:
        """The data of the first charge."""
        async for payload in self._messages(Topics().results):
            event = msgspec.json.decode(payload)
            if event["type"].endswith("request.billed"):
                data: dict[str, Any] = event["data"]
                return data
        raise AssertionError

    async def asked(self) -> Request:
        """The next request that is published."""
        async for payload in self._messages(Topics().requests(MODEL)):
            return codec.decode_request(payload)
        raise AssertionError

    async def _messages(self, topic: str) -> AsyncIterator[bytes]:
        consumer = await self._beside.consumer(topic, "beside", Kind.EXCLUSIVE, prefetch=10, from_earliest=True)
        try:
            async with asyncio.timeout(10):
                while True:
                    delivery = await consumer.receive()
                    consumer.ack(delivery)
                    yield delivery.payload
        finally:
            await consumer.aclose()

    async def aclose(self) -> None:
        await super().aclose()
        await self._beside.aclose()


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        yield fake


@pytest.fixture
async def fleets() -> AsyncIterator[tuple[Fleet, Fleet]]:
    """The outer fleet and the inner one."""
    outer, inner = Fleet(), Fleet()
    yield outer, inner
    await outer.aclose()
    await inner.aclose()


async def behind(fleets: tuple[Fleet, Fleet], upstream: FakeUpstream) -> Running:
    """The gateway of the outer fleet, whose node has the inner one as its provider."""
    outer, inner = fleets
    inner_gateway = await inner.gateway()
    await inner.node(**PUBLIC, API_URL=upstream.url)
    gateway = await outer.gateway()
    await outer.node(NODE_TYPE="remote", API_URL=inner_gateway.url, DIALECT="gateway")
    await known(inner_gateway, MODEL)
    await known(gateway, MODEL)
    return gateway


@pytest.mark.parametrize("stream", [False, True])
async def test_answer_usage_and_request_id_cross(
    fleets: tuple[Fleet, Fleet], upstream: FakeUpstream, stream: bool
) -> None:
    gateway = await behind(fleets, upstream)
    body = asked(MODEL, "r7 tokens=30")
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    text = ""
    async with client_of(gateway) as client:
        if stream:
            async for chunk in await client.chat.completions.create(**body, **options):
                text += "".join(choice.delta.content or "" for choice in chunk.choices)
                usage = chunk.usage
        else:
            answer = await client.chat.completions.create(**body)
            text, usage = answer.choices[0].message.content or "", answer.usage
    assert text == oracle_text(body)
    assert usage is not None
    assert usage.total_tokens == oracle_usage(body)["total_tokens"]
    first, second = [await fleet.charged() for fleet in fleets]
    assert first["usage"] == second["usage"]
    assert first["usage"]["completion_tokens"] == oracle_usage(body)["completion_tokens"]
    assert "estimated" not in first["usage"]
    assert second["client_request_id"] == first["request_id"].removeprefix("req_")
    assert second["request_id"] != first["request_id"]


async def test_a_client_that_hangs_up_stops_the_last_upstream(
    fleets: tuple[Fleet, Fleet], upstream: FakeUpstream
) -> None:
    gateway = await behind(fleets, upstream)
    async with client_of(gateway) as client:
        stream = await client.chat.completions.create(**asked(MODEL, "r7 tokens=9999 delay-between=0.01"), stream=True)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
        await upstream.until(lambda u: u.running == 0 and u.aborted == 1, within_s=3)
    first, second = [await fleet.charged() for fleet in fleets]
    assert (first["status"], second["status"]) == ("cancelled", "cancelled")


async def test_the_deadline_crosses(fleets: tuple[Fleet, Fleet], upstream: FakeUpstream) -> None:
    gateway = await behind(fleets, upstream)
    published = asyncio.create_task(fleets[1].asked())
    async with client_of(gateway) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(
                **asked(MODEL, "r7 hang"), extra_headers={"x-request-timeout-ms": "3000"}
            )
    assert caught.value.status_code == 504
    assert caught.value.code == "deadline_exceeded"
    await upstream.until(lambda u: u.running == 0, within_s=3)
    request = await published
    assert 0 < request.deadline_ms - request.received_ms <= 3000


@pytest.mark.parametrize("words", ["status=400", "close-after=3 delay-between=0.01"])
async def test_a_failure_of_the_last_upstream_is_an_error_for_the_first_client(
    fleets: tuple[Fleet, Fleet], upstream: FakeUpstream, words: str
) -> None:
    gateway = await behind(fleets, upstream)
    upstream.script = [words] * 20
    async with client_of(gateway) as client:
        with pytest.raises(openai.APIError):
            async for _ in await client.chat.completions.create(
                **asked(MODEL, "r7"), stream=True, extra_headers={"x-request-timeout-ms": "2000"}
            ):
                pass
        upstream.script = []
        answer = await client.chat.completions.create(**asked(MODEL, "r8"))
        assert answer.choices[0].message.content == oracle_text(asked(MODEL, "r8"))


async def refused(gateway: Running, **headers: str) -> dict[str, Any]:
    """The error of a request."""
    body = asked(MODEL, "x")
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers) as response,
    ):
        assert response.status == 400, await response.text()
        error: dict[str, Any] = (await response.json())["error"]
        return error


async def test_a_node_whose_provider_is_its_own_gateway_has_its_requests_refused(fleets: tuple[Fleet, Fleet]) -> None:
    fleet, _ = fleets
    gateway = await fleet.gateway()
    await fleet.node(NODE_TYPE="remote", API_URL=gateway.url)
    await known(gateway, MODEL)
    async with asyncio.timeout(5):
        assert (await refused(gateway))["code"] == "loop_detected"


async def test_another_gateway_of_the_same_fleet_knows_it_too(fleets: tuple[Fleet, Fleet]) -> None:
    fleet, _ = fleets
    first, second = await fleet.gateway(), await fleet.gateway()
    await fleet.node(NODE_TYPE="remote", API_URL=second.url, MAX_PROCESS_NUM="1")
    await known(first, MODEL)
    await known(second, MODEL)
    async with asyncio.timeout(5):
        assert (await refused(first))["code"] == "loop_detected"


async def test_a_circle_of_two_fleets_is_broken(fleets: tuple[Fleet, Fleet]) -> None:
    one, other = fleets
    gateways = [await one.gateway(), await other.gateway()]
    await one.node(NODE_TYPE="remote", API_URL=gateways[1].url, MAX_PROCESS_NUM="1")
    await other.node(NODE_TYPE="remote", API_URL=gateways[0].url, MAX_PROCESS_NUM="1")
    for gateway in gateways:
        await known(gateway, MODEL)
    async with asyncio.timeout(5):
        assert (await refused(gateways[0]))["code"] == "loop_detected"


async def test_a_chain_of_too_many_fleets_and_a_name_that_is_none_are_refused(fleets: tuple[Fleet, Fleet]) -> None:
    gateway = await fleets[0].gateway(MODELS=MODEL)
    strangers = ",".join(f"node-elsewhere-{number}" for number in range(HOPS_MAX + 1))
    async with asyncio.timeout(5):
        assert (await refused(gateway, **{"x-workernode-via": strangers}))["code"] == "loop_detected"
        assert (await refused(gateway, **{"x-workernode-via": "Not A Node!"}))["param"] == "x-workernode-via"
