"""What is odd but right is answered."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.bad_input.rows import good, with_part, with_schema
from tests.raw_http import JSON, exchange, post

if TYPE_CHECKING:
    from tests.integration.bad_input.place import Place

pytestmark = pytest.mark.asyncio(loop_scope="session")


def image(url: str) -> dict[str, Any]:
    return with_part(type="image_url", image_url={"url": url})


GOOD: dict[str, Any] = {
    "an_empty_prompt": good(messages=[{"role": "user", "content": ""}]),
    "u0000_in_the_prompt": good(messages=[{"role": "user", "content": "a\u0000b"}]),
    "special_tokens_as_text": good(messages=[{"role": "user", "content": "<|endoftext|><|im_start|>system"}]),
    "right_to_left_and_zalgo": good(
        messages=[{"role": "user", "content": "\u202e\u05e9\u05dc\u05d5\u05dd Z\u0338\u0321\u036a\u0343"}]
    ),
    "an_emoji_as_two_escaped_halves": json.dumps(good(user="\U0001f600")).encode(),
    "unknown_fields": good(mine={"deep": [1, 2, {"a": None}]}),
    "nulls_where_a_field_may_be_absent": good(n=None, max_tokens=None, temperature=None, stream=None, tools=None),
    "nulls_where_a_part_has_no_address": with_part(type="text", image_url=None, video_url=None, audio_url=None),
    "null_where_an_answer_has_no_schema": good(response_format={"type": "json_object", "json_schema": None}),
    "a_form_of_answers_that_only_some_engines_know": good(
        response_format={"type": "structural_tag", "structures": [], "triggers": ["<f="]}
    ),
    "null_where_a_tool_is_no_function": good(tools=[{"type": "custom", "function": None, "custom": {"name": "f"}}]),
    "numbers_for_a_template": good(chat_template_kwargs={"thinking_budget": 512, "share": 0.5, "thinking": None}),
    "numbers_at_their_bounds": good(n=1, temperature=2, top_p=0, seed=2**63 - 1, top_k=-1, presence_penalty=-2),
    "whole_numbers_with_a_point": good(n=1.0, max_tokens=5.0),
    "line_breaks_in_the_user": good(user="a\r\nb\x1b[31m\u2028"),
    "a_schema_that_recurs": with_schema({"properties": {"next": {"$ref": "#"}}}),
    "a_pattern_that_python_wonders_about": with_schema({"pattern": "^[[a]+$"}),
    "a_pattern_of_ecmascript": with_schema({"pattern": r"^\p{L}+(?<year>\d{4})\k<year>[\u0000-\uffff]$"}),
    "a_pattern_with_flags": with_schema({"pattern": "(?i)^[\u0000-\U0010fffe]+(?-i:x)$"}),
    "a_dash_beside_a_class_of_letters": with_schema({"pattern": r"^[\w-.]+@[\w-]+\.[+-\d]{2,4}\d-\w-?$"}),
    "a_reference_as_addresses_spell_it": with_schema(
        {"$ref": "#/$defs/Map%3Cstring%2C%20a~1b%3E", "$defs": {"Map<string, a/b>": {"type": "object"}}}
    ),
    "examples_that_look_like_schemas": with_schema(
        {
            "properties": {"pattern": {"type": "string", "enum": ["*"]}},
            "default": {"pattern": "**/*.py"},
            "examples": [{"pattern": "*"}, {"$ref": "elsewhere", "properties": {"a": {"pattern": "*"}}}],
        }
    ),
    "a_function_without_parameters": with_schema(None),
    "a_public_image": image("https://example.com/a.png"),
    "a_public_image_by_its_address": image("http://[2606:4700:4700::1111]:8080/a%20b.png?c=d@e"),
    "an_image_for_one_of_its_hosts_users": image("https://me:secret@pictures.example.com/ü.png"),
    "an_image_as_data": image("data:image/png;base64,AAAA"),
    "an_assistant_with_tool_calls": good(
        messages=[
            {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function"}]},
            {"role": "tool", "tool_call_id": "c", "content": "x"},
        ]
    ),
    "an_assistant_with_the_older_function_call": good(
        messages=[
            {
                "role": "assistant",
                "content": None,
                "function_call": {"name": "f", "arguments": "{}"},
                "tool_calls": None,
            },
            {"role": "function", "name": "f", "content": None},
            {"role": "assistant", "content": "x", "function_call": None},
        ]
    ),
}


@pytest.mark.parametrize("body", GOOD.values(), ids=GOOD)
async def test_what_is_odd_but_right_is_answered(place: Place, body: bytes | dict[str, Any]) -> None:
    assert (await exchange(place.port, post(body))).status == 200


@pytest.mark.parametrize("length", ["content-length: {} \t", f"content-length: {'0' * 5000}{{}}"])
async def test_a_length_with_blanks_behind_it_or_zeros_before_it_is_a_length(place: Place, length: str) -> None:
    body = json.dumps(good()).encode()
    assert (await exchange(place.port, post(body, *JSON, length.format(len(body))))).status == 200
