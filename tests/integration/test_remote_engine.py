"""The remote engine against a provider over real HTTP, well-behaved and not."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.fake_upstream import Chaos, FakeUpstream, oracle_text, oracle_usage
from wire.request import Request
from wire.usage import Usage
from workernode.engine import EngineUnusable, Job
from workernode.outcome import Answered, Later, Refused
from workernode.remote.allowance import Limits
from workernode.remote.engine import RemoteEngine
from workernode.remote.pace import CredentialPace
from workernode.remote.retry import BUDGET_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEY = "sk-canary-0123456789abcdef"


@dataclass
class Recorder:
    """Where the engine writes: keeps everything."""

    parts: list[bytes] = field(default_factory=list)
    text_chars: int = 0
    written: asyncio.Event = field(default_factory=asyncio.Event)
    delay_s: float = 0.0

    async def write(self, data: bytes, *, text_chars: int = 0) -> None:
        self.parts.append(data)
        self.text_chars += text_chars
        self.written.set()
        await asyncio.sleep(self.delay_s)

    @property
    def chunks(self) -> list[dict[str, Any]]:
        assert all(part.endswith(b"\n") for part in self.parts)
        return [json.loads(line) for line in b"".join(self.parts).splitlines()]

    @property
    def text(self) -> str:
        return "".join(c["delta"].get("content", "") for chunk in self.chunks for c in chunk["choices"])

    @property
    def whole(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(b"".join(self.parts))
        return parsed


@dataclass
class Waits:
    """Takes the place of sleeping between tries."""

    seconds: list[float] = field(default_factory=list)

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def job(
    prompt: str,
    *,
    stream: bool = False,
    usage_asked: bool = False,
    remaining_s: float = 20.0,
    prefix: str | None = None,
    **fields: Any,
) -> Job:
    body = {"model": "ours", "messages": [{"role": "user", "content": prompt}], "x_unknown": [1.5], **fields}
    if stream:
        body["stream"] = True
    request = Request(
        request_id="req_0123",
        model="ours",
        endpoint="chat/completions",
        body=json.dumps(body).encode(),
        gateway="gateway-0123",
        received_ms=0,
        deadline_ms=0,
        stream=stream,
        usage_asked=usage_asked,
        n=fields.get("n"),
    )
    return Job(request, answer_id="chatcmpl-ours", created_s=7, remaining_s=remaining_s, prefix=prefix)


def expected_usage(a_job: Job) -> Usage:
    given = oracle_usage(a_job.request.body)
    return Usage(
        prompt_tokens=given["prompt_tokens"],
        completion_tokens=given["completion_tokens"],
        cached_tokens=given["prompt_tokens_details"]["cached_tokens"],
    )


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream(api_key=KEY) as running:
        yield running


@pytest.fixture
def waits() -> Waits:
    return Waits()


@contextlib.asynccontextmanager
async def started(api_url: str, waits: Waits | None = None, **options: Any) -> AsyncIterator[RemoteEngine]:
    settings: dict[str, Any] = {"api_key": lambda: KEY, "upstream_model": "theirs", "slots": 8, **options}
    engine = RemoteEngine(api_url=api_url, sleep=waits or Waits(), **settings)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.aclose()


@pytest.fixture
async def engine(upstream: FakeUpstream, waits: Waits) -> AsyncIterator[RemoteEngine]:
    async with started(
        upstream.url, waits, first_token_timeout_s=5.0, between_tokens_timeout_s=5.0, answer_bytes_max=2**26
    ) as running:
        yield running


@contextlib.asynccontextmanager
async def raw_server(reply: bytes) -> AsyncIterator[str]:
    """A server that sends the same bytes to whoever speaks to it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


# -- answers


async def test_a_whole_answer_is_the_upstreams_with_our_identity(upstream: FakeUpstream, engine: RemoteEngine) -> None:
    a_job, answer = job("r17 tokens=5"), Recorder()
    outcome = await engine.answer(a_job, answer)
    assert outcome == Answered(expected_usage(a_job), "stop")
    got = answer.whole
    assert (got["id"], got["created"], got["model"]) == ("chatcmpl-ours", 7, "ours")
    assert got["choices"][0]["message"]["content"] == oracle_text(a_job.request.body) == "r17 t0 t1 t2 t3 t4"
    assert got["usage"] == oracle_usage(a_job.request.body)
    assert got["system_fingerprint"] == "fp_fake"


