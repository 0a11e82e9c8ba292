"""One request is one trace: the client's span, the gateway's, each attempt's, each call's to the provider."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

import process.otel
from process import genai
from process.span_names import ERROR, NUMBER, OUTCOME, REQUEST_ID, STATUS
from tests.fake_upstream import FakeUpstream
from tests.in_process import free_port
from tests.integration.test_main_job import PUBLIC, asked, client_of, known
from tests.otlp_receiver import OtlpReceiver
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.in_process import InProcessFleet, Running
    from tests.otlp_receiver import Heard

CANARY = "canary-of-a-prompt"
KEY = "sk-canary-of-a-key"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENT = f"00-{TRACE}-00f067aa0ba902b7-01"
SERVER, CLIENT_CALL, CONSUMER = 2, 3, 5


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        yield fake


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OtlpReceiver]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    async with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture
async def traced(fleet: InProcessFleet, collector: OtlpReceiver, upstream: FakeUpstream) -> Running:
    """A gateway with a node at its side."""
    to = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    gateway = await fleet.gateway(**to)
    node = await fleet.node(**PUBLIC, **to, API_URL=upstream.url, API_KEY=KEY)
    await known(gateway, node.model)
    return gateway


async def post(gateway: Running, body: dict[str, Any], **headers: str) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers) as response,
    ):
        await response.read()
        return response.status


async def trace_of(collector: OtlpReceiver, count: int, trace_id: str = "") -> dict[str, list[Heard]]:
    """The spans of a trace by service, once there are so many of it; each is below another, but for the first."""

    def spans() -> list[Heard]:
        return [span for span in collector.spans if not trace_id or span.trace_id == trace_id]

    await until(lambda: len(spans()) >= count, within_s=15)
    found = spans()
    assert len(found) == count
    assert len({span.trace_id for span in found}) == 1
    known_ids = {span.id for span in found}
    assert [span.kind for span in found if span.parent not in known_ids] == [SERVER]
    services = ("gateway", "node")
    return {each: [span for span in found if span.service == f"workernode-{each}"] for each in services}


def calls(spans: list[Heard]) -> list[Heard]:
    return [span for span in spans if span.kind == CLIENT_CALL]


def attempts(spans: list[Heard]) -> list[Heard]:
    return sorted((span for span in spans if span.kind == CONSUMER), key=lambda span: span.attributes[NUMBER])


async def test_a_request_is_one_trace_from_its_client_to_its_provider(
    traced: Running, fleet: InProcessFleet, collector: OtlpReceiver, upstream: FakeUpstream
) -> None:
    body = asked(fleet.model, f"{CANARY} tokens=3") | {"stream": True, "max_tokens": 50, "user": CANARY}
    assert await post(traced, body, traceparent=CLIENT, authorization=f"Bearer {KEY}") == 200
    spans = await trace_of(collector, 3, TRACE)
    (request,), (attempt,), (call,) = spans["gateway"], attempts(spans["node"]), calls(spans["node"])
    assert (request.parent, attempt.parent, call.parent) == ("00f067aa0ba902b7", request.id, attempt.id)
    assert upstream.requests[-1].headers["traceparent"] == f"00-{TRACE}-{call.id}-01"
    assert request.steps == ["admitted", "published", "begun", "first_part", "ended"]
    assert attempt.steps == ["go", "engine", "first_token", "finished", "settled"]
    assert request.name == f"chat {fleet.model}"
    assert request.attributes[REQUEST_ID] == attempt.attributes[REQUEST_ID]
    assert (request.attributes[OUTCOME], request.attributes[STATUS]) == ("answered", 200)
    for span, model in ((request, fleet.model), (call, "upstream-model")):
        assert span.attributes[genai.OPERATION] == "chat"
        assert span.attributes[genai.REQUEST_MODEL] == model
        assert span.attributes[genai.FINISH_REASONS] == ["stop"]
        assert span.attributes[genai.OUTPUT_TOKENS] > 0
        assert span.attributes[genai.MAX_TOKENS] == 50
    assert call.attributes[genai.PROVIDER] == "127.0.0.1"
    assert not any(span.failed for span in (request, attempt, call))
    assert CANARY.encode() not in collector.bytes
    assert KEY.encode() not in collector.bytes


async def test_a_redelivered_request_has_two_attempts_below_one_request(
    traced: Running, fleet: InProcessFleet, collector: OtlpReceiver, upstream: FakeUpstream
) -> None:
    upstream.api_key = "another"
    asking = asyncio.ensure_future(post(traced, asked(fleet.model, "tokens=2")))
    await upstream.until(lambda fake: len(fake.requests) == 1)
    upstream.api_key = KEY
    assert await asking == 200
    spans = await trace_of(collector, 5)
    (request,) = spans["gateway"]
    first, second = attempts(spans["node"])
    assert first.parent == second.parent == request.id
    assert [each.attributes[NUMBER] for each in (first, second)] == [1, 2]
    assert [each.attributes[OUTCOME] for each in (first, second)] == ["later", "answered"]
    assert first.attributes[ERROR] == "upstream_authentication_failed"
    assert {call.parent for call in calls(spans["node"])} == {first.id, second.id}
    assert [call.attributes[STATUS] for call in calls(spans["node"])] == [401, 200]
    assert request.steps.count("begun") == 2


async def test_a_cancelled_request_and_a_refused_one_say_so(
    traced: Running, fleet: InProcessFleet, collector: OtlpReceiver, upstream: FakeUpstream
) -> None:
    async with client_of(traced) as client:
        stream = await client.chat.completions.create(**asked(fleet.model, "tokens=9 hang-after=2"), stream=True)
        async for _ in stream:
            break
        await stream.close()
    spans = await trace_of(collector, 3)
    (request,), (attempt,), (call,) = spans["gateway"], attempts(spans["node"]), calls(spans["node"])
    assert [each.attributes[OUTCOME] for each in (request, attempt)] == ["cancelled", "cancelled"]
    assert call.attributes[ERROR] == "cancelled"
    collector.spans.clear()
    assert await post(traced, asked(fleet.model, f"{CANARY} status=400")) == 400
    spans = await trace_of(collector, 3)
    (request,), (attempt,), (call,) = spans["gateway"], attempts(spans["node"]), calls(spans["node"])
    assert all(span.failed for span in (request, attempt, call))
    assert request.attributes[STATUS] == 400
    assert request.attributes[ERROR] == attempt.attributes[ERROR] == call.attributes[ERROR]
    collector.spans.clear()
    assert await post(traced, {"model": fleet.model, "messages": CANARY}) == 400
    (request,) = (await trace_of(collector, 1))["gateway"]
    assert (request.failed, request.attributes[STATUS], request.steps) == (True, 400, [])
    assert CANARY.encode() not in collector.bytes


async def test_a_garbled_traceparent_begins_a_new_trace(
    traced: Running, fleet: InProcessFleet, collector: OtlpReceiver
) -> None:
    for garbage in ("", "00-0-0-0", f"00-{TRACE}-{'0' * 16}-01", f"ff-{TRACE}-00f067aa0ba902b7-01", "x" * 9000):
        collector.spans.clear()
        assert await post(traced, asked(fleet.model, "tokens=1"), traceparent=garbage) == 200
        (request,) = (await trace_of(collector, 3))["gateway"]
        assert request.parent == ""
        assert request.trace_id != TRACE


@pytest.mark.parametrize("collector_is", ["away", "deaf"])
async def test_a_collector_that_takes_nothing_costs_its_spans_and_nothing_else(
    fleet: InProcessFleet, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch, collector_is: str
) -> None:
    monkeypatch.setattr(process.otel, "CLOSE_WAIT_S", 0.2)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "5")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    # Nobody accepts there: a connection is made, and then nothing comes.
    listener = socket.create_server(("127.0.0.1", 0)) if collector_is == "deaf" else None
    port = listener.getsockname()[1] if listener else free_port()
    to = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
    gateway = await fleet.gateway(**to)
    node = await fleet.node(**PUBLIC, **to, API_URL=upstream.url)
    await known(gateway, node.model)
    answers = await asyncio.gather(*(post(gateway, asked(node.model, "tokens=1")) for _ in range(60)))
    assert set(answers) == {200}
    began = time.monotonic()
    await node.end()
    await gateway.end()
    assert time.monotonic() - began < 8
    if listener is not None:
        listener.close()
    await until(lambda: not any(thread.name == "close traces" for thread in threading.enumerate()))
