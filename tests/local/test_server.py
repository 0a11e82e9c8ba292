"""The model server over HTTP, as a node and OpenAI's client see it."""

from __future__ import annotations

import asyncio
import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import openai
import psutil
import pytest

from tests.local.server_process import ServerProcess
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MESSAGES: Any = [{"role": "user", "content": "Größe?"}]
FUNCTION = {
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"rain": {"type": "boolean"}},
        "required": ["rain"],
        "additionalProperties": False,
    },
}


@pytest.fixture(scope="module")
def server(tiny_folder: Path) -> Iterator[ServerProcess]:
    process = ServerProcess(tiny_folder, "--served-name", "tiny").until_ready()
    yield process
    assert process.stop() == 0


@pytest.fixture
def client(server: ServerProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60) as made:
        yield made


def chat(client: openai.OpenAI, **fields: Any) -> Any:
    return client.chat.completions.create(model="any", messages=MESSAGES, **({"max_tokens": 30, "seed": 1} | fields))


def test_a_stream_has_the_text_of_the_whole_answer(client: openai.OpenAI) -> None:
    whole = chat(client)
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage == whole.usage
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert len({chunk.id for chunk in chunks}) == 1


def test_no_max_tokens_means_the_rest_of_the_context_and_more_is_cut_to_it(client: openai.OpenAI) -> None:
    for fields in ({"max_tokens": None}, {"max_tokens": 10**6}):
        answer = chat(client, extra_body={"ignore_eos": True}, **fields)
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage.total_tokens == 512


def test_a_stop_string_ends_the_text_before_it(client: openai.OpenAI) -> None:
    text = chat(client).choices[0].message.content
    stop = text[4:7]
    answer = chat(client, stop=[stop])
    assert answer.choices[0].message.content == text[: text.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


def test_choices_differ_and_the_first_is_that_of_one_alone(client: openai.OpenAI) -> None:
    texts = [choice.message.content for choice in chat(client, n=3).choices]
    assert len(set(texts)) == 3
    assert texts[0] == chat(client).choices[0].message.content


def test_logprobs_are_told_token_by_token(client: openai.OpenAI) -> None:
    answer = chat(client, logprobs=True, top_logprobs=3, max_tokens=8, temperature=0)
    told = answer.choices[0].logprobs.content
    assert len(told) == answer.usage.completion_tokens
    assert all(len(each.top_logprobs) == 3 and each.logprob == each.top_logprobs[0].logprob <= 0 for each in told)


def test_the_bytes_of_tokens_are_those_of_the_text(client: openai.OpenAI) -> None:
    echoed = client.completions.create(model="any", prompt="日ü ab", echo=True, logprobs=5, max_tokens=0).choices[0]
    told = echoed.logprobs
    assert told is not None
    assert told.tokens is not None
    assert told.text_offset is not None
    assert told.top_logprobs is not None
    for name, top in zip(told.tokens[1:], told.top_logprobs[1:], strict=True):
        assert len(set(top) - {name}) >= 4, "each token has a name of its own"
        assert name in top
    parts = [bytes.fromhex(name[6:].replace("\\x", "")) if name.startswith("bytes:") else name.encode()
             for name in told.tokens]  # fmt: skip
    assert b"".join(parts).decode() == echoed.text == "日ü ab"
    assert told.text_offset[-1] == len(echoed.text) - 1
    for seed in range(4):
        answer = chat(client, logprobs=True, seed=seed, max_tokens=60).choices[0]
        said = b"".join(bytes(each.bytes) for each in answer.logprobs.content)
        assert said.decode(errors="replace") == answer.message.content


@pytest.mark.parametrize("echo", [False, True])
def test_the_tokens_of_a_completions_stream_stand_where_those_of_the_whole_one_do(
    client: openai.OpenAI, echo: bool
) -> None:
    for seed in range(4):
        fields: Any = {"prompt": "日ü ab", "echo": echo, "logprobs": 0, "max_tokens": 40, "seed": seed}
        whole = client.completions.create(model="any", **fields).choices[0].logprobs
        chunks = client.completions.create(model="any", stream=True, **fields)
        offsets = [at for chunk in chunks for at in (chunk.choices[0].logprobs or whole).text_offset or []]
        assert whole is not None
        assert offsets == whole.text_offset


def test_a_completion_without_a_limit_has_sixteen_tokens(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="any", prompt="The", extra_body={"ignore_eos": True})
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16


def test_a_completion_echoes_its_prompts_with_their_logprobs(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="any", prompt=["The fox", "Größe"], echo=True, logprobs=2, max_tokens=4, temperature=0
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    for choice, prompt in zip(answer.choices, ("The fox", "Größe"), strict=True):
        assert choice.text.startswith(prompt)
        assert choice.logprobs is not None
        assert choice.logprobs.token_logprobs is not None
        assert choice.logprobs.token_logprobs[0] is None
        assert all(value <= 0 for value in choice.logprobs.token_logprobs[1:])
    only = client.completions.create(model="any", prompt="The fox", echo=True, logprobs=0, max_tokens=0)
    assert only.choices[0].text == "The fox"


def test_the_best_of_several_is_the_likeliest(client: openai.OpenAI) -> None:
    fields: Any = {"model": "any", "prompt": "The", "seed": 3, "max_tokens": 8, "logprobs": 0}
    several = client.completions.create(**fields, n=4)
    means = [sum(values) / len(values) for choice in several.choices for values in [choice.logprobs.token_logprobs]]
    best = client.completions.create(**fields, best_of=4)
    assert best.choices[0].text == several.choices[means.index(max(means))].text


def test_json_obeys_its_schema(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 99}, "b": {"enum": ["x", "y"]}},
        "required": ["a", "b"],
        "additionalProperties": False,
    }
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    for seed in range(4):
        found = json.loads(chat(client, response_format=wanted, seed=seed, max_tokens=200).choices[0].message.content)
        assert found["b"] in ("x", "y")
        assert 0 <= found["a"] <= 99
    answer = chat(client, response_format={"type": "json_object"}, max_tokens=400).choices[0]
    assert answer.finish_reason == "length" or isinstance(json.loads(answer.message.content), dict)


