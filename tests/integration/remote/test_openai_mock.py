"""Against a mock of OpenAI's own API description: what is sent is allowed by it, and what it allows passes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import pytest
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.missing import missing
from tests.openai_mock.server import MockMissing, OpenAIMock
from tests.remote_engine import Recorder, started
from wire.request import Request
from workernode.engine import Job
from workernode.outcome import Answered, Refused
from workernode.remote.dialects.dialect import dialect_named

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wire.request import Endpoint

USER = {"role": "user", "content": "Hi"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
FUNCTION = {"name": "f", "description": "F.", "parameters": SCHEMA, "strict": True}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}
CHATS: dict[str, dict[str, Any]] = {
    "plain": {},
    "limits": {"max_completion_tokens": 7, "n": 2, "temperature": 0.5, "top_p": 1, "seed": 3, "stop": ["a", "b"]},
    "the old limit": {"max_tokens": 7},
    "all roles": {
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
            {"role": "user", "content": [{"type": "text", "text": "What is it?"}, PICTURE]},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c", "content": "1"},
        ]
    },
    "tools": {
        "tools": [{"type": "function", "function": FUNCTION}],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
    },
    "a schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}},
    "log probabilities": {"logprobs": True, "top_logprobs": 2, "logit_bias": {"1": -1}},
    "metadata": {"metadata": {"a": "b"}, "store": False, "user": "u", "service_tier": "auto"},
}
COMPLETIONS: dict[str, dict[str, Any]] = {
    "a text": {"prompt": "Once"},
    "texts": {"prompt": ["Once", "Twice"], "n": 2, "best_of": 3, "logprobs": 1, "echo": True, "suffix": "."},
    "tokens": {"prompt": [1, 2], "max_tokens": 5},
}
EMBEDDINGS: dict[str, dict[str, Any]] = {
    "a text": {"input": "Hi"},
    "texts, base64": {"input": ["a", "b"], "encoding_format": "base64", "dimensions": 8, "user": "u"},
    "tokens": {"input": [[1, 2], [3]]},
}


@pytest.fixture(scope="session")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = OpenAIMock(tmp_path_factory.mktemp("mock"))
    try:
        server.start()
    except MockMissing as absent:
        missing(f"There is no mock of OpenAI's API description: {absent}.")
    yield server.url
    server.stop()


def a_job(endpoint: Endpoint, body: dict[str, Any], *, stream: bool = False) -> Job:
    request = Request(
        request_id="req_0123",
        model="ours",
        endpoint=endpoint,
        body=json.dumps({"model": "ours", **body, **({"stream": True} if stream else {})}).encode(),
        gateway="gateway-0123",
        received_ms=0,
        deadline_ms=0,
        stream=stream,
        usage_asked=stream,
        n=body.get("n"),
    )
    return Job(request, answer_id="ours-1", created_s=7, remaining_s=20.0)


async def answered(mock: str, job: Job, *, dialect: str = "") -> Recorder:
    """The answer, which must be one: the mock refuses with 400 whatever the description does not allow."""
    async with started(mock, dialect=dialect_named(dialect)) as engine:
        answer = Recorder()
        outcome = await engine.answer(job, answer)
    assert isinstance(outcome, Answered), outcome
    assert outcome.usage.prompt_tokens > 0
    return answer


@pytest.mark.parametrize(
    "dialect", ["", "max-tokens,system-role,no-stream-options", "max-completion-tokens,one-choice"]
)
@pytest.mark.parametrize("name", CHATS)
async def test_a_chat_is_asked_and_answered_as_the_description_says(mock: str, name: str, dialect: str) -> None:
    body = {"messages": [USER], **CHATS[name]}
    whole = ChatCompletion.model_validate(
        (await answered(mock, a_job("chat/completions", body), dialect=dialect)).whole
    )
    assert (whole.id, whole.model, whole.object) == ("ours-1", "ours", "chat.completion")
    assert whole.usage is not None
    streamed = await answered(mock, a_job("chat/completions", body, stream=True), dialect=dialect)
    chunks = [ChatCompletionChunk.model_validate(chunk) for chunk in streamed.chunks]
    assert {(chunk.id, chunk.model, chunk.object) for chunk in chunks} == {("ours-1", "ours", "chat.completion.chunk")}
    assert chunks[-1].usage is not None


@pytest.mark.parametrize("dialect", ["", "one-choice,one-prompt"])
@pytest.mark.parametrize("name", COMPLETIONS)
async def test_a_completion_is_asked_and_answered_as_the_description_says(mock: str, name: str, dialect: str) -> None:
    whole = Completion.model_validate(
        (await answered(mock, a_job("completions", COMPLETIONS[name]), dialect=dialect)).whole
    )
    assert (whole.id, whole.model) == ("ours-1", "ours")
    assert whole.usage is not None


@pytest.mark.parametrize("name", EMBEDDINGS)
async def test_embeddings_are_asked_and_answered_as_the_description_says(mock: str, name: str) -> None:
    got = CreateEmbeddingResponse.model_validate((await answered(mock, a_job("embeddings", EMBEDDINGS[name]))).whole)
    assert got.model == "ours"


@pytest.mark.parametrize("endpoint", ["chat/completions", "completions", "embeddings"])
async def test_what_the_description_does_not_allow_is_refused(
    mock: str, endpoint: Literal["chat/completions", "completions", "embeddings"]
) -> None:
    async with started(mock) as engine:
        outcome = await engine.answer(a_job(endpoint, {"user": [7]}), Recorder())
    assert isinstance(outcome, Refused)
    assert outcome.error.http_status == 400