@pytest.mark.parametrize(
    "words", ["", "crlf", "comments", "gzip", "burst=4", "burst=100", "no-done", "usage-on-finish"]
)
@pytest.mark.parametrize("usage_asked", [False, True])
async def test_a_stream_is_the_upstreams_with_our_identity(
    upstream: FakeUpstream, engine: RemoteEngine, words: str, usage_asked: bool
) -> None:
    a_job, answer = job(f"r17 tokens=5 {words}", stream=True, usage_asked=usage_asked), Recorder()
    outcome = await engine.answer(a_job, answer)
    assert outcome == Answered(expected_usage(a_job), "stop")
    assert answer.text == oracle_text(a_job.request.body)
    assert answer.text_chars == len(answer.text)
    chunks = answer.chunks
    assert {(c["id"], c["created"], c["model"], c["object"]) for c in chunks} == {
        ("chatcmpl-ours", 7, "ours", "chat.completion.chunk")
    }
    if usage_asked:
        *others, last = chunks
        assert (last["choices"], last["usage"]) == ([], oracle_usage(a_job.request.body))
        assert all(chunk["usage"] is None for chunk in others)
    else:
        others = chunks
        assert all("usage" not in chunk for chunk in chunks)
    assert others[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [chunk["choices"][0]["finish_reason"] for chunk in others] == [None] * (len(others) - 1) + ["stop"]


async def test_what_one_read_brings_is_one_write(engine: RemoteEngine) -> None:
    answer = Recorder()
    await engine.answer(job("r1 tokens=20 burst=100", stream=True, usage_asked=True), answer)
    assert len(answer.parts) == 1
    assert len(answer.chunks) == 24


async def test_several_choices_of_a_stream_pass_side_by_side(engine: RemoteEngine) -> None:
    a_job, answer = job("r1 tokens=3 no-done", stream=True, n=2), Recorder()
    assert await engine.answer(a_job, answer) == Answered(expected_usage(a_job), "stop")
    for index in (0, 1):
        choices = [c["choices"][0] for c in answer.chunks if c["choices"][0]["index"] == index]
        assert "".join(c["delta"].get("content", "") for c in choices) == f"r1 t0 t1 t2 c{index}"


@pytest.mark.parametrize("stream", [False, True])
async def test_usage_that_the_upstream_does_not_tell_is_estimated_and_marked(
    engine: RemoteEngine, stream: bool
) -> None:
    a_job, answer = job("r1 tokens=5 no-usage", stream=stream, usage_asked=True), Recorder()
    outcome = await engine.answer(a_job, answer)
    text = oracle_text(a_job.request.body)
    assert isinstance(outcome, Answered)
    assert outcome.usage == Usage(
        prompt_tokens=-(-len("r1 tokens=5 no-usage") // 4), completion_tokens=-(-len(text) // 4), estimated=True
    )
    shown = answer.chunks[-1]["usage"] if stream else answer.whole["usage"]
    assert shown["total_tokens"] == outcome.usage.total_tokens


async def test_the_upstream_gets_the_clients_body_and_who_asks(upstream: FakeUpstream, engine: RemoteEngine) -> None:
    a_job = job("r1", stream=True, stream_options={"include_obfuscation": False})
    await engine.answer(a_job, Recorder())
    (received,) = upstream.requests
    sent = json.loads(a_job.request.body)
    options = {"include_obfuscation": False, "include_usage": True}
    assert received.json == {**sent, "model": "theirs", "stream_options": options}
    assert received.headers["authorization"] == f"Bearer {KEY}"
    assert received.headers["content-type"] == "application/json"
    assert received.headers["accept"] == "text/event-stream"
    assert (received.headers["x-request-id"], received.headers["idempotency-key"]) == ("0123", "req_0123")
    assert received.headers["user-agent"].startswith("workernode/")
    assert "api-key" not in received.headers
    assert "cookie" not in received.headers


async def test_without_a_key_no_authorization_is_sent() -> None:
    async with FakeUpstream() as open_upstream, started(open_upstream.url, api_key=lambda: None) as engine:
        assert isinstance(await engine.answer(job("r1"), Recorder()), Answered)
        assert "authorization" not in open_upstream.requests[0].headers


async def test_a_key_that_is_replaced_counts_from_the_next_request(upstream: FakeUpstream) -> None:
    keys = ["sk-the-old-one-that-expired", KEY]
    async with started(upstream.url, api_key=lambda: keys.pop(0)) as engine:
        assert isinstance(await engine.answer(job("r1"), Recorder()), Later)
        assert isinstance(await engine.answer(job("r1"), Recorder()), Answered)


async def test_azures_form_of_the_address_is_spoken_to(upstream: FakeUpstream) -> None:
    base = upstream.url.removesuffix("/v1")
    async with started(f"{base}/openai/deployments/gpt?api-version=2024-10-21") as engine:
        assert isinstance(await engine.answer(job("r1"), Recorder()), Answered)
    assert upstream.requests[0].path == "/openai/deployments/gpt/chat/completions?api-version=2024-10-21"


async def test_cookies_of_the_upstream_are_not_kept(upstream: FakeUpstream) -> None:
    upstream.script = [Chaos(status=400, body=b"{}", headers=(("set-cookie", "a=b; path=/"),))]
    # By its name: cookies of a bare address are not kept anyway.
    async with started(upstream.url.replace("127.0.0.1", "localhost")) as engine:
        for _ in range(2):
            await engine.answer(job("r1"), Recorder())
    assert "cookie" not in upstream.requests[1].headers


async def test_a_large_answer_passes(engine: RemoteEngine) -> None:
    answer = Recorder()
    assert isinstance(await engine.answer(job("r1 tokens=1 huge=40"), answer), Answered)
    content = answer.whole["choices"][0]["message"]["content"]
    assert content == "r1 t0 " + "x" * (40 * 2**20)


async def test_a_large_request_passes(upstream: FakeUpstream, engine: RemoteEngine) -> None:
    picture = "A" * (8 * 2**20)
    assert isinstance(await engine.answer(job("r1", picture=picture), Recorder()), Answered)
    assert upstream.requests[0].json["picture"] == picture


async def test_a_hundred_and_twenty_eight_answers_at_once_are_not_mixed(upstream: FakeUpstream) -> None:
    jobs = [job(f"r{i} tokens={i} delay-first=0.3", stream=i % 2 == 0) for i in range(128)]
    answers = [Recorder() for _ in jobs]
    async with started(upstream.url, slots=128) as engine:
        outcomes = await asyncio.gather(*(engine.answer(j, a) for j, a in zip(jobs, answers, strict=True)))
    for a_job, answer, outcome in zip(jobs, answers, outcomes, strict=True):
        assert outcome == Answered(expected_usage(a_job), "stop")
        text = answer.text if a_job.request.stream else answer.whole["choices"][0]["message"]["content"]
        assert text == oracle_text(a_job.request.body)
    assert upstream.peak == 128


async def test_connections_are_used_again(upstream: FakeUpstream) -> None:
    # One slot, and so one connection: each answer must have left it fit for the next.
    prompts = ["r1", "r1 no-done", "r1 status=400", "r1 burst=50", "r1 gzip", "r1 delay-end=0.01"]
    async with started(upstream.url, slots=1) as engine, asyncio.timeout(10):
        for prompt in prompts * 3:
            for stream in (True, False):
                await engine.answer(job(prompt, stream=stream), Recorder())
    assert upstream.connections == 1
    assert upstream.aborted == 0


# -- failures


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("words", "kind", "code", "requests"),
    [
        ("status=400", Refused, "upstream_refused", 1),
        ("status=404", Refused, "upstream_refused", 1),
        ("status=413", Refused, "upstream_refused", 1),
        ("status=422", Refused, "upstream_refused", 1),
        ("status=401", Later, "upstream_authentication_failed", 1),
        ("status=403", Later, "upstream_authentication_failed", 1),
        ("status=402", Later, "upstream_quota_exhausted", 1),
        ("status=429 quota", Later, "upstream_quota_exhausted", 1),
        ("status=408", Later, "upstream_failed", 3),
        ("status=409", Later, "upstream_failed", 3),
        ("status=429", Later, "upstream_rate_limited", 1),
        ("status=500", Later, "upstream_failed", 3),
        ("status=503", Later, "upstream_failed", 3),
        ("status=502 html", Later, "upstream_failed", 3),
        ("reset", Later, "upstream_failed", 3),
        ("close-after=0", Later, "upstream_failed", 3),
        ("error-inside", Later, "upstream_failed", 3),
        ("html", Later, "upstream_failed", 1),
        ("empty", Later, "upstream_failed", 1),
    ],
)
async def test_what_fails_before_the_first_token_shows_nothing_and_is_tried_again_where_that_may_help(
    upstream: FakeUpstream, engine: RemoteEngine, words: str, kind: type, code: str, requests: int, stream: bool
) -> None:
    answer = Recorder()
    outcome = await engine.answer(job(f"r1 {words}", stream=stream), answer)
    assert isinstance(outcome, kind)
    assert isinstance(outcome, Refused | Later)
    assert outcome.error.code == code
    assert answer.parts == []
    assert len(upstream.requests) == requests


@pytest.mark.parametrize(
    "words", ["close-after=1", "end-after=1", "error-after=1", "garbage-after=1", "error-after=3 burst=100"]
)
async def test_a_stream_that_fails_before_anything_of_it_was_shown_can_be_answered_elsewhere(
    engine: RemoteEngine, words: str
) -> None:
    answer = Recorder()
    outcome = await engine.answer(job(f"r1 {words}", stream=True), answer)
    assert isinstance(outcome, Later)
    assert answer.parts == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("close-after=3", "stream_interrupted"),
        ("end-after=3", "stream_interrupted"),
        ("error-after=3", "upstream_failed"),
        ("garbage-after=3", "upstream_failed"),
        ("no-done no-finish", "stream_interrupted"),
    ],
)
async def test_a_stream_that_breaks_after_its_first_token_ends_with_an_error(
    upstream: FakeUpstream, engine: RemoteEngine, words: str, code: str
) -> None:
    a_job, answer = job(f"r1 delay-between=0.01 {words}", stream=True), Recorder()
    outcome = await engine.answer(a_job, answer)
    assert isinstance(outcome, Refused)
    assert outcome.error.code == code
    assert answer.text
    assert oracle_text(a_job.request.body).startswith(answer.text)
    assert len(upstream.requests) == 1


