"""Every provider comes out as OpenAI: its own forms of an answer over real HTTP, read with OpenAI's own types."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.recordings import JSON, STREAMS, WHOLES, Recording, chunk, events, odd_choice, whole
from tests.remote_engine import Recorder, job, raw_server, started
from workernode.outcome import Answered, Later, Refused
from workernode.remote.dialects.dialect import dialect_named

if TYPE_CHECKING:
    from wire.usage import Usage
    from workernode.outcome import Outcome

FINISH_REASONS = {None, "stop", "length", "tool_calls", "content_filter", "function_call"}


def head(media_type: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\nconnection: close\r\n\r\n".encode()


async def asked(recording: Recording, *, stream: bool) -> tuple[Outcome, Recorder]:
    """What the engine makes of a recording, with usage asked."""
    dialect, answer = dialect_named(recording.dialect), Recorder()
    async with raw_server(head(recording.media_type) + recording.body) as url, started(url, dialect=dialect) as engine:
        return await engine.answer(job("Say hello.", stream=stream, usage_asked=stream), answer), answer


def check(outcome: Outcome, recording: Recording, shown: dict[str, Any]) -> None:
    """Whether the bill and the client have the same figures, the provider's or an estimate that says so."""
    assert isinstance(outcome, Answered), outcome
    usage: Usage = outcome.usage
    assert usage.estimated is (recording.figures is None)
    if recording.figures is not None:
        assert usage == recording.figures
    assert (shown["prompt_tokens"], shown["completion_tokens"]) == (usage.prompt_tokens, usage.completion_tokens)
    assert usage.completion_tokens == 3
    assert outcome.finish_reason == recording.finish_reason


def strictly(chunks: list[dict[str, Any]]) -> list[ChatCompletionChunk]:
    """Chunks as OpenAI's own client types them, and the rules that the types do not tell."""
    assert {(each["id"], each["object"], each["created"], each["model"]) for each in chunks} == {
        ("chatcmpl-ours", "chat.completion.chunk", 7, "ours")
    }
    typed = [ChatCompletionChunk.model_validate(each) for each in chunks]
    choices = [choice for each in typed for choice in each.choices]
    assert choices[0].delta.role == "assistant"
    assert {choice.finish_reason for choice in choices} <= FINISH_REASONS
    assert not any("reasoning" in choice["delta"] for each in chunks for choice in each["choices"])
    assert [bool(each.usage) for each in typed] == [False] * (len(typed) - 1) + [True]
    assert typed[-1].choices == []
    return typed


@pytest.mark.parametrize("recording", STREAMS, ids=lambda recording: recording.name)
async def test_a_providers_stream_comes_out_as_openais(recording: Recording) -> None:
    outcome, answer = await asked(recording, stream=True)
    typed = strictly(answer.chunks)
    deltas = [choice.delta for each in typed for choice in each.choices]
    assert "".join(delta.content or "" for delta in deltas) == "Hello world"
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == recording.reasoning
    reasons = [choice.finish_reason for each in typed for choice in each.choices]
    assert [reason for reason in reasons if reason] == [recording.finish_reason]
    assert answer.text_chars == len("Hello world" + recording.reasoning)
    check(outcome, recording, answer.chunks[-1]["usage"])


@pytest.mark.parametrize("recording", WHOLES, ids=lambda recording: recording.name)
async def test_a_providers_whole_answer_comes_out_as_openais(recording: Recording) -> None:
    outcome, answer = await asked(recording, stream=False)
    typed = ChatCompletion.model_validate(answer.whole)
    (choice,) = typed.choices
    assert (choice.message.role, choice.message.content) == ("assistant", "Hello world")
    assert getattr(choice.message, "reasoning_content", "") == recording.reasoning
    assert "reasoning" not in answer.whole["choices"][0]["message"]
    assert choice.finish_reason == recording.finish_reason
    check(outcome, recording, answer.whole["usage"])


@pytest.mark.parametrize("recording", WHOLES[:7], ids=lambda recording: recording.name)
async def test_a_stream_that_is_answered_as_a_whole_becomes_one(recording: Recording) -> None:
    outcome, answer = await asked(replace(recording, media_type=JSON), stream=True)
    typed = strictly(answer.chunks)
    assert "".join(choice.delta.content or "" for each in typed for choice in each.choices) == "Hello world"
    check(outcome, recording, answer.chunks[-1]["usage"])


