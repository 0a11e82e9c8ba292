"""openai-python, with and without asyncio, on every endpoint of a real fleet."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from typing import TYPE_CHECKING, Any

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI, AsyncStream, OpenAI, Stream
from pydantic import BaseModel

from tests.clients.conftest import MODEL, Served
from tests.fake_chat import LOGPROB, NUMBER, oracle_choices, oracle_text, oracle_usage
from tests.fake_texts import oracle_text_usage, oracle_texts, oracle_vectors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.asyncio(loop_scope="session")

TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {"name": name, "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
    }
    for name in ("add", "subtract")
]
PROMPTS: dict[str, Any] = {
    "a_text": "r1 tokens=3",
    "texts": ["r1 tokens=2", "r2"],
    "tokens": [5, 6],
    "lists_of_tokens": [[5], [6, 7]],
}


LONG = "r1 tokens=9999 delay-between=0.01"


class Person(BaseModel):
    """What an answer is parsed into."""

    name: str
    age: int


class Client:
    """One of the two clients: ``ask`` gives what its call returns, and of a stream the list of its chunks."""

    def __init__(self, made: OpenAI | AsyncOpenAI) -> None:
        self.made = made

    async def ask(self, call: Callable[[Any], Any]) -> Any:
        if isinstance(self.made, AsyncOpenAI):
            answer = await call(self.made)
            return [chunk async for chunk in answer] if isinstance(answer, AsyncStream) else answer
        return await asyncio.to_thread(self._asked, call)

    def _asked(self, call: Callable[[Any], Any]) -> Any:
        answer = call(self.made)
        return list(answer) if isinstance(answer, Stream) else answer

    async def chat(self, prompt: str, **fields: Any) -> Any:
        return await self.ask(lambda client: client.chat.completions.create(**asked(prompt, **fields), model=MODEL))

    async def complete(self, prompt: Any, **fields: Any) -> Any:
        return await self.ask(lambda client: client.completions.create(model=MODEL, prompt=prompt, **fields))

    async def embed(self, given: Any, **fields: Any) -> Any:
        return await self.ask(lambda client: client.embeddings.create(model=MODEL, input=given, **fields))


@pytest_asyncio.fixture(loop_scope="session", params=[OpenAI, AsyncOpenAI], ids=["sync", "async"])
async def client(request: pytest.FixtureRequest, served: Served) -> AsyncIterator[Client]:
    made = request.param(base_url=served.url, api_key=served.key, max_retries=0, timeout=20)
    yield Client(made)
    closing = made.close()
    if closing is not None:
        await closing


def asked(prompt: str, **fields: Any) -> dict[str, Any]:
    """What the provider gets."""
    return {"messages": [{"role": "user", "content": prompt}], **fields}


def by_index(chunks: list[Any]) -> list[str]:
    """The texts of a stream's choices."""
    texts: dict[int, str] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            piece = choice.delta.content if hasattr(choice, "delta") else choice.text
            texts[choice.index] = texts.get(choice.index, "") + (piece or "")
    return [texts[index] for index in sorted(texts)]


@pytest.mark.parametrize("n", [None, 3])
async def test_a_conversation_is_answered_whole_and_streamed(client: Client, n: int | None) -> None:
    fields = {"n": n} if n else {}
    whole = await client.chat("r1 tokens=5", **fields)
    body = asked("r1 tokens=5", **fields)
    assert [choice.message.content for choice in whole.choices] == oracle_choices(body)
    assert [choice.index for choice in whole.choices] == list(range(n or 1))
    assert (whole.model, whole.object, whole.id[:9]) == (MODEL, "chat.completion", "chatcmpl-")
    assert whole.usage.model_dump(exclude_none=True) == oracle_usage(body)
    assert whole._request_id.startswith("req_")

    chunks = await client.chat("r1 tokens=5", stream=True, **fields)
    assert by_index(chunks) == oracle_choices(body)
    assert {(chunk.model, chunk.object) for chunk in chunks} == {(MODEL, "chat.completion.chunk")}
    assert len({chunk.id for chunk in chunks}) == 1
    assert not any(chunk.usage for chunk in chunks)
    assert all(chunk.choices for chunk in chunks)
    with_usage = await client.chat("r1", stream=True, stream_options={"include_usage": True})
    assert (with_usage[-1].choices, with_usage[-1].usage.total_tokens) == (
        [],
        oracle_usage(asked("r1"))["total_tokens"],
    )