async def test_a_stream_that_breaks_after_its_finish_reason_is_complete(engine: RemoteEngine) -> None:
    a_job, answer = job("r1 tokens=2 delay-between=0.01 close-after=5", stream=True), Recorder()
    outcome = await engine.answer(a_job, answer)
    assert isinstance(outcome, Answered)
    assert outcome.usage.estimated
    assert answer.text == oracle_text(a_job.request.body)


async def test_a_whole_answer_that_breaks_off_shows_nothing(engine: RemoteEngine) -> None:
    answer = Recorder()
    assert isinstance(await engine.answer(job("r1 close-after=1"), answer), Later)
    assert answer.parts == []


async def test_a_provider_that_recovers_is_asked_again(
    upstream: FakeUpstream, engine: RemoteEngine, waits: Waits
) -> None:
    upstream.script = ["status=503", "reset", ""]
    a_job, answer = job("r1", stream=True), Recorder()
    assert await engine.answer(a_job, answer) == Answered(expected_usage(a_job), "stop")
    assert answer.text == oracle_text(a_job.request.body)
    assert len(waits.seconds) == 2
    assert all(0.5 <= seconds <= 8 for seconds in waits.seconds)


async def test_retry_after_is_the_least_wait(upstream: FakeUpstream, engine: RemoteEngine, waits: Waits) -> None:
    upstream.script = ["status=503 retry-after=7", ""]
    assert isinstance(await engine.answer(job("r1"), Recorder()), Answered)
    assert waits.seconds == [7.0]


