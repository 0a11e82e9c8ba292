"""Answers as some providers write them, which are answers all the same, or errors in an odd place."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.narrow_provider import NarrowProvider
from tests.remote_engine import Recorder, job, raw_server, started
from wire import codec
from wire.event import RequestData
from workernode.outcome import Answered, Later, Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


@contextlib.asynccontextmanager
async def answering(body: bytes, content_type: str, status: int = 200) -> AsyncIterator[str]:
    """The address of a server that gives everybody this."""
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n".encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while asked := await reader.readuntil(b"\r\n\r\n"):
                size = next(line for line in asked.lower().split(b"\r\n") if line.startswith(b"content-length"))
                await reader.readexactly(int(size.partition(b":")[2]))
                writer.write(head + body)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()


def chunk(delta: dict[str, Any], finish: str | None = None, **others: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return json.dumps({"id": "x", "object": "chat.completion.chunk", "choices": [choice], **others}).encode()


def events(*payloads: bytes, end: bytes = b"[DONE]") -> bytes:
    return b"".join(b"data: %b\n\n" % payload for payload in (*payloads, end))


def whole(content: str = "Hi", **others: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return {"id": "x", "object": "chat.completion", "choices": choices, "usage": USAGE, **others}


HALVES = [
    b'{"choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}',
    b'{"choices":[{"index":0,"delta":{"content":"!"}}]}',
]
ANSWERS = [
    pytest.param(events(chunk({"content": "a"}), chunk({"content": "b"}, "stop"), end=b"[DONE] "), "ab", id="a blank"),
    pytest.param(
        b"event: ping\ndata:\n\n" + events(chunk({"content": "a"}), b"", chunk({"content": "b"}, "stop"), b" "),
        "ab",
        id="events without data",
    ),
    pytest.param(
        events(chunk({"content": "a"}), chunk({"content": "b"}, "stop")) + events(b'{"error":"late"}', b"rubbish"),
        "ab",
        id="something after the end",
    ),
    pytest.param(events(*HALVES, chunk({}, "stop")), "\ufffd!", id="half a character"),
    pytest.param(
        events(chunk({"content": "a"}), chunk({"content": "b"}, "stop", x_score=float("-inf"))), "ab", id="no number"
    ),
    pytest.param(events(chunk({"content": "a"}, error=""), chunk({}, "stop", error=False)), "a", id="no error"),
]


@pytest.mark.parametrize(("body", "text"), ANSWERS)
@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json"])
async def test_a_stream_that_is_almost_one_is_an_answer(body: bytes, text: str, content_type: str) -> None:
    async with answering(body, content_type) as url, started(url) as engine:
        answer = Recorder()
        outcome = await engine.answer(job("x", stream=True), answer)
        assert isinstance(outcome, Answered), outcome
        assert answer.text == text


@pytest.mark.parametrize(
    "others",
    [{"error": ""}, {"error": False}, {"error": {}}, {"x_score": float("nan")}, {"x_emoji": "\ud83d"}],
    ids=str,
)
async def test_a_whole_answer_that_is_almost_one_is_one(others: dict[str, Any]) -> None:
    async with answering(json.dumps(whole(**others)).encode(), "application/json") as url, started(url) as engine:
        answer = Recorder()
        outcome = await engine.answer(job("x"), answer)
        assert isinstance(outcome, Answered), outcome
        assert answer.whole["choices"][0]["message"]["content"] == "Hi"


@pytest.mark.parametrize("usage_asked", [False, True])
async def test_a_whole_answer_without_usage_to_a_stream_has_no_chunk_without_a_choice_too_many(
    usage_asked: bool,
) -> None:
    body = json.dumps(whole(usage=None)).encode()
    async with answering(body, "application/json") as url, started(url) as engine:
        answer = Recorder()
        outcome = await engine.answer(job("x", stream=True, usage_asked=usage_asked), answer)
    assert isinstance(outcome, Answered), outcome
    assert [bool(each["choices"]) for each in answer.chunks] == [True, *([False] if usage_asked else [])]
    assert bool(answer.chunks[-1].get("usage")) is usage_asked


@pytest.mark.parametrize("content_type", ["text/event-stream", "text/html", "application/json"])
async def test_a_whole_answer_is_the_answer_to_a_stream_whatever_its_content_type(content_type: str) -> None:
    async with answering(b"\n\n" + json.dumps(whole()).encode(), content_type) as url, started(url) as engine:
        answer = Recorder()
        outcome = await engine.answer(job("x", stream=True), answer)
    assert isinstance(outcome, Answered), outcome
    assert answer.text == "Hi"


@pytest.mark.parametrize("content_type", ["text/event-stream", "text/html", "application/json"])
async def test_a_stream_is_passed_on_as_it_comes_whatever_its_content_type(content_type: str) -> None:
    answer = Recorder()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n\r\n".encode()
    begun = b"data: %b\n\n" % chunk({"role": "assistant", "content": "a"})
    rest = events(chunk({"content": "b"}, "stop"))
    async with (
        raw_server(head + begun, rest, after=answer.written) as url,
        started(url, first_token_timeout_s=5.0) as engine,
    ):
        outcome = await engine.answer(job("x", stream=True), answer)
    assert isinstance(outcome, Answered), outcome
    assert answer.text == "ab"


LAST = chunk({"content": "b"}, "stop")


@pytest.mark.parametrize(
    ("rest", "code"),
    [
        (events(LAST, end=b"[DONE]")[:-4], None),
        (events(LAST, end=b'{"choices":[],"usage":{"prompt_tokens":1}}')[:-9], None),
        (events(LAST)[:20], "stream_interrupted"),
        (events(end=b'{"error":{"message":"No.","code":500}}')[:-2], "upstream_failed"),
    ],
)
async def test_an_event_that_the_end_cuts_off_is_none(rest: bytes, code: str | None) -> None:
    """Where the end of the connection is that of the answer, nothing else tells that it broke off."""
    answer = Recorder()
    head = b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    begun = b"data: %b\n\n" % chunk({"role": "assistant", "content": "a"})
    async with raw_server(head + begun, rest, after=answer.written) as url, started(url) as engine:
        outcome = await engine.answer(job("x", stream=True), answer)
    if code is None:
        assert isinstance(outcome, Answered), outcome
        assert answer.text == "ab"
    else:
        assert isinstance(outcome, Refused), outcome
        assert outcome.error.code == code


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_without_a_choice_is_a_refusal_and_no_trouble(stream: bool) -> None:
    """Whoever asked again would get the same."""
    empty = {"id": "x", "choices": [], "usage": USAGE}
    body = events(json.dumps(empty).encode()) if stream else json.dumps(empty).encode()
    kind = "text/event-stream" if stream else "application/json"
    async with answering(body, kind) as url, started(url) as engine:
        outcome = await engine.answer(job("x", stream=stream), Recorder())
    assert isinstance(outcome, Refused), outcome
    assert (outcome.error.code, outcome.error.http_status, outcome.upstream) == ("content_filter", 400, "well")


@pytest.mark.parametrize("content_type", ["text/event-stream", "text/plain"])
async def test_an_error_that_stands_in_a_stream_as_it_is_reaches_its_client(content_type: str) -> None:
    error = {"error": {"message": "Too long.", "code": "context_length_exceeded", "type": "invalid_request_error"}}
    async with answering(json.dumps(error).encode(), content_type) as url, started(url) as engine:
        outcome = await engine.answer(job("x", stream=True), Recorder())
    assert isinstance(outcome, Refused), outcome
    assert outcome.error.code == "context_length_exceeded"


ECHO = {"message": "Unrecognized request argument supplied: The Model does not exist", "code": 400}
ECHOING = json.dumps({"error": ECHO}).encode()
IN_A_CHOICE = json.dumps({"id": "x", "choices": [{"index": 0, "error": ECHO}]}).encode()


@pytest.mark.parametrize(
    ("body", "content_type", "stream"),
    [
        (ECHOING, "application/json", False),
        (IN_A_CHOICE, "application/json", False),
        (ECHOING, "application/json", True),
        (ECHOING, "text/event-stream", True),
        (events(ECHOING), "text/event-stream", True),
        (events(IN_A_CHOICE), "text/event-stream", True),
    ],
)
async def test_what_a_client_makes_a_provider_say_in_an_answer_puts_no_node_to_rest(
    body: bytes, content_type: str, stream: bool
) -> None:
    wrong: dict[str, Any] = {"The Model does not exist": 1}
    async with answering(body, content_type) as url, started(url) as engine:
        outcome = await engine.answer(job("x", stream=stream, **wrong), Recorder())
        assert isinstance(outcome, Refused), outcome
        assert outcome.error.message == ECHO["message"]
        assert isinstance(await engine.answer(job("x", stream=stream), Recorder()), Later)


@pytest.mark.parametrize("shown", ["", "Hi"])
async def test_an_answer_with_an_error_in_a_field_of_its_own_is_none(shown: str) -> None:
    """As llama.cpp's server wrote it, and [DONE] after it."""
    answer = Recorder()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    begun = b"data: %b\n\n" % chunk({"role": "assistant", "content": shown}) if shown else b""
    error = b'error: {"code":400,"message":"the request exceeds the available context size","type":"x"}\n\n'
    if not shown:
        answer.written.set()
    async with raw_server(head + begun, error + events(), after=answer.written) as url, started(url) as engine:
        outcome = await engine.answer(job("x", stream=True), answer)
    assert isinstance(outcome, Refused), outcome
    assert outcome.error.code == "context_length_exceeded"
    assert answer.text == shown


