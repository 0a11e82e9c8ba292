"""What a stream looks like on the wire, and how it ends when something goes wrong in its middle."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import workernode.role
from broker.memory import MemoryBroker, MemoryServer
from tests.in_process import InProcessFleet
from tests.raw_http import Answer, Connection, exchange, post
from tests.scripted_engine import USAGE, Flood, ScriptedEngine
from tests.waiting import until
from wire.errors import InvalidRequest, UpstreamFailed
from workernode.outcome import Answered, Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.scripted_engine import Step

MODEL = "scripted"
BODY: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": True}
WITH_USAGE = BODY | {"stream_options": {"include_usage": True}}


class Scripted:
    """A fleet with one node, whose engine goes through ``steps``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        server = MemoryServer()
        self._fleet = InProcessFleet(lambda: MemoryBroker(server), {"MODEL_NAME": MODEL})
        self._monkeypatch = monkeypatch

    async def start(self, *steps: Step | Flood, **env: str) -> int:
        """Returns the gateway's port."""
        self.engine = ScriptedEngine(*steps)
        self._monkeypatch.setattr(workernode.role, "_engine", lambda *_: self.engine)
        await self._fleet.node(MAX_PROCESS_NUM="1")
        self.port = (await self._fleet.gateway(**env)).port
        return self.port

    async def ask(self, body: dict[str, Any] = BODY) -> Answer:
        return await exchange(self.port, post(body))

    async def aclose(self) -> None:
        await self._fleet.aclose()


@pytest.fixture
async def scripted(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scripted]:
    made = Scripted(monkeypatch)
    yield made
    await made.aclose()


def texts(answer: Answer) -> list[str]:
    """The text of each chunk."""
    chunks = [event for event in answer.events if isinstance(event, dict) and event.get("choices")]
    return [chunk["choices"][0]["delta"]["content"] for chunk in chunks]


async def test_a_stream_has_the_headers_that_proxies_and_clients_need(scripted: Scripted) -> None:
    await scripted.start("one")
    answer = await scripted.ask()
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["openai-version"] == "2020-10-01"
    assert int(answer.headers["openai-processing-ms"]) >= 0
    assert answer.headers["x-request-id"].startswith("req_")


async def test_every_chunk_has_the_same_id_created_and_model_and_the_end_is_done(scripted: Scripted) -> None:
    await scripted.start("one", " two", " three")
    answer = await scripted.ask()
    assert answer.whole
    assert texts(answer) == ["one", " two", " three"]
    assert answer.events[-1] == "[DONE]"
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in answer.events[:-1]}) == 1
    assert answer.events[0]["model"] == MODEL
    assert b"event:" not in answer.body
    assert b"id:" not in answer.body.replace(b'"id":', b"")


async def test_usage_comes_only_when_asked_for(scripted: Scripted) -> None:
    await scripted.start("one")
    unasked = await scripted.ask()
    assert not any("usage" in event for event in unasked.events[:-1])
    assert all(event["choices"] for event in unasked.events[:-1])
    *chunks, usage, done = (await scripted.ask(WITH_USAGE)).events
    assert [chunk["usage"] for chunk in chunks] == [None]
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == USAGE.total_tokens
    assert done == "[DONE]"


async def test_an_error_before_the_first_part_has_its_own_status(scripted: Scripted) -> None:
    await scripted.start(Refused(InvalidRequest("Too long.", param="messages", code="context_length_exceeded").body()))
    answer = await scripted.ask()
    assert answer.status == 400
    assert (answer.error["code"], answer.error["param"]) == ("context_length_exceeded", "messages")
    assert answer.headers["content-type"] == "application/json"