@pytest.mark.parametrize(("retry_after", "remaining_s"), [("9", 60.0), ("7", 6.0)])
async def test_a_wait_that_is_too_long_hands_the_request_back_at_once(
    upstream: FakeUpstream, engine: RemoteEngine, waits: Waits, retry_after: str, remaining_s: float
) -> None:
    outcome = await engine.answer(job(f"r1 status=503 retry-after={retry_after}", remaining_s=remaining_s), Recorder())
    assert isinstance(outcome, Later)
    assert outcome.error.retry_after_ms == int(retry_after) * 1000
    assert waits.seconds == []
    assert len(upstream.requests) == 1


async def test_a_provider_that_is_down_gets_a_tenth_more_requests_and_not_three_times_as_many(
    upstream: FakeUpstream, engine: RemoteEngine
) -> None:
    for number in range(200):
        assert isinstance(await engine.answer(job(f"r{number} status=503"), Recorder()), Later)
    assert 200 + 20 <= len(upstream.requests) <= 200 + 20 + BUDGET_MAX


async def test_a_provider_that_limits_the_rate_is_left_alone_for_as_long_as_it_says(upstream: FakeUpstream) -> None:
    clock = [1000.0]
    pace = CredentialPace(lambda: "c", "node-1", Limits(), clock=lambda: clock[0], unix_ms=lambda: 0)
    async with started(upstream.url, pace=pace) as engine:
        outcome = await engine.answer(job("r1 status=429 retry-after=30"), Recorder())
        assert isinstance(outcome, Later)
        assert outcome.error.code == "upstream_rate_limited"
        clock[0] += 10
        outcome = await engine.answer(job("r2"), Recorder())
        assert isinstance(outcome, Later)
        assert (outcome.error.code, outcome.error.retry_after_ms) == ("upstream_rate_limited", 20_000)
        assert len(upstream.requests) == 1
        clock[0] += 20
        assert isinstance(await engine.answer(job("r3"), Recorder()), Answered)


