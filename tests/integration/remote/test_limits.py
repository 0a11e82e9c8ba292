"""How long and how large an answer of a provider may be."""

from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING, Any

import pytest

from tests.fake_upstream import Chaos, FakeUpstream
from tests.remote_engine import Recorder, Waits, job, raw_server, started
from wire.request import Request
from workernode.engine import Job
from workernode.outcome import Answered, Later, Refused

if TYPE_CHECKING:
    from workernode.remote.engine import RemoteEngine


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
    async with started(upstream.url, first_token_timeout_s=1.5, between_tokens_timeout_s=1.5) as engine:
        a_job = job("r1 tokens=6 delay-first=0.3 delay-between=0.3", stream=True)
        assert isinstance(await engine.answer(a_job, Recorder()), Answered)


async def test_a_whole_answer_that_comes_after_white_space_has_the_time_between_each_two_parts(
    upstream: FakeUpstream,
) -> None:
    async with started(upstream.url, between_tokens_timeout_s=1.5) as engine:
        assert isinstance(await engine.answer(job("r1 spaces=6 delay-between=0.3"), Recorder()), Answered)
        late = await engine.answer(job("r1 spaces=1 delay-between=20"), Recorder())
    assert isinstance(late, Later)
    assert late.error.code == "upstream_timeout"


async def test_the_readers_slowness_is_not_held_against_the_upstream(upstream: FakeUpstream) -> None:
    async with started(upstream.url, between_tokens_timeout_s=1.0) as engine:
        a_job = job("r1 tokens=10 delay-between=0.3", stream=True)
        assert isinstance(await engine.answer(a_job, Recorder(delay_s=1.5)), Answered)


async def test_a_name_server_that_says_nothing_is_waited_for_as_long_as_a_provider(
    monkeypatch: pytest.MonkeyPatch, waits: Waits
) -> None:
    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("aiohttp.connector.DefaultResolver.resolve", never)
    async with started("http://provider.example", waits, connect_timeout_s=0.1) as engine:
        outcome = await engine.answer(job("r1", remaining_s=5.0), Recorder())
    assert isinstance(outcome, Later)
    assert outcome.error.code == "upstream_failed"
    assert len(waits.seconds) == 2


async def test_a_proxy_that_says_nothing_is_waited_for_as_long_as_a_provider(waits: Waits) -> None:
    given_up = asyncio.Event()
    async with raw_server(b"", after=given_up) as proxy:
        async with started("https://provider.example", waits, proxy=proxy, connect_timeout_s=0.1) as engine:
            outcome = await engine.answer(job("r1", remaining_s=5.0), Recorder())
        given_up.set()
    assert isinstance(outcome, Later)
    assert outcome.error.code == "upstream_failed"


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


async def test_a_deadline_tells_of_the_upstream_if_it_was_silent_for_as_long_as_a_first_token_may_take(
    upstream: FakeUpstream,
) -> None:
    async def told(engine: RemoteEngine, prompt: str, **fields: Any) -> str:
        outcome = await engine.answer(job(prompt, remaining_s=0.3, **fields), Recorder())
        assert isinstance(outcome, Refused)
        return outcome.upstream

    async with started(upstream.url, first_token_timeout_s=0.2) as engine:
        assert await told(engine, "r1 hang") == "silent"
        assert await told(engine, "r1 tokens=50 delay-between=0.05", stream=True) == "unknown"
        both = told(engine, "r1 hang"), engine.answer(job("r2 delay-headers=0.1"), Recorder())
        assert (await asyncio.gather(*both))[0] == "unknown", "it answered another one meanwhile"
    async with started(upstream.url, first_token_timeout_s=10) as engine:
        assert await told(engine, "r1 hang") == "unknown", "the client was impatient"


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
