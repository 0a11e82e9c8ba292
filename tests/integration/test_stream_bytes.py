"""Streams byte by byte, from the status line to the end of the connection, as a client's socket reads them."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.fake_upstream import FakeUpstream
from tests.integration.test_main_job import known
from tests.raw_http import JSON, post
from tests.run import RUN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.in_process import InProcessFleet

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = f"org/model-{RUN}"
HEAD = """HTTP/1.1 200 OK
date: DATE
content-type: text/event-stream; charset=utf-8
cache-control: no-cache
x-accel-buffering: no
openai-processing-ms: MS
openai-version: 2020-10-01
x-queue-position: 0
x-request-id: req_ID
connection: close
transfer-encoding: chunked"""
PING = ": ping\n\n"
DONE = "data: [DONE]\n\n"
OPENING = '"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null'
STOP = '"delta":{},"logprobs":null,"finish_reason":"stop"'
USAGE = (
    '"usage":{"prompt_tokens":2,"completion_tokens":2,"total_tokens":4,'
    '"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}'
)
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"properties": {"a": {"type": "integer"}}}}}]


def chunk(*choices: str, index: int = 0, rest: str = "") -> str:
    """An event of a conversation's stream."""
    listed = ",".join(f'{{"index":{index},{choice}}}' for choice in choices)
    return (
        'data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":0,'
        f'"model":"{MODEL}","system_fingerprint":"fp_fake","choices":[{listed}]{rest}}}\n\n'
    )


def said(text: str, index: int = 0, rest: str = "") -> str:
    return chunk(f'"delta":{{"content":"{text}"}},"logprobs":null,"finish_reason":null', index=index, rest=rest)


def called(part: str) -> str:
    return chunk(f'"delta":{{"tool_calls":[{part}]}},"logprobs":null,"finish_reason":null')


def text(piece: str, finish: str = "null") -> str:
    """An event of a text's stream."""
    choice = f'{{"text":"{piece}","index":0,"logprobs":null,"finish_reason":{finish}}}'
    head = f'"id":"cmpl-ID","object":"text_completion","created":0,"model":"{MODEL}"'
    return f'data: {{{head},"choices":[{choice}]}}\n\n'


def asked(prompt: str, **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "stream": True, **fields}


PLAIN = chunk(OPENING) + said("r1") + said(" t0") + chunk(STOP) + DONE
NULL = ',"usage":null'
STREAMS: dict[str, tuple[dict[str, Any], str]] = {
    "a_conversation": (asked("r1 tokens=1"), PLAIN),
    "usage_that_was_not_asked_for": (asked("r1 tokens=1", stream_options={"include_usage": False}), PLAIN),
    "usage_that_was_asked_for": (
        asked("r1 tokens=1", stream_options={"include_usage": True}),
        chunk(OPENING, rest=NULL)
        + said("r1", rest=NULL)
        + said(" t0", rest=NULL)
        + chunk(STOP, rest=NULL)
        + chunk(rest=f",{USAGE}")
        + DONE,
    ),
    "three_choices": (
        asked("r1 tokens=0", n=3),
        "".join(chunk(OPENING, index=i) for i in range(3))
        + "".join(said("r1", i) for i in range(3))
        + "".join(said(f" c{i}", i) for i in range(3))
        + "".join(chunk(STOP, index=i) for i in range(3))
        + DONE,
    ),
    "calls_of_tools": (
        asked("r1 calls=2", tools=TOOLS),
        chunk('"delta":{"role":"assistant","content":null,"refusal":null},"logprobs":null,"finish_reason":null')
        + "".join(
            called(f'{{"index":{i},"id":"call_{i}","type":"function","function":{{"name":"add","arguments":""}}}}')
            + called(f'{{"index":{i},"function":{{"arguments":"{{\\"a\\":"}}}}')
            + called(f'{{"index":{i},"function":{{"arguments":" 7}}"}}}}')
            for i in range(2)
        )
        + chunk('"delta":{},"logprobs":null,"finish_reason":"tool_calls"')
        + DONE,
    ),
    "an_error_in_its_middle": (
        asked("r1 tokens=5 close-after=3"),
        chunk(OPENING)
        + said("r1")
        + said(" t0")
        + 'data: {"error":{"message":"The provider of this model broke off its answer.","type":"server_error",'
        '"param":null,"code":"stream_interrupted"}}\n\n',
    ),
    "a_text": (
        {"model": MODEL, "prompt": "r1 tokens=1", "stream": True},
        text("r1") + text(" t0") + text("", '"stop"') + DONE,
    ),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def port(lasting_fleet: InProcessFleet) -> AsyncIterator[int]:
    """A gateway that keeps waiting streams alive ten times a second, before a remote node."""
    async with FakeUpstream() as upstream:
        gateway = await lasting_fleet.gateway(STATUS_HOLD_S="0.1", KEEP_ALIVE_S="0.1")
        await lasting_fleet.node(NODE_TYPE="remote", MODEL_NAME=MODEL, API_URL=upstream.url)
        await known(gateway, MODEL)
        yield gateway.port
        await lasting_fleet.aclose()


async def received(port: int, body: dict[str, Any]) -> tuple[str, str]:
    """The head and the body, without what differs each time: ids, times, and how the body was cut into chunks."""
    path = "/v1/completions" if "prompt" in body else "/v1/chat/completions"
    request = post(body, path=path).replace(JSON[0].encode(), JSON[0].encode() + b"\r\nconnection: close", 1)
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        everything = await reader.read(-1)
        writer.close()
    head, _, rest = everything.partition(b"\r\n\r\n")
    parts = []
    while size := int((line := rest.partition(b"\r\n"))[0], 16):
        parts.append(line[2][:size])
        assert line[2][size : size + 2] == b"\r\n"
        rest = line[2][size + 2 :]
    assert rest == b"0\r\n\r\n", "the last chunk, and nothing after it"
    return same_each_time(head).replace("\r\n", "\n"), same_each_time(b"".join(parts))


def same_each_time(data: bytes) -> str:
    shown = re.sub(r"[0-9a-f]{32}", "ID", data.decode())
    shown = re.sub(r'"created":\d+', '"created":0', shown)
    shown = re.sub(r"date: .*", "date: DATE\r", shown)
    shown = re.sub(r": queue position[^\n]*\n\n", "", shown)  # where the machine has so much to do that it waits
    shown = re.sub(r"x-queue-eta-ms: \d+\r\n", "", shown)  # known from the second answer on
    return re.sub(r"openai-processing-ms: \d+", "openai-processing-ms: MS", shown)


@pytest.mark.parametrize(("body", "expected"), STREAMS.values(), ids=STREAMS)
async def test_every_byte_is_as_it_should_be(port: int, body: dict[str, Any], expected: str) -> None:
    head, stream = await received(port, body)
    assert head == HEAD
    assert stream.replace(": ping\n\n", "") == expected  # as above: one may come before the first event
    assert stream.count(DONE) == ("error" not in stream)


async def test_a_stream_that_waits_has_comments_before_its_first_event_and_none_within(port: int) -> None:
    head, stream = await received(port, asked("r1 tokens=1 delay-first=0.35"))
    assert head == HEAD
    pings = stream.count(PING)
    assert pings >= 2
    assert stream == PING * pings + PLAIN


async def test_comments_between_events_leave_them_whole(port: int) -> None:
    _, stream = await received(port, asked("r1 tokens=1 delay-between=0.25"))
    assert stream.count(PING) >= 4
    assert stream.replace(PING, "") == PLAIN
    assert all(event.startswith(("data: ", ": ping")) for event in stream.removesuffix("\n\n").split("\n\n"))
