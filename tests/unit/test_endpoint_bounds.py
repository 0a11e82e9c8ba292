"""What stands at a bound is within it: the largest and the smallest of each field are taken."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.endpoints.chat import ChatCompletions
from gateway.endpoints.completions import Completions
from gateway.endpoints.embeddings import Embeddings
from wire.errors import InvalidRequest

BOTH: dict[str, tuple[Any, ...]] = {
    "n": (1, 128),
    "temperature": (0, 2),
    "top_p": (0, 1),
    "top_k": (-1, 2**31 - 1),
    "min_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "repetition_penalty": (1e-9, 10),
    "seed": (-(2**63), 2**63 - 1),
    "logit_bias": ({"0": -100, "9" * 10: 100}, {str(each): 1 for each in range(1024)}),
    "stop": (["a"] * 16,),
    "user": ("x" * 512,),
    "model": ("x" * 256,),
}
CHAT: dict[str, tuple[Any, ...]] = {
    "max_tokens": (1, 2**31 - 1),
    "max_completion_tokens": (1, 2**31 - 1),
    "best_of": (1,),
    "tools": ([{"type": "function", "function": {"name": "f" * 256}}] * 128,),
    "response_format": ({"type": "json_schema", "json_schema": {"name": "n" * 256, "schema": True}},),
    "messages": ([{"role": "user", "content": "a"}] * 10_000,),
}
COMPLETIONS: dict[str, tuple[Any, ...]] = {
    "max_tokens": (0, 2**31 - 1),
    "best_of": (1, 128),
    "logprobs": (0, 5),
    "prompt": ("", ["a", ""], ["a"] * 2048, [0, 2**31 - 1], [1] * 300_000, [[1] * 150_000] * 2),
}
EMBEDDINGS: dict[str, tuple[Any, ...]] = {"dimensions": (1, 65_536), "input": (["a"] * 2048,), "user": ("x" * 512,)}


def rows(fields: dict[str, tuple[Any, ...]]) -> list[Any]:
    return [pytest.param({name: value}, id=f"{name}-{number}")
            for name, values in fields.items() for number, value in enumerate(values)]  # fmt: skip


@pytest.mark.parametrize("field", rows(BOTH | CHAT))
def test_a_conversation_takes_them(field: dict[str, Any]) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], **field}
    ChatCompletions().parse(json.dumps(body).encode(), "/v1/chat/completions")


@pytest.mark.parametrize("top_logprobs", [0, 20])
def test_a_conversation_takes_as_many_likely_tokens(top_logprobs: int) -> None:
    test_a_conversation_takes_them({"logprobs": True, "top_logprobs": top_logprobs})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "f" * 257}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}] * 129}, "tools"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "", "schema": True}}},
            "response_format.json_schema.name",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n" * 257, "schema": True}}},
            "response_format.json_schema.name",
        ),
    ],
    ids=lambda part: str(part)[-24:],
)
def test_a_conversation_takes_nothing_beyond_them(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        test_a_conversation_takes_them(fields)
    assert refused.value.param == param


@pytest.mark.parametrize("field", rows(BOTH | COMPLETIONS))
def test_a_text_takes_them(field: dict[str, Any]) -> None:
    Completions().parse(json.dumps({"prompt": "hi", **field}).encode(), "/v1/completions")


def test_tokens_in_several_lists_are_no_more_than_in_one() -> None:
    with pytest.raises(InvalidRequest, match="300000 tokens"):
        test_a_text_takes_them({"prompt": [[1] * 150_000, [1] * 150_001]})


@pytest.mark.parametrize("field", rows(EMBEDDINGS))
def test_an_input_takes_them(field: dict[str, Any]) -> None:
    Embeddings().parse(json.dumps({"input": "hi", **field}).encode(), "/v1/embeddings")


@pytest.mark.parametrize("characters", [1, 256])
def test_a_model_in_the_path_is_as_long_as_one_in_the_body(characters: int) -> None:
    model = "m" * characters
    assert Embeddings().parse(b'{"input": "hi"}', f"/v1/engines/{model}/embeddings").model == model


@pytest.mark.parametrize("characters", [0, 257])
def test_a_model_in_the_path_of_another_length_is_refused(characters: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Embeddings().parse(b'{"input": "hi"}', f"/v1/engines/{'m' * characters}/embeddings")
    assert refused.value.param == "model"


@pytest.mark.parametrize(
    ("fields", "answers"),
    [
        ({}, 1),
        ({"n": 3}, 3),
        ({"prompt": ["a", "b"]}, 2),
        ({"n": 2, "best_of": 3, "prompt": ["a", "b"]}, 6),
        ({"best_of": 1, "stream": True}, 1),
        ({"n": 2, "best_of": 2, "stream": True}, 2),
        ({"n": 128, "prompt": ["a"] * 16}, 2048),
        ({"best_of": 128, "prompt": ["a"] * 16}, 2048),
    ],
)
def test_a_text_has_as_many_answers_as_are_made_for_all_its_prompts(fields: dict[str, Any], answers: int) -> None:
    body = {"prompt": "hi", **fields}
    assert Completions().parse(json.dumps(body).encode(), "/v1/completions").answers == answers


def test_no_more_answers_are_made_to_choose_from_than_may_be_asked_for() -> None:
    with pytest.raises(InvalidRequest, match="more than 2048 answers"):
        test_a_text_takes_them({"best_of": 128, "prompt": ["a"] * 17})


OPTIONS = {*BOTH, "stream", "stream_options"} - {"model"}


@pytest.mark.parametrize("name", sorted((OPTIONS | {*CHAT, "logprobs", "top_logprobs"}) - {"messages"}))
def test_an_option_of_a_conversation_may_be_null(name: str) -> None:
    test_a_conversation_takes_them({name: None})


@pytest.mark.parametrize("name", sorted((OPTIONS | {*COMPLETIONS, "echo", "suffix"}) - {"prompt"}))
def test_an_option_of_a_text_may_be_null(name: str) -> None:
    test_a_text_takes_them({name: None})


@pytest.mark.parametrize("name", ["dimensions", "encoding_format", "user"])
def test_an_option_of_an_input_may_be_null(name: str) -> None:
    test_an_input_takes_them({name: None})


def test_a_stop_may_be_one_text_and_a_stream_may_have_options() -> None:
    fields = {"stop": "\n", "stream": True, "stream_options": {"include_usage": True}}
    test_a_conversation_takes_them(fields)
    test_a_text_takes_them(fields)