async def test_what_the_headers_state_is_learnt_from_answers_and_errors_alike(upstream: FakeUpstream) -> None:
    pace = CredentialPace(lambda: "c", "node-1", Limits(), clock=lambda: 1000.0, unix_ms=lambda: 0)
    upstream.script = [
        Chaos(headers=(("x-ratelimit-limit-requests", "600"),)),
        Chaos(status=500, headers=(("x-ratelimit-limit-tokens", "90000"),)),
    ]
    async with started(upstream.url, pace=pace) as engine:
        assert isinstance(await engine.answer(job("r1"), Recorder()), Answered)
        assert pace.learnt().requests_per_min == 600
        await engine.answer(job("r2"), Recorder())
        assert pace.learnt().tokens_per_min == 90_000


async def test_a_redirect_is_not_followed(upstream: FakeUpstream, engine: RemoteEngine) -> None:
    upstream.script = [Chaos(status=307, headers=(("location", f"{upstream.url}/chat/completions"),), body=b"")]
    assert isinstance(await engine.answer(job("r1"), Recorder()), Later)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\n" + b"x" * 100_000,
        b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n\xff\xfe\x00",
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_something_that_is_no_provider_is_a_failure_for_later(reply: bytes, stream: bool) -> None:
    async with raw_server(reply) as url, started(url) as engine:
        answer = Recorder()
        assert isinstance(await engine.answer(job("r1", stream=stream), answer), Later)
        assert answer.parts == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://nothing.invalid", "https://127.0.0.1:1/v1"])
async def test_an_upstream_that_cannot_be_reached_is_for_later(url: str, waits: Waits) -> None:
    async with started(url, waits) as engine:
        outcome = await engine.answer(job("r1"), Recorder())
    assert isinstance(outcome, Later)
    assert len(waits.seconds) == 2


# -- limits


@pytest.mark.parametrize("words", ["hang", "hang-after=0 pings=0.02", "delay-first=30", "hang-after=1"])
async def test_a_first_token_that_does_not_come_in_time_is_for_later(upstream: FakeUpstream, words: str) -> None:
    async with started(upstream.url, first_token_timeout_s=0.2) as engine:
        outcome = await engine.answer(job(f"r1 {words}", stream=True), Recorder())
        assert isinstance(outcome, Later)
        assert outcome.error.code == "upstream_timeout"
        await upstream.until(lambda u: u.running == 0, within_s=1)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("words", ["", "pings=0.02", "delay-between=0.15"])