async def test_tools_are_called_and_their_results_answered(client: Client) -> None:
    whole = (await client.chat("r1 calls=2", tools=TOOLS)).choices[0]
    assert whole.finish_reason == "tool_calls"
    wanted = [("call_0", "add", {"a": NUMBER}), ("call_1", "subtract", {"a": NUMBER})]
    assert [
        (call.id, call.function.name, json.loads(call.function.arguments)) for call in whole.message.tool_calls
    ] == wanted

    calls: dict[int, list[Any]] = {}
    for chunk in await client.chat("r1 calls=2", tools=TOOLS, stream=True):
        for part in chunk.choices[0].delta.tool_calls or ():
            calls.setdefault(part.index, []).append(part)
    assert [
        (parts[0].id, parts[0].function.name, json.loads("".join(part.function.arguments for part in parts)))
        for _, parts in sorted(calls.items())
    ] == wanted
    assert all(part.id is None for parts in calls.values() for part in parts[1:])

    chosen = await client.chat("r1", tools=TOOLS, tool_choice={"type": "function", "function": {"name": "subtract"}})
    assert chosen.choices[0].message.tool_calls[0].function.name == "subtract"
    talk: list[Any] = [*asked("r1 calls=1")["messages"], whole.message]
    talk += [{"role": "tool", "tool_call_id": call.id, "content": "14"} for call in whole.message.tool_calls]
    after = await client.ask(lambda made: made.chat.completions.create(model=MODEL, messages=talk, tools=TOOLS))
    assert after.choices[0].message.content == oracle_text(asked("r1"))


async def test_an_answer_is_parsed_by_its_schema(client: Client) -> None:
    parsed = await client.ask(
        lambda made: made.chat.completions.parse(model=MODEL, response_format=Person, **asked("r1"))
    )
    assert parsed.choices[0].message.parsed == Person(name="r1", age=NUMBER)
    in_json = await client.chat("r1", response_format={"type": "json_object"})
    assert json.loads(in_json.choices[0].message.content) == {"answer": "r1"}


async def test_the_clients_own_reader_of_streams_puts_answers_together(client: Client) -> None:
    """It takes no event for granted: roles, indexes, and that a choice says nothing after its end."""
    parts: list[Any] = [
        ({"response_format": Person}, {"content.delta", "content.done"}),
        ({"tools": TOOLS}, {"tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"}),
        ({"logprobs": True, "n": 3}, {"content.done", "logprobs.content.delta", "logprobs.content.done"}),
    ]
    for fields, seen in parts:
        events = await client.ask(_read_as_stream("r1 calls=2 tokens=2", fields))
        assert seen <= {event.type for event in events}
        final = [event.snapshot for event in events if event.type == "chunk"][-1]
        whole = (await client.chat("r1 calls=2 tokens=2", **_plain(fields))).model_dump()
        for got, expected in zip(final.choices, whole["choices"], strict=True):
            assert got.finish_reason == expected["finish_reason"]
            assert got.message.content == expected["message"]["content"]
            calls = [(call.id, call.function.name, call.function.arguments) for call in got.message.tool_calls or ()]
            assert calls == [
                (call["id"], call["function"]["name"], call["function"]["arguments"])
                for call in expected["message"]["tool_calls"] or ()
            ]
    assert final.choices[2].logprobs.content[0].token == "r1"


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    """Without what this client alone makes of a class."""
    if "response_format" not in fields:
        return fields
    wanted = {"name": "Person", "schema": Person.model_json_schema()}
    return {"response_format": {"type": "json_schema", "json_schema": wanted}}


def _read_as_stream(prompt: str, fields: dict[str, Any]) -> Callable[[Any], Any]:
    def read(made: Any) -> Any:
        opened = made.chat.completions.stream(model=MODEL, **asked(prompt), **fields)
        if isinstance(made, OpenAI):
            with opened as stream:
                return list(stream)

        async def later() -> list[Any]:
            async with opened as stream:
                return [event async for event in stream]

        return later()

    return read


