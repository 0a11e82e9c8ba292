"""A remote engine's answers are the provider's, with our identity."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from tests.fake_upstream import Chaos, FakeUpstream, oracle_text, oracle_usage
from tests.remote_engine import KEY, Recorder, expected_usage, job, started
from wire.usage import Usage
from workernode.outcome import Answered, Later

if TYPE_CHECKING:
    from workernode.remote.engine import RemoteEngine


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


async def test_an_answer_with_a_long_header_passes(upstream: FakeUpstream, engine: RemoteEngine) -> None:
    upstream.script = [Chaos(headers=(("content-security-policy", "x" * 30_000),))]
    assert isinstance(await engine.answer(job("r1"), Recorder()), Answered)
    assert len(upstream.requests) == 1


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