async def test_an_error_in_mid_stream_is_an_event_and_the_end(scripted: Scripted) -> None:
    await scripted.start("one", " two", Refused(UpstreamFailed().body()))
    answer = await scripted.ask()
    assert answer.status == 200
    assert texts(answer) == ["one", " two"]
    error = answer.events[-1]["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == "upstream_failed"
    assert b"[DONE]" not in answer.body


async def test_a_deadline_in_mid_stream_is_an_event_and_the_end(scripted: Scripted) -> None:
    await scripted.start("one", asyncio.Event(), REQUEST_TIMEOUT_S="2")
    answer = await scripted.ask()
    assert answer.events[-1]["error"]["code"] == "deadline_exceeded"
    assert b"[DONE]" not in answer.body
    await until(lambda: scripted.engine.running == 0, within_s=2)


async def test_a_stream_that_waits_is_opened_and_kept_alive_by_comments(scripted: Scripted) -> None:
    go_on = asyncio.Event()
    await scripted.start(go_on, "one", STATUS_HOLD_S="0.1", KEEP_ALIVE_S="0.1")
    async with asyncio.timeout(10), Connection(scripted.port) as connection:
        connection.send(post(BODY))
        status, _ = await connection.head()
        assert status == 200
        parts = connection.parts()
        assert [await anext(parts) for _ in range(3)] == [b": ping\n\n"] * 3
        go_on.set()
        rest = b"".join([part async for part in parts])
    assert rest.replace(b": ping\n\n", b"").endswith(b"data: [DONE]\n\n")
    assert rest.replace(b": ping\n\n", b"").startswith(b'data: {"id"')


async def test_a_stream_without_any_chunk_still_ends_with_done(scripted: Scripted) -> None:
    await scripted.start(Answered(USAGE))
    assert (await scripted.ask()).body == b"data: [DONE]\n\n"


async def test_a_whole_answer_that_fails_late_is_no_half_answer(scripted: Scripted) -> None:
    await scripted.start(b'{"id": "half', Refused(UpstreamFailed().body()))
    answer = await scripted.ask(BODY | {"stream": False})
    assert (answer.status, answer.error["code"]) == (502, "upstream_failed")


async def test_a_whole_answer_beyond_the_limit_is_the_answers_fault_and_not_its_readers(scripted: Scripted) -> None:
    await scripted.start(b" " * 5000, ANSWER_BYTES_MAX="4096")
    answer = await scripted.ask(BODY | {"stream": False})
    assert (answer.status, answer.error["code"]) == (502, "answer_too_large")
    assert answer.headers["x-should-retry"] == "false"


async def test_a_reader_that_takes_nothing_is_cut_and_its_slot_is_freed(scripted: Scripted) -> None:
    await scripted.start(Flood(32), asyncio.Event(), WRITE_WAIT_S="0.5", STREAM_BUFFER_BYTES_MAX=str(2**26))
    # Reads nothing beyond this limit; what the kernel keeps for it is far less than the flood.
    async with Connection(scripted.port, limit=1024) as connection:
        connection.send(post(BODY))
        await until(lambda: scripted.engine.asked == 1)
        await until(lambda: scripted.engine.running == 0)
        # Although it still takes nothing, the gateway keeps no connection for it.
        own = connection.writer.get_extra_info("sockname")
        await until(lambda: own not in [each.raddr for each in psutil.Process().net_connections("tcp")])
        # What it could still read ends in the middle, never in an end that looks like one.
        answer = await connection.answer()
        assert not answer.whole
        assert b"[DONE]" not in answer.body
    scripted.engine.steps = ("short",)
    assert texts(await scripted.ask()) == ["short"]


async def test_a_reader_that_falls_too_far_behind_gets_an_error_and_no_end(scripted: Scripted) -> None:
    await scripted.start(Flood(48), WRITE_WAIT_S="30", STREAM_BUFFER_BYTES_MAX=str(1024 * 1024))
    # Reads nothing beyond this limit; what the kernel keeps for it is far less than the flood.
    async with Connection(scripted.port, limit=1024) as connection:
        connection.send(post(BODY))
        await until(lambda: scripted.engine.asked == 1)
        await until(lambda: scripted.engine.running == 0)
        answer = await connection.answer()
    assert b"[DONE]" not in answer.body
    assert set(answer.events[-1]["error"]) == {"message", "type", "param", "code"}


async def test_a_client_that_hangs_up_stops_the_engine_within_a_second(scripted: Scripted) -> None:
    await scripted.start("one", asyncio.Event())
    async with Connection(scripted.port) as connection:
        connection.send(post(BODY))
        await connection.head()
        assert scripted.engine.running == 1
    await until(lambda: scripted.engine.running == 0, within_s=1)


async def test_the_answer_of_the_static_responder_is_the_same_whole_and_streamed() -> None:
    server = MemoryServer()
    fleet = InProcessFleet(lambda: MemoryBroker(server), {"MODEL_NAME": MODEL, "STATIC_ANSWER": "a \u2028 b\r\n\r\nc"})
    await fleet.node()
    port = (await fleet.gateway()).port
    try:
        whole = json.loads((await exchange(port, post(BODY | {"stream": False}))).body)
        events = (await exchange(port, post(BODY))).events
    finally:
        await fleet.aclose()
    assert events[-1] == "[DONE]"
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [event["choices"][0]["finish_reason"] for event in events[:-1]][-1] == "stop"
    streamed = "".join(event["choices"][0]["delta"].get("content", "") for event in events[:-1])
    assert whole["choices"][0]["message"]["content"] == streamed


async def test_the_static_responder_gives_as_many_choices_as_are_asked_for() -> None:
    server = MemoryServer()
    fleet = InProcessFleet(lambda: MemoryBroker(server), {"MODEL_NAME": MODEL, "STATIC_ANSWER": "one two"})
    await fleet.node()
    port = (await fleet.gateway()).port
    try:
        whole = json.loads((await exchange(port, post(BODY | {"stream": False, "n": 2}))).body)
        events = (await exchange(port, post(BODY | {"n": 2}))).events
    finally:
        await fleet.aclose()
    assert [(each["index"], each["message"]["content"]) for each in whole["choices"]] == [
        (0, "one two"),
        (1, "one two"),
    ]
    streamed = ["", ""]
    for event in events[:-1]:
        for choice in event["choices"]:
            streamed[choice["index"]] += choice["delta"].get("content", "")
    assert streamed == ["one two", "one two"]
