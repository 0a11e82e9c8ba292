"""Several choices and prompts where a provider gives one and takes one: calls side by side, one answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.fake_upstream import FakeUpstream
from tests.narrow_provider import NarrowProvider
from tests.remote_engine import Recorder, completion_job, job, started
from wire.usage import Usage
from workernode.outcome import Answered, Refused
from workernode.remote.allowance import Limits
from workernode.remote.call import CALLS_MAX
from workernode.remote.dialects.dialect import dialect_named
from workernode.remote.pace import CredentialPace

NARROW = dialect_named("one-choice,one-prompt")


def by_index(answer: Recorder) -> dict[int, str]:
    texts: dict[int, str] = {}
    for chunk in answer.chunks:
        for choice in chunk["choices"]:
            texts[choice["index"]] = texts.get(choice["index"], "") + choice["delta"].get("content", "")
    return texts


async def test_several_choices_are_as_many_calls_and_each_is_paid_for() -> None:
    async with NarrowProvider() as provider, started(provider.url, dialect=NARROW) as engine:
        answer = Recorder()
        outcome = await engine.answer(job("x", n=3, seed=40), answer)
    assert outcome == Answered(Usage(prompt_tokens=30, completion_tokens=6), "stop")
    got = answer.whole
    assert [(c["index"], c["message"]["content"]) for c in got["choices"]] == [
        (0, "a40 end"),
        (1, "a41 end"),
        (2, "a42 end"),
    ]
    assert got["usage"] == {"prompt_tokens": 30, "completion_tokens": 6, "total_tokens": 36}
    assert (got["id"], got["model"]) == ("chatcmpl-ours", "ours")
    assert not any("n" in body for body in provider.bodies)
    assert len(set(provider.keys)) == 3  # or a provider might give the first answer three times


@pytest.mark.parametrize("usage_asked", [False, True])
async def test_streams_run_at_once_and_have_each_their_index(usage_asked: bool) -> None:
    # The provider lets none of them go on before all have begun.
    async with NarrowProvider(together=3) as provider, started(provider.url, dialect=NARROW) as engine:
        answer = Recorder()
        outcome = await engine.answer(job("x", stream=True, n=3, seed=40, usage_asked=usage_asked), answer)
    assert outcome == Answered(Usage(prompt_tokens=30, completion_tokens=6), "stop")
    assert by_index(answer) == {0: "a40 end", 1: "a41 end", 2: "a42 end"}
    assert answer.text_chars == 3 * len("a40 end")  # by that it is charged where its client leaves
    *others, last = answer.chunks
    assert sum(c["finish_reason"] == "stop" for chunk in answer.chunks for c in chunk["choices"]) == 3
    assert sum("role" in c["delta"] for chunk in answer.chunks for c in chunk["choices"]) == 3
    if usage_asked:
        assert (last["choices"], last["usage"]["total_tokens"], last["id"]) == ([], 36, "chatcmpl-ours")
        assert all(chunk["usage"] is None for chunk in others)
    else:
        assert all("usage" not in chunk for chunk in answer.chunks)


async def test_what_one_stream_writes_is_whole_before_another_writes() -> None:
    """A long line goes out in several pieces, and room for each is waited for."""

    class Slow(Recorder):
        writing = 0

        async def write(self, data: bytes, *, text_chars: int = 0) -> None:
            self.writing += 1
            assert self.writing == 1
            await super().write(data, text_chars=text_chars)
            self.writing -= 1

    async with NarrowProvider(together=3) as provider, started(provider.url, dialect=NARROW) as engine:
        answer = Slow(delay_s=0.01)
        assert isinstance(await engine.answer(job("x", stream=True, n=3), answer), Answered)
    assert len(by_index(answer)) == 3


async def test_prompts_in_a_list_are_answered_one_by_one_in_their_order() -> None:
    async with NarrowProvider() as provider, started(provider.url, dialect=NARROW) as engine:
        answer = Recorder()
        outcome = await engine.answer(completion_job(["p", "q"], n=2, seed=1), answer)
    assert isinstance(outcome, Answered)
    assert [(c["index"], c["text"]) for c in answer.whole["choices"]] == [
        (0, "p: a1 end"),
        (1, "p: a2 end"),
        (2, "q: a3 end"),
        (3, "q: a4 end"),
    ]
    assert outcome.usage.prompt_tokens == 40


async def test_a_conversation_has_as_many_answers_as_somebody_counted_on() -> None:
    async with NarrowProvider() as provider, started(provider.url, dialect=NARROW) as engine:
        outcome = await engine.answer(job("x", best_of=10**12), Recorder())
    assert outcome == Answered(Usage(prompt_tokens=10, completion_tokens=2), "stop")
    assert len(provider.bodies) == 1


async def test_so_many_calls_that_nobody_would_make_are_refused_before_they_are_thought_of() -> None:
    async with NarrowProvider() as provider, started(provider.url, dialect=NARROW) as engine:
        outcome = await engine.answer(completion_job("p", best_of=10**12), Recorder())
    assert isinstance(outcome, Refused)
    assert provider.bodies == []


@pytest.mark.parametrize("logprobs", [None, 1])
async def test_the_best_of_several_are_those_that_the_model_finds_likeliest(logprobs: int | None) -> None:
    async with NarrowProvider() as provider, started(provider.url, dialect=NARROW) as engine:
        answer = Recorder()
        fields: dict[str, Any] = {} if logprobs is None else {"logprobs": logprobs}
        outcome = await engine.answer(completion_job("p", n=2, best_of=4, **fields), answer)
    assert outcome == Answered(Usage(prompt_tokens=40, completion_tokens=8), "stop")
    # Its log probabilities grow with the number of the call.
    choices = answer.whole["choices"]
    assert [choice["index"] for choice in choices] == [0, 1]
    likelihood = {f"p: a{number} end": number for number in range(4)}
    assert [likelihood[choice["text"]] for choice in choices] == [3, 2]
    assert all((choice["logprobs"] is None) is (logprobs is None) for choice in choices)
    assert not any("best_of" in body for body in provider.bodies)


async def test_a_call_that_fails_before_anything_was_shown_has_all_of_them_made_again() -> None:
    async with NarrowProvider(failing=1) as provider, started(provider.url, dialect=NARROW) as engine:
        answer = Recorder()
        outcome = await engine.answer(job("x", n=3), answer)
    assert outcome == Answered(Usage(prompt_tokens=30, completion_tokens=6), "stop")
    assert len(provider.bodies) == 6
    assert len(answer.whole["choices"]) == 3


async def test_streams_of_which_one_fails_before_anything_was_shown_are_made_again() -> None:
    def refusal(_: dict[str, Any]) -> tuple[int, Any] | None:
        return (503, {"error": {"message": "Not now."}}) if len(provider.bodies) == 1 else None

    # One after the other, so that nothing of another one is shown when the first one fails.
    async with NarrowProvider(refusal) as provider, started(provider.url, slots=1, dialect=NARROW) as engine:
        answer = Recorder()
        assert isinstance(await engine.answer(job("x", stream=True, n=3), answer), Answered)
    assert set(by_index(answer)) == {0, 1, 2}


async def test_calls_that_are_made_again_are_not_worked_on_past_the_deadline() -> None:
    def refusal(_: dict[str, Any]) -> tuple[int, Any] | None:
        return (503, {"error": {"message": "Not now."}}) if len(provider.bodies) == 1 else None

    async with (
        NarrowProvider(refusal, hanging=True) as provider,
        started(provider.url, dialect=NARROW) as engine,
    ):
        outcome = await engine.answer(job("x", n=2, remaining_s=1.0), Recorder())
        await provider.until(running=0)
    assert isinstance(outcome, Refused), outcome
    assert outcome.error.code == "deadline_exceeded"
    assert len(provider.bodies) > 2


@pytest.mark.parametrize("mute", [False, True])
async def test_a_stream_that_breaks_off_ends_the_others_and_the_answer(mute: bool) -> None:
    async with (
        NarrowProvider(together=3, failing=1, mute=mute) as provider,
        started(provider.url, dialect=NARROW) as engine,
    ):
        answer = Recorder()
        outcome = await engine.answer(job("x", stream=True, n=3, usage_asked=True), answer)
        await provider.until(running=0)
    assert isinstance(outcome, Refused)
    assert outcome.error.code == ("upstream_failed" if mute else "stream_interrupted")
    assert answer.chunks[-1]["choices"] != []  # no usage: that would look like an end


@pytest.mark.parametrize("stream", [False, True])
async def test_cancelling_closes_all_calls(stream: bool) -> None:
    async with NarrowProvider(hanging=True) as provider, started(provider.url, dialect=NARROW) as engine:
        task = asyncio.create_task(engine.answer(job("x", stream=stream, n=3), Recorder()))
        await provider.until(running=3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await provider.until(running=0)


@pytest.mark.parametrize("stream", [False, True])
async def test_calls_at_once_are_no_more_than_the_nodes_slots(stream: bool) -> None:
    async with NarrowProvider() as provider, started(provider.url, slots=2, dialect=NARROW) as engine:
        outcomes = await asyncio.gather(*(engine.answer(job("x", stream=stream, n=5), Recorder()) for _ in range(2)))
    assert all(isinstance(outcome, Answered) for outcome in outcomes)
    assert (len(provider.bodies), provider.peak) == (10, 2)


async def test_waiting_for_a_turn_is_not_held_against_the_provider() -> None:
    async with (
        FakeUpstream() as upstream,
        started(upstream.url, slots=1, dialect=NARROW, api_key=lambda: None, first_token_timeout_s=1.5) as engine,
    ):
        outcome = await engine.answer(job("r1 delay-headers=0.6", stream=True, n=3), Recorder())
    assert isinstance(outcome, Answered)


@pytest.mark.parametrize("stream", [False, True])
async def test_each_call_counts_for_the_limits_of_the_key(stream: bool) -> None:
    class Counting(CredentialPace):
        calls = 1  # the gate has counted the request itself
        tokens = 0.0

        def again(self) -> None:
            self.calls += 1

        def settle(self, reserved: float, used: float) -> None:
            self.tokens += used

    pace = Counting(lambda: "c", "node-1", Limits(), clock=lambda: 1000.0, unix_ms=lambda: 0)
    async with NarrowProvider() as provider, started(provider.url, dialect=NARROW, pace=pace) as engine:
        await engine.answer(job("x", stream=stream, n=3), Recorder())
    assert (pace.calls, pace.tokens) == (len(provider.bodies), 36)


async def test_more_calls_than_a_request_may_cost_are_refused_without_one() -> None:
    async with NarrowProvider() as provider, started(provider.url, dialect=NARROW) as engine:
        outcome = await engine.answer(completion_job(["p"] * 50, n=3), Recorder())
    assert isinstance(outcome, Refused)
    assert (outcome.error.http_status, outcome.error.param) == (400, "n")
    assert str(CALLS_MAX) in outcome.error.message
    assert provider.bodies == []


async def test_a_provider_that_gives_several_choices_is_asked_once() -> None:
    async with NarrowProvider() as provider, started(provider.url) as engine:
        await engine.answer(job("x", n=3), Recorder())
    (body,) = provider.bodies
    assert body["n"] == 3