@pytest.mark.parametrize("stream", [False, True])
def test_a_forced_tool_is_called(client: openai.OpenAI, stream: bool) -> None:
    answer = chat(
        client,
        tools=[{"type": "function", "function": FUNCTION}],
        tool_choice="required",
        max_tokens=100,
        stream=stream,
    )
    if stream:
        deltas = [chunk.choices[0] for chunk in answer]
        calls = [call for choice in deltas for call in choice.delta.tool_calls or []]
        reason = deltas[-1].finish_reason
    else:
        calls, reason = answer.choices[0].message.tool_calls, answer.choices[0].finish_reason
    assert reason == "tool_calls"
    assert [call.function.name for call in calls] == ["weather"]
    assert list(json.loads(calls[0].function.arguments)) == ["rain"]


def test_forced_tools_may_have_definitions_of_their_own(client: openai.OpenAI) -> None:
    def function(name: str, kind: str) -> dict[str, Any]:
        parameters = {
            "type": "object",
            "properties": {"x": {"$ref": "#/$defs/P"}},
            "required": ["x"],
            "additionalProperties": False,
            "$defs": {"P": {"type": kind}},
        }
        return {"type": "function", "function": {"name": name, "parameters": parameters}}

    tools = [function("a", "boolean"), function("b", "null")]
    called = set()
    for seed in range(8):
        answer = chat(client, tools=tools, tool_choice="required", max_tokens=60, seed=seed)
        (call,) = answer.choices[0].message.tool_calls
        x = json.loads(call.function.arguments)["x"]
        assert x is None if call.function.name == "b" else isinstance(x, bool)
        called.add(call.function.name)
    assert called == {"a", "b"}


def test_a_call_without_arguments_may_be_told_again(client: openai.OpenAI) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    messages: Any = [*MESSAGES, {"role": "assistant", "content": "", "tool_calls": [call]}]
    messages.append({"role": "tool", "tool_call_id": "call_1", "content": "rain"})
    assert client.chat.completions.create(model="any", messages=messages, max_tokens=3).usage is not None


