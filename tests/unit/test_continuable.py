"""Which streams may be continued by another attempt: those whose text alone says where to go on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.endpoints.chat import ChatCompletions
from gateway.endpoints.completions import Completions

BOUND: list[dict[str, Any]] = [
    {"response_format": {"type": "json_object"}},
    {"response_format": {"type": "structural_tag"}},
    {"structured_outputs": {"json": {"type": "object"}}},
    {"guided_json": {"type": "object"}},
    {"guided_regex": "a+"},
    {"guided_choice": ["a", "b"]},
    {"guided_grammar": "root ::= a"},
    {"grammar": "root ::= a"},
    {"json_schema": {"type": "object"}},
    {"n": 2},
]
CHAT: dict[str, Any] = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
TEXT: dict[str, Any] = {"model": "m", "stream": True, "prompt": "Hi"}


def plain(fields: dict[str, Any]) -> bool:
    body = json.dumps(fields).encode()
    return (ChatCompletions() if "messages" in fields else Completions()).parse(body, "/v1/").plain


@pytest.mark.parametrize("fields", BOUND, ids=lambda fields: next(iter(fields)))
def test_a_form_that_binds_the_answer_cannot_begin_in_its_middle(fields: dict[str, Any]) -> None:
    assert not plain(CHAT | fields)
    assert not plain(TEXT | fields)


def test_a_text_can_go_on() -> None:
    assert plain(CHAT)
    assert plain(CHAT | {"continue_final_message": True})
    assert plain(CHAT | {"n": 1})
    assert plain(TEXT)
    assert plain(TEXT | {"n": 1})


@pytest.mark.parametrize(
    "fields", [{"echo": True}, {"suffix": "."}, {"logprobs": 0}, {"prompt": ["Hi", "Ho"]}, {"response_format": "json"}]
)
def test_a_text_that_comes_with_more_cannot_go_on(fields: dict[str, Any]) -> None:
    assert not plain(TEXT | fields)


@pytest.mark.parametrize("fields", [{"tools": [{"type": "function", "function": {"name": "f"}}]}, {"logprobs": True}])
def test_a_conversation_whose_answer_is_more_than_text_cannot_go_on(fields: dict[str, Any]) -> None:
    assert not plain(CHAT | fields)


@pytest.mark.parametrize("whole", [CHAT, TEXT], ids=["chat", "text"])
def test_an_answer_in_one_piece_does_not_go_on(whole: dict[str, Any]) -> None:
    assert not plain(whole | {"stream": False})


@pytest.mark.parametrize("fields", BOUND[:-1], ids=lambda fields: next(iter(fields)))
def test_what_is_said_to_be_nothing_binds_nothing(fields: dict[str, Any]) -> None:
    """Clients write down the options that they do not use, too."""
    unused = dict.fromkeys(fields)
    assert plain(CHAT | unused)
    assert plain(TEXT | unused)


def test_text_is_no_form() -> None:
    assert plain(CHAT | {"response_format": {"type": "text"}})
    assert plain(TEXT | {"response_format": {"type": "text"}})
