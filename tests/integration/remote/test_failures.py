"""What becomes of a request whose provider fails."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.fake_upstream import Chaos, FakeUpstream, oracle_text
from tests.remote_engine import Recorder, Waits, expected_usage, job, raw_server, started
from workernode.outcome import Answered, Later, Refused
from workernode.remote.allowance import Limits
from workernode.remote.errors import ERROR_BYTES_MAX
from workernode.remote.pace import CredentialPace
from workernode.remote.retry import BUDGET_MAX

if TYPE_CHECKING:
    from workernode.remote.engine import RemoteEngine


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
        assert not outcome.asked
        assert len(upstream.requests) == 1
        clock[0] += 20
        assert isinstance(await engine.answer(job("r3"), Recorder()), Answered)


async def test_a_call_that_is_tried_again_counts_against_the_limit_once_more(upstream: FakeUpstream) -> None:
    pace = CredentialPace(lambda: "c", "node-1", Limits(6000), clock=lambda: 1000.0, unix_ms=lambda: 0)
    before = pace.rate("requests").available(1000.0)
    upstream.script = ["status=503", "reset", ""]
    async with started(upstream.url, pace=pace) as engine:
        assert isinstance(await engine.answer(job("r1"), Recorder()), Answered)
    after = pace.rate("requests").available(1000.0)
    assert before is not None
    assert after is not None
    assert before - after == pytest.approx(2)


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


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("body", [b"", b'{"error":'], ids=["that hangs", "that is cut"])
async def test_of_an_error_without_an_end_its_status_counts(
    monkeypatch: pytest.MonkeyPatch, body: bytes, stream: bool
) -> None:
    monkeypatch.setattr("workernode.remote.exchange._ERROR_BODY_WAIT_S", 0.1)
    given_up = asyncio.Event()
    head = b"HTTP/1.1 401 X\r\ncontent-length: 10000000\r\n\r\n"
    async with raw_server(head + body, after=None if body else given_up) as url, started(url) as engine:
        async with asyncio.timeout(5):
            outcome = await engine.answer(job("r1", stream=stream), Recorder())
        given_up.set()
    assert isinstance(outcome, Later)
    assert outcome.error.code == "upstream_authentication_failed"


async def test_of_an_error_that_is_too_long_its_status_counts(upstream: FakeUpstream, engine: RemoteEngine) -> None:
    upstream.script = [Chaos(status=401, body=b"x" * (ERROR_BYTES_MAX + 1))]
    outcome = await engine.answer(job("r1"), Recorder())
    assert isinstance(outcome, Later)
    assert outcome.error.code == "upstream_authentication_failed"


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
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n\xff\xfe\x00",
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_something_that_is_no_provider_is_a_failure_for_later(reply: bytes, stream: bool) -> None:
    async with raw_server(reply) as url, started(url) as engine:
        answer = Recorder()
        assert isinstance(await engine.answer(job("r1", stream=stream), answer), Later)
        assert answer.parts == []


@pytest.mark.parametrize(
    "reply", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", b"-ERR unknown\r\n"]
)
async def test_an_address_where_another_protocol_is_spoken_is_told_as_such(reply: bytes, waits: Waits) -> None:
    async with raw_server(reply) as url, started(url, waits) as engine:
        outcome = await engine.answer(job("r1"), Recorder())
    assert isinstance(outcome, Later)
    assert "API_URL may be wrong" in outcome.error.message
    assert len(waits.seconds) == 2  # what one before has left on the connection looks the same


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://nothing.invalid", "https://127.0.0.1:1/v1"])
async def test_an_upstream_that_cannot_be_reached_is_for_later(url: str, waits: Waits) -> None:
    async with started(url, waits) as engine:
        outcome = await engine.answer(job("r1"), Recorder())
    assert isinstance(outcome, Later)
    assert len(waits.seconds) == 2