async def test_a_stream_that_falls_silent_ends_with_an_error(upstream: FakeUpstream, words: str) -> None:
    async with started(upstream.url, between_tokens_timeout_s=0.2) as engine, asyncio.timeout(5):
        answer = Recorder()
        outcome = await engine.answer(job(f"r1 hang-after=3 {words}", stream=True), answer)
        assert isinstance(outcome, Refused)
        assert outcome.error.code == "stream_interrupted"
        assert answer.text == "r1 t0"
        await upstream.until(lambda u: u.running == 0, within_s=1)


async def test_a_stream_slower_than_its_limits_in_all_but_quick_in_each_step_passes(upstream: FakeUpstream) -> None:
    async with started(upstream.url, first_token_timeout_s=0.4, between_tokens_timeout_s=0.4) as engine:
        a_job = job("r1 tokens=10 delay-first=0.1 delay-between=0.1", stream=True)
        assert isinstance(await engine.answer(a_job, Recorder()), Answered)


async def test_the_readers_slowness_is_not_held_against_the_upstream(upstream: FakeUpstream) -> None:
    async with started(upstream.url, between_tokens_timeout_s=0.1) as engine:
        a_job = job("r1 tokens=20 delay-between=0.05", stream=True)
        assert isinstance(await engine.answer(a_job, Recorder(delay_s=0.15)), Answered)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_is_not_worked_on_past_its_deadline(upstream: FakeUpstream, stream: bool) -> None:
    async with started(upstream.url) as engine:
        outcome = await engine.answer(job("r1 hang", stream=stream, remaining_s=0.2), Recorder())
        assert isinstance(outcome, Refused)
        assert outcome.error.code == "deadline_exceeded"
        await upstream.until(lambda u: u.running == 0, within_s=1)
        expired = await engine.answer(job("r1", remaining_s=0.0), Recorder())
    assert isinstance(expired, Refused)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_over_the_limit_is_refused(upstream: FakeUpstream, stream: bool) -> None:
    async with started(upstream.url, answer_bytes_max=2**20) as engine:
        outcome = await engine.answer(job("r1 huge=2", stream=stream), Recorder())
    assert isinstance(outcome, Refused)
    assert outcome.error.code == "answer_too_large"


async def test_an_event_over_the_limit_is_refused(upstream: FakeUpstream) -> None:
    async with started(upstream.url, event_bytes_max=4096) as engine:
        outcome = await engine.answer(job("r1 huge=1", stream=True), Recorder())
    assert isinstance(outcome, Refused)
    assert outcome.error.code == "answer_too_large"


async def test_a_small_answer_that_unpacks_to_a_huge_one_is_refused(upstream: FakeUpstream) -> None:
    bomb = gzip.compress(b" " * (200 * 2**20))
    upstream.script = [Chaos(headers=(("content-encoding", "gzip"),), body=bomb)]
    async with started(upstream.url, answer_bytes_max=2**20) as engine:
        outcome = await engine.answer(job("r1"), Recorder())
    assert isinstance(outcome, Refused)
    assert outcome.error.code == "answer_too_large"


async def test_a_continuation_is_left_to_others(upstream: FakeUpstream, engine: RemoteEngine) -> None:
    outcome = await engine.answer(job("r1", prefix="r1 t0"), Recorder())
    assert isinstance(outcome, Later)
    assert outcome.error.code == "cannot_continue"
    assert upstream.requests == []


async def test_a_body_that_is_no_object_is_refused_without_asking_the_upstream(
    upstream: FakeUpstream, engine: RemoteEngine
) -> None:
    request = Request(
        request_id="req_0123",
        model="ours",
        endpoint="chat/completions",
        body=b"[]",
        gateway="gateway-0123",
        received_ms=0,
        deadline_ms=0,
    )
    outcome = await engine.answer(Job(request, answer_id="a", created_s=1, remaining_s=9), Recorder())
    assert isinstance(outcome, Refused)
    assert outcome.error.http_status == 400
    assert upstream.requests == []


