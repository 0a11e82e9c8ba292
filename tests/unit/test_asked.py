"""What the reception hears of a request that says all that it may: what of it is lost is not billed or not answered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.endpoints.chat import FASTCHAT_PATH, ChatCompletions
from gateway.endpoints.completions import Completions
from gateway.endpoints.embeddings import Embeddings
from gateway.endpoints.endpoint import Asked, Endpoint
from wire.errors import InvalidRequest

ALL: dict[str, Any] = {
    "model": "m",
    "stream": True,
    "stream_options": {"include_usage": True},
    "n": 3,
    "max_tokens": 7,
    "metadata": {"team": "blue"},
}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


def chat(fields: dict[str, Any], path: str = "/v1/chat/completions") -> Asked:
    return ChatCompletions().parse(json.dumps(fields).encode(), path)


def test_a_conversation() -> None:
    content = [{"type": "text", "text": "Hi"}, IMAGE, IMAGE]
    asked = chat(ALL | {"messages": [{"role": "user", "content": content}, {"role": "user", "content": "Ho"}]})
    assert asked == Asked(model="m", stream=True, usage_asked=True, n=3, max_tokens=7, images=2, tags={"team": "blue"})


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [({"max_completion_tokens": 5}, 5), ({"max_completion_tokens": 5, "max_tokens": 9}, 5), ({}, None)],
)
def test_a_conversation_is_bounded_by_the_newer_field_first(fields: dict[str, int], tokens: int | None) -> None:
    assert chat({"messages": [{"role": "user", "content": "Hi"}], **fields}).max_tokens == tokens


def test_fastchats_one_text_becomes_a_users_message_and_all_else_stays() -> None:
    asked = chat(ALL | {"messages": "Hi"}, FASTCHAT_PATH)
    assert asked.body is not None
    assert json.loads(asked.body) == ALL | {"messages": [{"role": "user", "content": "Hi"}]}


def test_fastchats_messages_may_be_those_of_a_conversation() -> None:
    assert chat({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}, FASTCHAT_PATH) == Asked(model="m")


@pytest.mark.parametrize("fields", [{}, {"messages": 1}, {"messages": {}}, {"messages": None}])
def test_what_is_neither_of_fastchats_forms_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        chat({"model": "m", **fields}, FASTCHAT_PATH)
    assert refused.value.param == "messages"


@pytest.mark.parametrize("body", [b"{", b'{"messages": "\xff"}', b'{"a": ' + b"[" * 10_000, b'{"messages": "\\ud800"}'])
def test_what_is_no_json_is_told_as_such_at_fastchats_address_too(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        ChatCompletions().parse(body, FASTCHAT_PATH)
    assert refused.value.own_code == "invalid_json"


SAYS = [{"role": "user", "content": "1.0"}]


@pytest.mark.parametrize(
    ("endpoint", "path", "fields", "passed"),
    [
        (ChatCompletions(), "/v1/chat/completions", {"n": 2.0, "messages": SAYS}, {"n": 2, "messages": SAYS}),
        (ChatCompletions(), FASTCHAT_PATH, {"seed": -3.0, "messages": "1.0"}, {"seed": -3, "messages": SAYS}),
        (Completions(), "/v1/completions", {"best_of": 2.0, "prompt": [1]}, {"best_of": 2, "prompt": [1]}),
        (Embeddings(), "/v1/embeddings", {"dimensions": 2.0, "input": "Hi"}, {"dimensions": 2, "input": "Hi"}),
    ],
    ids=["chat", "fastchat", "text", "input"],
)
def test_a_whole_number_may_be_written_with_a_point_and_nodes_get_it_without(
    endpoint: Endpoint, path: str, fields: dict[str, Any], passed: dict[str, Any]
) -> None:
    """Programs whose only numbers are floats write it so, and some providers do not read it."""
    asked = endpoint.parse(json.dumps(fields).encode(), path)
    assert json.dumps(json.loads(asked.body or b"")) == json.dumps(passed)
    assert (asked.n, asked.answers) == (passed.get("n"), passed.get("best_of"))


def test_only_a_body_that_could_not_be_read_is_written_anew() -> None:
    assert chat({"temperature": 1.0, "messages": SAYS}).body is None


@pytest.mark.parametrize("number", ["2.5", '"2.0"', "0.0", "1e0", "2147483648.0", "1" * 400 + ".0", "[1.0]", "02.0"])
def test_what_is_no_number_of_answers_stays_none(number: str) -> None:
    with pytest.raises(InvalidRequest):
        ChatCompletions().parse(
            f'{{"n": {number}, "messages": [{{"role": "user", "content": "Hi"}}]}}'.encode(), "/v1/chat/completions"
        )


@pytest.mark.parametrize("body", [b"[1.0]", b'{"n": 1.0, "messages": 5, ', b'{"n": 1.0, "a": "\xff"}', b'{"n": 1.0}'])
def test_what_is_wrong_beside_such_a_number_is_told(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        ChatCompletions().parse(body, "/v1/chat/completions")


STEERING = [
    "api_base",
    "base_url",
    "api_key",
    "extra_headers",
    "chat_template",
    "trust_remote_code",
    "prompt_embeds",
    "kv_transfer_params",
]


@pytest.mark.parametrize("name", STEERING)
def test_what_would_steer_where_a_request_goes_or_what_runs_there_is_refused_everywhere(name: str) -> None:
    for endpoint, path, fields in (
        (ChatCompletions(), "/v1/chat/completions", {"messages": SAYS}),
        (ChatCompletions(), FASTCHAT_PATH, {"messages": "Hi"}),
        (Completions(), "/v1/completions", {"prompt": "Hi"}),
        (Embeddings(), "/v1/embeddings", {"input": "Hi"}),
    ):
        for value in ("x", None):
            with pytest.raises(InvalidRequest) as refused:
                endpoint.parse(json.dumps(fields | {name: value}).encode(), path)
            assert (refused.value.own_code, refused.value.param) == ("unsupported_parameter", name)


@pytest.mark.parametrize("name", [*STEERING, "tokenize", "messages", "conversation", "tools"])
def test_no_template_is_given_what_it_takes_for_its_programs_own_arguments(name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        chat({"messages": SAYS, "chat_template_kwargs": {name: "x"}})
    assert (refused.value.own_code, refused.value.param) == ("unsupported_parameter", f"chat_template_kwargs.{name}")


def test_a_text() -> None:
    asked = Completions().parse(json.dumps(ALL | {"prompt": "Hi"}).encode(), "/v1/completions")
    assert asked == Asked(model="m", stream=True, usage_asked=True, n=3, answers=3, max_tokens=7, tags={"team": "blue"})


def test_an_input() -> None:
    assert Embeddings().parse(json.dumps(ALL | {"input": "Hi"}).encode(), "/v1/embeddings") == Asked(model="m")
