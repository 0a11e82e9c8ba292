"""Whole answers keep every byte that is not ours; usage is never a silent 0."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import msgspec
import pytest

from wire.usage import REQUEST_TOKENS_MAX, Usage
from workernode.prompts import prompt_texts
from workernode.remote.chunk import identity
from workernode.remote.errors import Failure
from workernode.remote.usage import as_json, usage_of
from workernode.remote.utf8 import is_utf8
from workernode.remote.whole import Whole, rewritten

OWN = identity(answer_id="chatcmpl-ours", created_s=7, model="ours", stream=False)
REQUEST = json.dumps({"messages": [{"role": "user", "content": "x" * 40}]}).encode()
FIGURES = b'"usage":{"prompt_tokens":3,"completion_tokens":2,"extra":1.50}'


def answer(rest: bytes = FIGURES, *, content: bytes = b"abcdefgh", finish: bytes = b'"stop"') -> bytes:
    choice = b'{"index":0,"message":{"role":"assistant","content":"' + content + b'"},"finish_reason":' + finish + b"}"
    return b'{"id":"t","created":1,"model":"t","choices":[' + choice + b"]" + (b"," + rest if rest else b"") + b"}"


def rewrite(data: bytes) -> Whole:
    return rewritten(data, OWN, request_body=REQUEST, key="sk-canary-0123456789")


def figures(**counts: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(counts).encode())


def estimate(prompt_tokens: int, completion_tokens: int) -> Usage:
    return Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, estimated=True)


def test_a_whole_answer_gets_our_identity_and_keeps_the_rest_byte_for_byte() -> None:
    data = answer(FIGURES + b',"service_tier": "x","z":[1, 2.0e1 ]')
    whole = rewrite(data)
    head = b'{"id":"t","created":1,"model":"t",'
    expected = data.replace(head, b'{"id":"chatcmpl-ours","created":7,"model":"ours",').replace(b'": "x"', b'":"x"')
    assert whole.body == expected[:-1] + b',"object":"chat.completion"}'
    assert (whole.usage, whole.finish_reason) == (Usage(prompt_tokens=3, completion_tokens=2), "stop")


@pytest.mark.parametrize("rest", [b"", b'"usage":null'])
def test_a_whole_answer_without_usage_gets_an_estimate_that_is_marked(rest: bytes) -> None:
    whole = rewrite(answer(rest))
    assert whole.usage == Usage(prompt_tokens=10, completion_tokens=2, estimated=True)
    assert json.loads(whole.body)["usage"] == {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}


def test_a_number_that_no_float_can_hold_passes_as_it_is() -> None:
    data = answer(b"").replace(b'"finish_reason"', b'"p":-1E400,"finish_reason"')
    assert b'"p":-1E400' in rewrite(data).body


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html></html>",
        b"[]",
        b"{}",
        b'{"choices":[]}',
        b'{"choices":null}',
        b'{"choices":{}}',
        answer()[:-1],
        answer() + b"x",
        answer(content=b"\xff"),
        answer(b'"error":{"message":"m"}'),
        b'{"error":{"message":"m"}}',
        b"[" * 50000,
    ],
)
def test_what_is_no_answer_is_a_failure(data: bytes) -> None:
    with pytest.raises(Failure):
        rewrite(data)


def test_a_large_answer_is_held_twice_at_most() -> None:
    size = 40 * 2**20
    data = bytearray(answer(content="ü".encode() * (size // 2)))
    tracemalloc.start()
    try:
        whole = rewritten(data, OWN, request_body=REQUEST, key=None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(whole.body) > size
    assert peak < 1.1 * size


def test_the_upstreams_figures_are_the_usage() -> None:
    given = figures(
        prompt_tokens=10,
        completion_tokens=5,
        total_tokens=15,
        prompt_tokens_details={"cached_tokens": 4, "audio_tokens": 0},
        completion_tokens_details={"reasoning_tokens": 3},
    )
    expected = Usage(prompt_tokens=10, completion_tokens=5, cached_tokens=4, reasoning_tokens=3)
    assert usage_of(given, text_chars=99, body=REQUEST) == expected


@pytest.mark.parametrize(
    "cached",
    [
        {"prompt_tokens_details": {"cached_tokens": 4}, "cached_tokens": 5},
        {"prompt_tokens_details": {"audio_tokens": 0}, "prompt_cache_hit_tokens": 4},
        {"prompt_tokens_details": None, "cached_tokens": 4},
        {"cached_tokens": 4},
    ],
)
def test_what_was_cached_has_several_names(cached: dict[str, Any]) -> None:
    given = figures(prompt_tokens=10, completion_tokens=5, **cached)
    expected = Usage(prompt_tokens=10, completion_tokens=5, cached_tokens=4)
    assert usage_of(given, text_chars=99, body=REQUEST) == expected


def test_where_nothing_is_generated_the_total_is_the_prompt() -> None:
    for given in (figures(total_tokens=7), figures(prompt_tokens=7, completion_tokens=0, total_tokens=9)):
        assert usage_of(given, text_chars=0, body=REQUEST, generates=False) == Usage(prompt_tokens=7)


def test_what_several_answers_used_together_is_told_in_all_its_parts() -> None:
    told = json.loads(bytes(as_json(Usage(prompt_tokens=10, completion_tokens=5, cached_tokens=4, reasoning_tokens=3))))
    assert told == {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }


@pytest.mark.parametrize(
    ("given", "chars", "expected"),
    [
        (None, 9, estimate(10, 3)),
        (None, 0, estimate(10, 0)),
        (figures(), 9, estimate(10, 3)),
        (
            figures(prompt_tokens=0, completion_tokens=0),
            9,
            Usage(prompt_tokens=10, completion_tokens=3, estimated=True),
        ),
        (figures(prompt_tokens=6, completion_tokens=0), 9, estimate(6, 3)),
        (figures(prompt_tokens=6, completion_tokens=0), 0, Usage(prompt_tokens=6)),
        (figures(prompt_tokens=6), 0, estimate(6, 0)),
        (
            figures(prompt_tokens=-1, completion_tokens=2),
            4,
            Usage(prompt_tokens=10, completion_tokens=2, estimated=True),
        ),
        (
            figures(prompt_tokens=6, completion_tokens=2, prompt_tokens_details=[], completion_tokens_details=-1),
            4,
            Usage(prompt_tokens=6, completion_tokens=2),
        ),
        # xAI: what was thought is in the total alone.
        (
            figures(
                prompt_tokens=12,
                completion_tokens=1,
                total_tokens=399,
                completion_tokens_details={"reasoning_tokens": 386},
            ),
            4,
            Usage(prompt_tokens=12, completion_tokens=387, reasoning_tokens=386),
        ),
        (
            figures(prompt_tokens=12, completion_tokens=1, total_tokens=3),
            4,
            Usage(prompt_tokens=12, completion_tokens=1),
        ),
        (figures(prompt_tokens=0, completion_tokens=2, total_tokens=9), 4, estimate(10, 2)),
        (figures(prompt_tokens="6"), 4, estimate(10, 1)),
        (figures(prompt_tokens=REQUEST_TOKENS_MAX + 1), 4, estimate(10, 1)),
        (
            figures(prompt_tokens=6, completion_tokens=2, total_tokens=2**40),
            4,
            Usage(prompt_tokens=6, completion_tokens=2),
        ),
        (msgspec.Raw(b"[]"), 4, estimate(10, 1)),
        (
            figures(prompt_tokens=6, completion_tokens=2, prompt_tokens_details={"cached_tokens": 9}),
            4,
            Usage(prompt_tokens=6, completion_tokens=2, cached_tokens=6),
        ),
        (
            figures(prompt_tokens=6, completion_tokens=2, prompt_tokens_details=None),
            4,
            Usage(prompt_tokens=6, completion_tokens=2),
        ),
    ],
)
def test_missing_or_impossible_figures_are_estimated_and_marked(
    given: msgspec.Raw | None, chars: int, expected: Usage
) -> None:
    assert usage_of(given, text_chars=chars, body=REQUEST) == expected


def test_the_prompt_is_its_text_and_not_its_pictures() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10000}}
    messages = [
        {"role": "system", "content": "1234"},
        {"role": "user", "content": [{"type": "text", "text": "56"}, picture]},
        {"role": "assistant", "content": None},
        7,
    ]
    assert sum(map(len, prompt_texts(json.dumps({"messages": messages}).encode()).texts)) == 6
    assert prompt_texts(b'{"messages":[],"tools":[{"a":1}]}').texts == ['[{"a":1}]']
    assert prompt_texts(b"[]").texts == []


@pytest.mark.parametrize("left_out", [{}, {"finish_reason": None}, {"finish_reason": ""}, {"finish_reason": "null"}])
@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"message": {"role": "assistant", "content": "a"}}, "stop"),
        ({"message": {"role": "assistant", "content": None, "tool_calls": []}}, "stop"),
        ({"message": {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f"}}]}}, "tool_calls"),
        ({"text": "a"}, "stop"),
    ],
)
def test_a_whole_answer_has_the_finish_reason_that_a_stream_would_get(
    left_out: dict[str, Any], said: dict[str, Any], told: str
) -> None:
    choices = [{"index": 0, **said, **left_out}, {"index": 1, **said, "finish_reason": "length"}]
    part: Any = "text" if "text" in said else "message"
    data = json.dumps({"choices": choices}).encode()
    whole = rewritten(data, OWN, request_body=REQUEST, key=None, part=part)
    shown = json.loads(whole.body)["choices"]
    assert [choice["finish_reason"] for choice in shown] == [told, "length"]
    if told == "tool_calls":
        assert shown[0]["message"]["tool_calls"][0]["function"]["arguments"] == "{}"


def test_text_is_told_from_other_bytes_across_slices() -> None:
    text = ("x" * 65535 + "日本").encode()
    assert is_utf8(text)
    assert is_utf8(b"")
    assert not is_utf8(text[:-1])
    assert not is_utf8(text[:65536])
    assert not is_utf8(b"\xed\xa0\x80")


@pytest.mark.parametrize(
    ("given", "finish", "told"),
    [
        ({"arguments": ""}, "tool_calls", "{}"),
        ({"arguments": None}, "stop", "{}"),
        ({}, "tool_use", "{}"),
        ({"arguments": ""}, "length", ""),
        ({"arguments": " "}, "tool_calls", " "),
        ({"arguments": '{"a": 1}'}, "tool_calls", '{"a": 1}'),
    ],
)
def test_a_function_that_is_called_without_arguments_gets_an_empty_object_if_the_call_is_whole(
    given: dict[str, Any], finish: str, told: str
) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "now", **given}}
    choice = {"index": 0, "message": {"role": "assistant", "tool_calls": [call]}, "finish_reason": finish}
    body = json.loads(rewrite(json.dumps({"choices": [choice]}).encode()).body)
    (shown,) = body["choices"][0]["message"]["tool_calls"]
    assert shown["function"] == {"name": "now", "arguments": told}