async def test_what_the_gateway_does_not_know_reaches_the_provider_as_it_is(client: Client, served: Served) -> None:
    said: dict[str, Any] = {
        "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "user", "name": "bob", "content": "r1"},
            {"role": "assistant", "content": None, "refusal": "No.", "tool_calls": None},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "r1 tokens=1"},
                    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
                    {"type": "file", "file": {"filename": "r.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
                ],
            },
        ],
        "stop": ["a", "b"],
        "user": "u",
        "metadata": {"a": "b"},
        "store": True,
        "service_tier": "flex",
        "seed": -3,
        "parallel_tool_calls": False,
        "tools": TOOLS,
        "tool_choice": "none",
        "logit_bias": {"50256": -100},
        "prediction": {"type": "content", "content": "r1"},
        "reasoning_effort": "low",
        "modalities": ["text", "audio"],
        "audio": {"voice": "alloy", "format": "wav"},
        "safety_identifier": "s",
        "extra_body": {"mine": {"deep": [1.50, None]}},
    }
    answer = await client.ask(lambda made: made.chat.completions.create(model=MODEL, **said))
    sent = served.upstream.requests[-1].json
    said |= said.pop("extra_body")
    assert {name: sent[name] for name in said} == said
    assert answer.choices[0].message.content == "r1 t0"


async def test_logprobs_come_whole_and_streamed(client: Client) -> None:
    whole = (await client.chat("r1 tokens=2", logprobs=True, top_logprobs=2)).choices[0].logprobs.content
    assert [(each.token, each.logprob, len(each.top_logprobs)) for each in whole] == [
        (token, LOGPROB, 2) for token in ("r1", " t0", " t1")
    ]
    chunks = await client.chat("r1 tokens=2", logprobs=True, stream=True)
    streamed = [chunk.choices[0].logprobs for chunk in chunks]
    assert [each.token for found in streamed if found for each in found.content] == ["r1", " t0", " t1"]


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
async def test_a_text_is_continued_in_every_form(client: Client, prompt: Any) -> None:
    for fields in ({}, {"n": 3}, {"echo": True}):
        body = {"prompt": prompt, **fields}
        whole = await client.complete(prompt, **fields)
        assert [choice.text for choice in whole.choices] == oracle_texts(body)
        assert whole.usage.model_dump(exclude_none=True) == oracle_text_usage(body)
        chunks = await client.complete(prompt, stream=True, **fields)
        assert by_index(chunks) == oracle_texts(body)
        assert not any(chunk.usage for chunk in chunks)


@pytest.mark.parametrize("given", PROMPTS.values(), ids=PROMPTS)
async def test_embeddings_come_in_both_forms(served: Served, client: Client, given: Any) -> None:
    for fields, sent in (({}, "base64"), ({"encoding_format": "float"}, "float"), ({"dimensions": 3}, "base64")):
        answer = await client.embed(given, **fields)
        assert served.upstream.requests[-1].json["encoding_format"] == sent
        assert [each.embedding for each in answer.data] == oracle_vectors({"input": given, **fields})
        assert [each.index for each in answer.data] == list(range(len(answer.data)))
    packed = (await client.embed(given, encoding_format="base64")).data[0].embedding
    assert struct.unpack("<4f", base64.b64decode(packed)) == tuple(oracle_vectors({"input": given})[0])


async def test_models_are_listed_and_one_with_a_slash_is_found(client: Client) -> None:
    listed = await client.ask(_listed)
    assert [model.id for model in listed] == [MODEL]
    one = await client.ask(lambda made: made.models.retrieve(MODEL))
    assert (one.id, one.object, one.owned_by) == (MODEL, "model", "workernode")


def _listed(made: Any) -> Any:
    if isinstance(made, OpenAI):
        return list(made.models.list())

    async def listed() -> list[Any]:
        return [model async for model in made.models.list()]

    return listed()