# -- stopping


@pytest.mark.parametrize(
    ("words", "stream", "shown"),
    [
        ("hang", False, False),
        ("hang", True, False),
        ("delay-first=30", False, False),
        ("delay-first=30", True, False),
        ("hang-after=1", False, False),
        ("hang-after=3", True, True),
        ("tokens=1000 delay-between=0.05", True, True),
    ],
)
async def test_cancelling_closes_the_upstream_connection_within_a_second(
    upstream: FakeUpstream, engine: RemoteEngine, words: str, stream: bool, shown: bool
) -> None:
    answer = Recorder()
    task = asyncio.create_task(engine.answer(job(f"r1 {words}", stream=stream), answer))
    await upstream.until(lambda u: u.running == 1)
    if shown:
        await answer.written.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(1):
            await task
    await upstream.until(lambda u: u.running == 0 and u.aborted == 1, within_s=1)


async def test_cancelling_between_two_tries_stops_them(upstream: FakeUpstream) -> None:
    waiting = asyncio.Event()

    async def wait(_: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    engine = RemoteEngine(api_url=upstream.url, api_key=lambda: KEY, upstream_model="m", slots=1, sleep=wait)
    await engine.start()
    task = asyncio.create_task(engine.answer(job("r1 status=503"), Recorder()))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await engine.aclose()
    assert len(upstream.requests) == 1


async def test_an_error_of_the_reader_is_not_taken_for_one_of_the_upstream(
    upstream: FakeUpstream, engine: RemoteEngine
) -> None:
    class Broken(Recorder):
        async def write(self, data: bytes, *, text_chars: int = 0) -> None:
            raise error

    for error in (ConnectionResetError("the link is gone"), TimeoutError("the link is gone")):
        for stream in (False, True):
            with pytest.raises(type(error), match="the link is gone"):
                await engine.answer(job("r1", stream=stream), Broken())
    assert len(upstream.requests) == 4


async def test_starting_does_not_call_the_upstream_and_closing_twice_is_harmless(upstream: FakeUpstream) -> None:
    engine = RemoteEngine(api_url=upstream.url, api_key=lambda: KEY, upstream_model="m", slots=1)
    await engine.aclose()
    await engine.start()
    assert engine.details.provider == "127.0.0.1"
    assert engine.details.upstream_model == "m"
    await engine.aclose()
    await engine.aclose()
    assert upstream.requests == []


async def test_a_wrong_api_url_makes_the_engine_unusable_with_a_sentence() -> None:
    engine = RemoteEngine(api_url="ftp://x", api_key=lambda: None, upstream_model="m", slots=1)
    with pytest.raises(EngineUnusable, match="API_URL must begin with http"):
        await engine.start()


# -- secrets


def echoes(words: str) -> list[Chaos | str]:
    """Failures whose bodies repeat ``words``."""
    error = json.dumps({"error": {"message": words, "code": words}}).encode()
    statuses = (200, 400, 401, 403, 404, 429, 500)
    return [Chaos(status=status, body=body) for status in statuses for body in (error, words.encode())]


async def test_the_api_key_is_in_no_outcome_and_no_log_line(
    upstream: FakeUpstream, engine: RemoteEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    seen = []
    for chaos in ["reset", "html", "error-inside", *echoes(f"the key {KEY} is wrong")]:
        for stream in (False, True):
            upstream.script = [chaos] * 3
            seen.append(repr(await engine.answer(job("r1", stream=stream), Recorder())))
    assert KEY not in "".join(seen)
    assert KEY not in caplog.text
    assert 'action="upstream_retry"' in caplog.text
    assert KEY not in repr(engine)


async def test_the_prompt_is_in_no_log_line_and_in_nothing_that_is_handed_back(
    upstream: FakeUpstream, engine: RemoteEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for chaos in echoes("you said canary-prompt"):
        upstream.script = [chaos] * 3
        outcome = await engine.answer(job("canary-prompt"), Recorder())
        if isinstance(outcome, Later):
            assert "canary-prompt" not in repr(outcome)
    assert "canary-prompt" not in caplog.text