@pytest.mark.parametrize("stream", [False, True])
async def test_a_finish_reason_is_never_too_long_for_the_bill(stream: bool) -> None:
    reason = "malformed function call: " + "x" * 1000
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": reason}
    body = events(chunk({"role": "assistant", "content": "Hi"}, reason))
    if not stream:
        body = json.dumps(whole(choices=[choice])).encode()
    kind = "text/event-stream" if stream else "application/json"
    async with answering(body, kind) as url, started(url) as engine:
        outcome = await engine.answer(job("x", stream=stream), Recorder())
    assert isinstance(outcome, Answered), outcome
    data = RequestData(
        request_id="req_0123",
        endpoint="chat/completions",
        model="m",
        status="answered",
        finish_reason=outcome.finish_reason,
    )
    codec.decode_request_data(codec.encode_event_data(data))


async def test_a_chunk_that_says_nothing_is_a_sign_of_life() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head + b"data: %b\n\n" % chunk({"role": "assistant", "content": "a"}))
        for _ in range(7):
            await asyncio.sleep(0.3)
            writer.write(b'data: {"type":"ping"}\n\n')
        writer.write(events(chunk({"content": "b"}, "stop")))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server, started(url, between_tokens_timeout_s=1.5) as engine:
        answer = Recorder()
        assert isinstance(await engine.answer(job("x", stream=True), answer), Answered)
    assert answer.text == "ab"


