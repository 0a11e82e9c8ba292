"""Whatever stands in a provider's chunks comes out in OpenAI's form or is a failure; splicing changes nothing of it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk

from workernode.remote.chunk import Chunks, identity
from workernode.remote.dialects.choices import Choices
from workernode.remote.errors import Failure
from workernode.remote.splice import Splice
from workernode.remote.whole import rewritten

OWN = identity(answer_id="chatcmpl-ours", created_s=7, model="ours")
WHOLE = identity(answer_id="chatcmpl-ours", created_s=7, model="ours", stream=False)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["text", "type", "x"]), inner, max_size=2)
    ),
    max_leaves=5,
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


def maybe(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with any of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


FUNCTION = maybe(name=TEXT | ANYTHING, arguments=TEXT | st.dictionaries(TEXT, ANYTHING, max_size=1) | ANYTHING)
CALLS = st.lists(
    maybe(index=st.integers(-1, 2) | ANYTHING, id=TEXT | ANYTHING, function=FUNCTION | ANYTHING), max_size=2
)
DELTA = maybe(
    role=st.just("assistant") | ANYTHING,
    content=TEXT | ANYTHING,
    reasoning=TEXT | ANYTHING,
    reasoning_content=TEXT | ANYTHING,
    tool_calls=CALLS | ANYTHING,
    more=ANYTHING,
)
CHOICE = maybe(
    index=st.integers(-1, 3) | ANYTHING,
    delta=DELTA | ANYTHING,
    message=DELTA | ANYTHING,
    finish_reason=st.sampled_from(["stop", "length", "eos", "", "MAX_TOKENS", "error"]) | ANYTHING,
    usage=ANYTHING,
    error=ANYTHING,
)
CHUNK = maybe(
    id=TEXT, model=TEXT, choices=st.lists(CHOICE, max_size=3) | ANYTHING, usage=ANYTHING, x_groq=ANYTHING, more=ANYTHING
)


def as_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class NeverSplice(Splice):
    def choices_of(self, payload: bytes) -> bytes | None:
        return None


def taken(payloads: list[bytes], *, splice: Splice) -> tuple[Chunks, bytes]:
    chunks = Chunks(OWN, usage_asked=True)
    chunks._splice = splice
    return chunks, chunks.take(payloads)


@given(st.lists(CHUNK, max_size=4))
def test_any_chunk_is_passed_on_in_openais_form_or_is_a_failure(given_: list[dict[str, Any]]) -> None:
    chunks, lines = taken([as_json(each) for each in given_], splice=Splice())
    for line in lines.splitlines():
        chunk = json.loads(line)
        assert (chunk["id"], chunk["object"], chunk["model"]) == ("chatcmpl-ours", "chat.completion.chunk", "ours")
        for choice in chunk["choices"]:
            assert isinstance(choice["index"], int)
            assert isinstance(choice["delta"], dict)
            assert isinstance(choice["delta"].get("content"), str | None)
            assert "reasoning" not in choice["delta"]
            for call in choice["delta"].get("tool_calls") or ():
                assert isinstance(call["index"], int)
    assert isinstance(chunks.failure, Failure | None)


PLAIN_CHOICE = st.fixed_dictionaries(
    {"index": st.integers(0, 1), "delta": st.fixed_dictionaries({"role": st.just("assistant"), "content": TEXT})},
    optional={"finish_reason": st.none() | st.just("stop"), "more": ANYTHING},
)
AROUND = st.sampled_from(
    [
        ('{"id":"t","choices":', "}"),
        ('{"id":"t","choices": ', ',"usage":null,"x":"é"}'),
        ('{"choices":', ',"y":[{"index":0}],"z":"],"}'),
        ('{"x":[],"choices":', ',"usage":{"prompt_tokens":3}}'),
    ]
)


@given(st.lists(st.tuples(AROUND, st.lists(PLAIN_CHOICE, max_size=2)), max_size=8))
def test_a_spliced_chunk_is_the_one_that_reading_it_whole_gives(parts: list[tuple[tuple[str, str], Any]]) -> None:
    payloads = [before.encode() + as_json(choices) + after.encode() for (before, after), choices in parts]
    spliced, lines = taken(payloads, splice=Splice())
    read, expected = taken(payloads, splice=NeverSplice())
    assert lines == expected
    assert spliced.text_chars == read.text_chars
    assert spliced.finish_reason == read.finish_reason
    assert spliced.ended(1) == read.ended(1)
    assert spliced.usage == read.usage
    for line in lines.splitlines():
        ChatCompletionChunk.model_validate_json(line)


@given(st.lists(CHOICE, min_size=1, max_size=2), ANYTHING)
def test_any_whole_answer_is_one_in_openais_form_or_a_failure(choices: list[dict[str, Any]], usage: Any) -> None:
    try:
        whole = rewritten(as_json({"choices": choices, "usage": usage}), WHOLE, request_body=b"{}", key=None)
    except Failure:
        return
    for choice in json.loads(whole.body)["choices"]:
        assert isinstance(choice["message"], dict)
        assert isinstance(choice["message"]["role"], str)
        assert "reasoning" not in choice["message"]


@given(st.lists(TEXT, min_size=1, max_size=6))
def test_cumulative_chunks_add_up_to_the_last_of_them(parts: list[str]) -> None:
    choices = Choices(cumulative=True)
    said, text = "", ""
    for part in parts:
        text += part
        raw = msgspec.Raw(as_json([{"index": 0, "delta": {"content": text}}]))
        said += json.loads(bytes(choices.mended(raw, part="delta")))[0]["delta"]["content"]
    assert said == text
