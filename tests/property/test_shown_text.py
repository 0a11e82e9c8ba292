"""A stream that is continued by another attempt shows the same text as one that was never interrupted."""

from __future__ import annotations

import contextlib
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.requests.shown import KEPT_CHARS_MAX, Diverged, Replay, ShownText

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def line(content: str | None, finish: str | None = None, **delta: object) -> bytes:
    fields: dict[str, object] = {**({} if content is None else {"content": content}), **delta}
    return json.dumps({"id": "a", "choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}).encode() + b"\n"


def chunks(text: str, cuts: list[int]) -> list[bytes]:
    """The stream of a text, cut at these places."""
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    parts = [text[start:end] for start, end in itertools.pairwise(places)]
    return [line("", role="assistant"), *(line(part) for part in parts), line(None, "stop")]


def text_of(lines: bytes) -> str:
    deltas = [json.loads(found)["choices"][0]["delta"] for found in lines.splitlines()]
    return "".join(delta.get("content") or "" for delta in deltas)


@given(TEXT, st.lists(st.integers(0, 40)), st.lists(st.integers(0, 40)), st.integers(0, 20))
def test_what_was_shown_and_what_is_new_are_the_whole_text(
    text: str, first_cuts: list[int], second_cuts: list[int], died_after: int
) -> None:
    first = chunks(text, first_cuts)[:died_after]
    shown = ShownText(keep=True)
    for chunk in first:
        shown.add(chunk)
    replay = Replay(shown)
    new = b"".join(replay.new(chunk) for chunk in chunks(text, second_cuts))
    assert text_of(b"".join(first)) + text_of(new) == text
    assert shown.text == text_of(b"".join(first))
    finishes = [json.loads(found)["choices"][0]["finish_reason"] for found in (b"".join(first) + new).splitlines()]
    assert finishes.count("stop") == 1


def completion_line(text: str, finish: str | None = None) -> bytes:
    choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
    return json.dumps({"id": "a", "object": "text_completion", "choices": [choice]}).encode() + b"\n"


@given(TEXT, st.integers(0, 40), st.integers(0, 40))
def test_a_completion_is_continued_like_a_conversations_answer(text: str, died_at: int, cut: int) -> None:
    shown = ShownText(keep=True)
    shown.add(completion_line(text[:died_at]))
    assert (shown.plain, shown.text) == (True, text[:died_at])
    replay = Replay(shown)
    second = (completion_line(text[:cut]), completion_line(text[cut:]), completion_line("", "stop"))
    new = b"".join(replay.new(chunk) for chunk in second)
    choices = [json.loads(found)["choices"][0] for found in new.splitlines()]
    assert text[:died_at] + "".join(choice["text"] for choice in choices) == text
    assert choices[-1]["finish_reason"] == "stop"


@given(TEXT, TEXT, st.integers(1, 20))
def test_an_attempt_that_says_something_else_is_noticed(text: str, other: str, died_after: int) -> None:
    shown = ShownText(keep=False)
    for chunk in chunks(text, [3, 7, 11])[:died_after]:
        shown.add(chunk)
    replay = Replay(shown)
    if other[: shown.chars] == text[: shown.chars] and not (shown.finished and other != text):
        return
    with pytest.raises(Diverged):
        replay.new(b"".join(chunks(other, [5])))


@pytest.mark.parametrize(
    "chunk",
    [
        line(None, tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]),
        line(None, reasoning_content="hm"),
        line("x", reasoning="hm"),
        line("x", function_call={"name": "f"}),
        line("x", refusal="No."),
        line("x", audio={"id": "a"}),
        b'{"choices":[{"index":0,"delta":{"content":"x"}},{"index":0,"delta":{"content":"y"}}]}\n',
        b'{"choices":[{"index":1,"delta":{"content":"x"}}]}\n',
        b'{"choices":[{"index":0,"delta":{"content":"x"},"logprobs":{"content":[]}}]}\n',
        b"no json\n",
    ],
)
def test_what_is_not_plain_text_is_never_continued(chunk: bytes) -> None:
    shown = ShownText(keep=True)
    shown.add(chunk)
    assert not shown.plain
    assert shown.text is None
    with pytest.raises(Diverged):
        Replay(ShownText(keep=True)).new(chunk)


def test_what_is_null_beside_a_text_is_not_there() -> None:
    nothing = dict.fromkeys(("tool_calls", "function_call", "reasoning_content", "reasoning", "refusal", "audio"), None)
    shown = ShownText(keep=True)
    shown.add(line("x", **nothing).replace(b'"finish_reason"', b'"logprobs": null, "finish_reason"'))
    assert (shown.plain, shown.text) == (True, "x")


def test_more_text_than_the_bound_is_not_kept_but_still_compared() -> None:
    shown = ShownText(keep=True)
    for _ in range(KEPT_CHARS_MAX // 1024 + 1):
        shown.add(line("x" * 1024))
    assert shown.text is None
    assert shown.plain
    replay = Replay(shown)
    assert text_of(replay.new(line("x" * shown.chars + "end"))) == "end"


def test_what_is_nested_too_deep_is_no_plain_text() -> None:
    deep = _nested(1_000_000)
    shown = ShownText(keep=True)
    shown.add(deep)
    assert not shown.plain
    with pytest.raises(Diverged):
        Replay(ShownText(keep=True)).new(deep)


def test_what_is_nested_too_deep_to_be_cut_is_not_continued() -> None:
    shown = ShownText(keep=True)
    shown.add(line("x"))
    for levels in (*range(900, 1000), 100_000):  # there Python 3.11 passes over what it does not read, and 3.14
        with contextlib.suppress(Diverged):
            Replay(shown).new(_nested(levels, "xy"))


def _nested(levels: int, text: str = "x") -> bytes:
    more = b"[" * levels + b"]" * levels
    return b'{"choices":[{"index":0,"delta":{"content":"%b"},"more":%b}]}\n' % (text.encode(), more)