async def test_signs_of_life_are_no_first_token() -> None:
    over = asyncio.Event()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head + b"data: %b\n\n" % chunk({"role": "assistant", "content": ""}))
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b'data: {"type":"ping"}\n\n')
                await writer.drain()
                await asyncio.sleep(0.05)
        writer.close()
        over.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server, started(url, first_token_timeout_s=0.3, between_tokens_timeout_s=60) as engine:
        outcome = await engine.answer(job("x", stream=True, remaining_s=10.0), Recorder())
        assert isinstance(outcome, Later), outcome
        assert outcome.error.code == "upstream_timeout"
        await asyncio.wait_for(over.wait(), 10)


async def test_a_connection_that_stays_open_after_the_last_event_holds_nobody_up() -> None:
    answer, given_up = Recorder(), asyncio.Event()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    async with raw_server(head + events(chunk({"content": "a"}, "stop")), after=given_up) as url:
        async with started(url) as engine, asyncio.timeout(10):
            assert isinstance(await engine.answer(job("x", stream=True), answer), Answered)
        given_up.set()
    assert answer.text == "a"


async def test_who_speaks_is_told_with_the_first_word() -> None:
    answer, later = Recorder(), asyncio.Event()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    begun = b"data: %b\n\n" % chunk({"role": "assistant", "content": ""})
    asyncio.get_running_loop().call_later(0.2, later.set)
    rest = events(chunk({"content": "a"}), chunk({}, "stop"))
    async with raw_server(head + begun, rest, after=later) as url, started(url) as engine:
        assert isinstance(await engine.answer(job("x", stream=True), answer), Answered)
    assert [each["choices"][0]["delta"] for each in answer.chunks] == [
        {"role": "assistant", "content": ""},
        {"content": "a"},
        {},
    ]


async def test_what_comes_with_an_error_is_shown_before_it() -> None:
    answer = Recorder()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    begun = b"data: %b\n\n" % chunk({"role": "assistant", "content": "a"})
    rest = events(chunk({"content": "b"}), b'{"error":{"message":"No.","code":500}}')
    async with raw_server(head + begun, rest, after=answer.written) as url, started(url) as engine:
        outcome = await engine.answer(job("x", stream=True), answer)
    assert isinstance(outcome, Refused), outcome
    assert answer.text == "ab"


async def test_text_for_which_nothing_was_counted_is_estimated() -> None:
    given = whole("x" * 400) | {"usage": USAGE | {"completion_tokens": 0, "total_tokens": 5}}
    async with answering(json.dumps(given).encode(), "application/json") as url, started(url) as engine:
        outcome = await engine.answer(job("x"), Recorder())
    assert isinstance(outcome, Answered)
    assert (outcome.usage.completion_tokens, outcome.usage.estimated) == (100, True)


async def test_a_path_that_the_provider_does_not_know_is_the_nodes_trouble() -> None:
    async with answering(b'{"detail":"Not Found"}', "application/json", 404) as url, started(url) as engine:
        assert isinstance(await engine.answer(job("x"), Recorder()), Later)


async def test_requests_under_way_learn_from_one_of_them() -> None:
    """Those that were sent before the lesson are refused by what they were sent with."""
    error = {"message": "Unsupported parameter: 'max_tokens' is not supported.", "param": "max_tokens", "code": None}

    def refusal(body: dict[str, Any]) -> tuple[int, Any] | None:
        return (400, {"error": error | {"type": "invalid_request_error"}}) if "max_tokens" in body else None

    async with NarrowProvider(refusal) as provider, started(provider.url, slots=8) as engine:
        jobs = [engine.answer(job("x", max_tokens=7, seed=number), Recorder()) for number in range(8)]
        outcomes = await asyncio.gather(*jobs)
    assert [type(outcome) for outcome in outcomes] == [Answered] * 8