ERRORS: dict[str, tuple[type[openai.APIStatusError], str, Callable[[Any], Any]]] = {
    "a_wrong_key": (
        openai.AuthenticationError,
        "invalid_api_key",
        lambda made: made.with_options(api_key="sk-x").models.list(),
    ),
    "another_model": (openai.PermissionDeniedError, "permission_denied", lambda made: _chat(made, model="another")),
    "no_model": (openai.NotFoundError, "model_not_found", lambda made: made.models.retrieve("no/such")),
    "no_route": (openai.NotFoundError, "not_found", lambda made: made.images.generate(prompt="x")),
    "a_wrong_value": (openai.BadRequestError, "invalid_value", lambda made: _chat(made, temperature=9)),
    "no_messages": (openai.BadRequestError, "invalid_value", lambda made: _chat(made, messages=[])),
    "a_refused_field": (
        openai.BadRequestError,
        "unsupported_parameter",
        lambda made: _chat(made, extra_body={"api_base": "x"}),
    ),
    "their_400": (openai.BadRequestError, "upstream_refused", lambda made: _chat(made, "status=400")),
    "their_422": (openai.UnprocessableEntityError, "upstream_refused", lambda made: _chat(made, "status=422")),
    "a_deadline": (
        openai.InternalServerError,
        "deadline_exceeded",
        lambda made: _chat(made, "hang", extra_headers={"x-request-timeout-ms": "200"}),
    ),
    "too_much": (openai.APIStatusError, "request_too_large", lambda made: _chat(made, "x" * 5_000_000)),
}


def _chat(client: Any, words: str = "r1", **fields: Any) -> Any:
    return client.chat.completions.create(**{"model": MODEL, **asked(words), **fields})


@pytest.mark.parametrize(("raised", "code", "call"), ERRORS.values(), ids=ERRORS)
async def test_an_error_is_raised_by_its_status(
    client: Client, raised: type[openai.APIStatusError], code: str, call: Callable[[Any], Any]
) -> None:
    with pytest.raises(raised) as caught:
        await client.ask(call)
    assert caught.value.code == code
    assert (caught.value.request_id or "").startswith("req_")


@pytest.mark.parametrize("base", ["", "/v1/v1", "/v1/chat/completions", "/openai/deployments/gpt-4"])
async def test_who_has_a_wrong_base_url_is_told_what_there_is(client: Client, served: Served, base: str) -> None:
    url = served.url.removesuffix("/v1") + base
    with pytest.raises(openai.NotFoundError, match="This gateway serves POST /v1/chat/completions,") as caught:
        await client.ask(lambda made: _chat(made.with_options(base_url=url)))
    assert caught.value.code == "not_found"


@pytest.mark.parametrize(
    ("family", "call"),
    [
        ("responses", lambda made: made.responses.create(model=MODEL, input="r1")),
        ("vector_stores", lambda made: made.vector_stores.list()),
        ("audio", lambda made: made.audio.transcriptions.create(model=MODEL, file=("r1.wav", b"RIFF"))),
        ("files", lambda made: made.files.create(file=b"r1", purpose="batch")),
    ],
)
async def test_what_is_not_served_is_named(client: Client, family: str, call: Callable[[Any], Any]) -> None:
    with pytest.raises(openai.NotFoundError, match=f"does not serve /v1/{family}. It serves POST /v1/chat/compl"):
        await client.ask(call)


async def test_a_stream_that_breaks_is_an_error_and_no_end(client: Client) -> None:
    with pytest.raises(openai.APIError) as caught:
        await client.chat("r1 tokens=9 close-after=4", stream=True)
    assert caught.value.code == "stream_interrupted"


async def test_a_client_that_closes_its_stream_stops_the_provider(client: Client, served: Served) -> None:
    aborted = served.upstream.aborted

    def left(made: Any) -> Any:
        if isinstance(made, OpenAI):
            with made.chat.completions.create(model=MODEL, stream=True, **asked(LONG)) as stream:
                return next(iter(stream))

        async def leave() -> Any:
            async with await made.chat.completions.create(model=MODEL, stream=True, **asked(LONG)) as stream:
                return await anext(aiter(stream))

        return leave()

    assert (await client.ask(left)).choices[0].delta.role == "assistant"
    await served.upstream.until(lambda upstream: upstream.aborted == aborted + 1)
