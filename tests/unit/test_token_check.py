"""FastChat's question whether prompts fit: what is read, and what is told of each."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.endpoints.token_check import CHARS_PER_TOKEN, PromptToCheck, checked, read, told
from wire.control import COUNT_PROMPTS_MAX
from wire.errors import InvalidRequest


def body(*prompts: Any) -> bytes:
    return json.dumps({"prompts": prompts}).encode()


@pytest.mark.parametrize(
    ("tokens", "max_tokens", "context_length", "fits"),
    [(10, 5, 15, True), (10, 5, 14, False), (10, 0, 10, True), (0, 0, 1, True), (10, 5, None, None)],
)
def test_a_prompt_fits_with_all_that_its_answer_may_add(
    tokens: int, max_tokens: int, context_length: int | None, fits: bool | None
) -> None:
    (asked,) = read(body({"prompt": "x", "model": "m", "max_tokens": max_tokens}))
    found = checked(asked, tokens=tokens, context_length=context_length)
    assert json.loads(told([found])) == {
        "prompts": [{"fits": fits, "tokenCount": tokens, "contextLength": context_length, "estimated": False}]
    }


@pytest.mark.parametrize(("chars", "tokens"), [(0, 0), (1, 1), (CHARS_PER_TOKEN, 1), (CHARS_PER_TOKEN + 1, 2)])
def test_what_nobody_counted_is_estimated_by_its_length_and_said_so(chars: int, tokens: int) -> None:
    found = checked(PromptToCheck(prompt="x" * chars), tokens=None, context_length=1)
    assert (found.token_count, found.fits, found.estimated) == (tokens, tokens <= 1, True)


def test_prompts_are_told_in_their_order_and_each_may_name_its_model() -> None:
    asked = read(body({"prompt": "a", "model": "m"}, {"prompt": "b"}))
    assert [each.prompt for each in asked] == ["a", "b"]
    assert (asked[0].model, asked[1].max_tokens) == ("m", 0)
    found = [checked(each, tokens=number, context_length=None) for number, each in enumerate(asked)]
    assert [each["tokenCount"] for each in json.loads(told(found))["prompts"]] == [0, 1]


def test_as_many_prompts_as_a_node_counts_at_once_may_be_asked_about() -> None:
    assert len(read(body(*[{"prompt": ""}] * COUNT_PROMPTS_MAX))) == COUNT_PROMPTS_MAX
    assert read(body({"prompt": "", "max_tokens": 2**31 - 1, "mine": 1}))[0].max_tokens == 2**31 - 1


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        (body(), "prompts"),
        (body(*[{"prompt": ""}] * (COUNT_PROMPTS_MAX + 1)), "prompts"),
        (b"{}", "prompts"),
        (body({"model": "m"}), "prompts[0].prompt"),
        (body({"prompt": 5}), "prompts[0].prompt"),
        (body({"prompt": "", "max_tokens": -1}), "prompts[0].max_tokens"),
        (body({"prompt": "", "max_tokens": 2**31}), "prompts[0].max_tokens"),
        (body({"prompt": "", "model": 5}), "prompts[0].model"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_prompt_is_refused_by_its_place(asked: bytes, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(asked)
    assert refused.value.param == param