def test_a_final_message_is_continued(client: openai.OpenAI, server: ServerProcess) -> None:
    shown = " The fox\n "
    fields = {
        "messages": [*MESSAGES, {"role": "assistant", "content": shown}],
        "continue_final_message": True,
        "add_generation_prompt": False,
        "temperature": 0,
        "max_tokens": 30,
    }
    status, answer = server.post("/v1/chat/completions", fields)
    assert status == 200
    # What the model reads is its prompt and then the text as it was, blanks included.
    prompt = f"<|im_start|>user\n{MESSAGES[0]['content']}<|im_end|><|im_start|>assistant{shown}"
    expected = client.completions.create(model="any", prompt=prompt, temperature=0, max_tokens=30)
    assert answer["choices"][0]["message"]["content"] == expected.choices[0].text != ""
    assert expected.usage is not None
    assert answer["usage"]["prompt_tokens"] == expected.usage.prompt_tokens


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": [{"role": "user", "content": "x" * 4000}]}, "context_length_exceeded", "messages"),
        ({"temperature": 3}, "invalid_value", "temperature"),
        ({"temperature": True}, "invalid_value", "temperature"),
        ({"logit_bias": {"99999": 1}}, "invalid_value", "logit_bias"),
        ({"beam_width": 4}, "unsupported_parameter", "beam_width"),
        ({"top_logprobs": 2}, "invalid_value", "top_logprobs"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]},
            "unsupported_parameter",
            "messages[0].content",
        ),
        ({"response_format": {"type": "json_schema"}}, "invalid_value", "response_format.json_schema.schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "string", "pattern": "("}}}},
            "invalid_value",
            "response_format",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_done_is_refused_by_name(server: ServerProcess, fields: Any, code: str, param: str) -> None:
    status, answer = server.post("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 4} | fields)
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, code, param)
    assert "x" * 50 not in answer["error"]["message"]


def test_a_prompt_that_is_only_read_may_fill_the_context_and_no_more(
    server: ServerProcess, client: openai.OpenAI
) -> None:
    full = client.completions.create(model="any", prompt=[7] * 512, max_tokens=0, echo=True)
    assert full.usage is not None
    assert (full.usage.prompt_tokens, full.choices[0].finish_reason) == (512, "length")
    status, answer = server.post("/v1/completions", {"prompt": [7] * 513, "max_tokens": 0})
    assert (status, answer["error"]["code"]) == (400, "context_length_exceeded")
    assert client.completions.create(model="any", prompt=[7], max_tokens=1).usage is not None


async def test_a_client_that_goes_frees_its_place(server: ServerProcess) -> None:
    host = urlsplit(server.url)
    connection = http.client.HTTPConnection(host.hostname or "", host.port)
    body = {"messages": MESSAGES, "stream": True, "ignore_eos": True, "n": 32}
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    assert connection.getresponse().read(20)
    connection.close()
    await until(lambda: b"model_requests_running 0\n" in server.get("/metrics")[1])
    assert b"model_kv_cache_use 0.0\n" in server.get("/metrics")[1]


def test_steps_that_hang_show_in_the_health(tiny_folder: Path) -> None:
    server = ServerProcess(tiny_folder, "--stuck-s", "0.2").until_ready()
    (steps,) = psutil.Process(server.pid).children()
    with ThreadPoolExecutor() as threads:
        steps.suspend()
        try:
            asking = threads.submit(server.post, "/v1/completions", {"prompt": "once", "max_tokens": 3})
            asyncio.run(until(lambda: b'"unwell"' in server.get("/health")[1]))
            assert server.get("/health")[0] == 503
        finally:
            steps.resume()
        assert asking.result()[0] == 200
    assert server.get("/health")[0] == 200
    assert server.stop() == 0


def test_vectors_are_normalised_and_ordered_as_their_inputs(client: openai.OpenAI) -> None:
    both = client.embeddings.create(model="any", input=["hello there", "Größe"]).data
    assert all(abs(sum(value * value for value in each.embedding) - 1) < 1e-4 for each in both)
    alone = client.embeddings.create(model="any", input="Größe").data[0].embedding
    assert both[1].embedding == pytest.approx(alone, abs=1e-5)
    short = client.embeddings.create(model="any", input="Größe", dimensions=8).data[0].embedding
    assert len(short) == 8


def test_details_and_tokens_are_told(server: ServerProcess) -> None:
    details = json.loads(server.get("/v1/models")[1])["data"][0]
    assert details["id"] == "tiny"
    assert details["context_length"] == 512
    assert details["endpoints"] == ["chat/completions", "completions", "embeddings"]
    status, counted = server.post("/tokenize", {"messages": MESSAGES})
    assert status == 200
    assert counted["count"] == len(counted["tokens"]) > 5
    assert server.post("/tokenize", {"prompt": "Größe"})[1]["count"] > 0