FUNCTION = {"name": "f", "arguments": {"a": 1}}


@pytest.mark.parametrize(
    "fragments",
    [
        [[{"function": FUNCTION}], [{"function": FUNCTION}]],
        [[{"function": FUNCTION}, {"function": FUNCTION}]],
        [[{"id": "a", "type": "function", "function": FUNCTION}], [{"id": "b", "function": FUNCTION}]],
        [[{"index": 0, "id": "a", "function": FUNCTION}], [{"index": 1, "id": "b", "function": FUNCTION}]],
        [
            [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"a"'}}],
            [{"index": 0, "function": {"arguments": ":1}"}}],
            [{"index": 1, "id": "b", "function": FUNCTION}],
        ],
    ],
    ids=["no index and no id", "both at once", "ids alone", "no type", "in fragments"],
)
async def test_the_calls_of_tools_are_numbered_and_their_arguments_text(fragments: list[Any]) -> None:
    body = events(*(chunk({"tool_calls": calls}) for calls in fragments), chunk({}, "tool_use"))
    _, answer = await asked(Recording("", body), stream=True)
    told: dict[int, list[Any]] = {}
    for each in strictly(answer.chunks):
        for call in [call for choice in each.choices for call in choice.delta.tool_calls or ()]:
            told.setdefault(call.index, []).append(call)
    assert sorted(told) == [0, 1]
    for calls in told.values():
        assert (calls[0].type, calls[0].function.name) == ("function", "f")
        assert calls[0].id
        assert json.loads("".join(call.function.arguments for call in calls)) == {"a": 1}
    assert told[0][0].id != told[1][0].id
    assert answer.chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"


async def test_the_calls_of_tools_in_a_whole_answer_have_ids_and_arguments_as_text() -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [{"function": FUNCTION}, {"function": FUNCTION}]}
    _, answer = await asked(Recording("", whole(message, "tool_calls"), JSON), stream=False)
    calls = ChatCompletion.model_validate(answer.whole).choices[0].message.tool_calls or []
    assert len({call.id for call in calls}) == 2
    assert all(call.type == "function" and json.loads(call.function.arguments) == {"a": 1} for call in calls)


OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
FLAGGED = {"error": {"code": "content_filter", "message": "No."}}


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (OVERLOADED, "upstream_failed"),
        (chunk({"content": ""}, "error", error={"code": 502, "message": "m"}), "upstream_failed"),
        (odd_choice(index=0, delta={}, finish_reason="error", error={"code": 502, "message": "m"}), "upstream_failed"),
        (chunk({}, "insufficient_system_resource"), "upstream_failed"),
        ({"object": "error", "message": "m", "code": 500}, "upstream_failed"),
        (FLAGGED, "content_filter"),
        ("event: error\ndata: " + json.dumps(OVERLOADED), "upstream_failed"),
    ],
)
async def test_an_error_in_mid_stream_ends_the_answer_with_it_and_never_as_if_it_were_whole(
    failure: Any, code: str
) -> None:
    early, answer = await asked(Recording("", events(failure)), stream=True)
    assert isinstance(early, Refused if code == "content_filter" else Later)
    assert early.error.code == code
    assert answer.parts == []
    answer, begun = Recorder(), events(chunk({"role": "assistant", "content": "Hel"}), done=False)
    async with (
        raw_server(head("text/event-stream") + begun, events(failure), after=answer.written) as url,
        started(url) as engine,
    ):
        late = await engine.answer(job("Say hello.", stream=True), answer)
    assert isinstance(late, Refused)
    assert late.error.code == code
    assert answer.text == "Hel"


@pytest.mark.parametrize("reason", ["error", "insufficient_system_resource"])
async def test_a_whole_answer_that_its_provider_gave_up_is_none(reason: str) -> None:
    message = {"role": "assistant", "content": "Hel"}
    outcome, answer = await asked(Recording("", whole(message, reason), JSON), stream=False)
    assert isinstance(outcome, Later)
    assert answer.parts == []


async def test_a_call_of_a_tool_with_an_absurd_number_is_no_answer() -> None:
    body = events(chunk({"role": "assistant", "tool_calls": [{"index": 10**12, "id": "a", "function": FUNCTION}]}))
    outcome, answer = await asked(Recording("", body), stream=True)
    assert isinstance(outcome, Later)
    assert answer.parts == []
