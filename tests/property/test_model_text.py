"""Text that comes in parts: stop strings over any borders, and tool calls."""

from __future__ import annotations

import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workernode.local.server.front.thoughts import HARMONY, MAGISTRAL, THINK, ThoughtFormat, continued
from workernode.local.server.front.thoughts import format_of as thought_format_of
from workernode.local.server.front.tools import (
    HERMES,
    LLAMA,
    MISTRAL,
    NAMED,
    ToolCall,
    ToolFormat,
    ToolReader,
    format_of,
)
from workernode.local.server.steps.stops import Stops

_letters = st.text("ab<e\u00e4", max_size=30)


def _cut(text: str, places: list[int]) -> list[str]:
    borders = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(borders)]


@given(
    _letters, st.lists(st.text("ab<e", min_size=1, max_size=4), min_size=1, max_size=4), st.lists(st.integers(0, 99))
)
def test_text_ends_at_the_first_stop_string_wherever_tokens_end(text: str, stops: list[str], cuts: list[int]) -> None:
    found = Stops(tuple(stops))
    shown = ""
    for part in _cut(text, cuts):
        shown += found.push(part)
        if found.stopped:
            break
    if not found.stopped:
        shown += found.flush()
    begins = [text.find(stop) for stop in stops if stop in text]
    assert found.stopped == bool(begins)
    if not begins:
        assert shown == text
    else:
        # What ends first counts, and then what begins first: no stop string is ever shown.
        assert text.startswith(shown)
        assert len(shown) >= min(begins)
        assert not any(stop in shown for stop in stops)


@given(_letters, st.lists(st.text("ab<e", min_size=1, max_size=4), min_size=1, max_size=4))
def test_nothing_is_held_back_that_cannot_become_a_stop_string(text: str, stops: list[str]) -> None:
    found = Stops(tuple(stops))
    shown = found.push(text)
    if not found.stopped:
        held = text[len(shown) :]
        assert not held or any(stop.startswith(held) for stop in stops)


def _read(
    format_: ToolFormat, text: str, cuts: list[int], *, single: bool = False
) -> tuple[str, list[tuple[str, str]]]:
    reader = ToolReader(format_, {"f", "g"}, single=single)
    found = [each for part in _cut(text, cuts) for each in reader.push(part)] + reader.flush()
    calls = [(each.name, each.arguments) for each in found if isinstance(each, ToolCall)]
    return "".join(each for each in found if isinstance(each, str)), calls


@given(_letters, _letters, st.lists(st.integers(0, 200)))
def test_hermes_calls_are_found_wherever_tokens_end_and_the_rest_is_text(
    before: str, after: str, cuts: list[int]
) -> None:
    call = json.dumps({"name": "f", "arguments": {"x": before}})
    text = f"{before}<tool_call>\n{call}\n</tool_call>{after}"
    assert _read(HERMES, text, cuts) == (before + after, [("f", json.dumps({"x": before}, ensure_ascii=False))])


@given(st.lists(st.integers(0, 200)))
def test_other_families_call_in_their_own_words(cuts: list[int]) -> None:
    llama = '{"name": "f", "parameters": {"x": 1}}'
    assert _read(LLAMA, llama, cuts) == ("", [("f", '{"x": 1}')])
    for llama in ('{ "name": "f", "parameters": {}}', '{"type": "function", "name": "f", "parameters": {}}'):
        assert _read(LLAMA, llama, cuts) == ("", [("f", "{}")])
    assert _read(LLAMA, f"\n {llama}", cuts) == ("\n ", [("f", "{}")])
    assert _read(LLAMA, f"So: {llama}", cuts) == (f"So: {llama}", [])
    alice = '{"name": "Alice", "age": 30}'
    assert _read(LLAMA, alice, cuts) == (alice, []), "there is no such tool"
    mistral = '[TOOL_CALLS] [{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}]'
    assert _read(MISTRAL, mistral, cuts) == ("", [("f", "{}"), ("g", "{}")])
    assert _read(MISTRAL, mistral, cuts, single=True) == ("", [("f", "{}")])
    named = 'Well. [TOOL_CALLS]f[ARGS]{"x": "[a]"}[TOOL_CALLS]g[CALL_ID]abc123def[ARGS]{}'
    assert _read(NAMED, named, cuts) == ("Well. ", [("f", '{"x": "[a]"}'), ("g", "{}")])
    for text in ("[TOOL_CALLS]f[ARGS]{", "[TOOL_CALLS]f[ARGS]1", "[TOOL_CALLS][ARGS]{}", "[TOOL_CALLS]f"):
        assert _read(NAMED, text, cuts) == (text, [])
    assert format_of("{{ '[TOOL_CALLS]' + name + '[ARGS]' }}") is NAMED
    assert format_of("{{ '[TOOL_CALLS]' + calls|tojson }}") is MISTRAL


def test_text_that_begins_no_call_is_told_at_once() -> None:
    reader = ToolReader(HERMES, {"f"})
    told = [reader.push(text) for text in ("a < b", "a <tool", "s>")]
    assert told == [["a < b"], ["a "], ["<tools>"]]


def test_calls_have_ids_of_their_own_in_the_form_that_the_familys_template_takes() -> None:
    """Mistral's templates refuse a conversation whose ids are not nine letters and digits."""
    call = '{"name": "f", "arguments": {}}'
    for format_, text, form in (
        (HERMES, f"<tool_call>{call}</tool_call>" * 2, r"call_[0-9a-f]{24}"),
        (MISTRAL, f"[TOOL_CALLS][{call}, {call}]", r"[0-9a-z]{9}"),
        (NAMED, "[TOOL_CALLS]f[ARGS]{}[TOOL_CALLS]f[ARGS]{}", r"[0-9a-z]{9}"),
    ):
        reader = ToolReader(format_, {"f"})
        ids = [each.id for each in reader.push(text) + reader.flush() if isinstance(each, ToolCall)]
        assert len(set(ids)) == 2
        assert all(re.fullmatch(form, each) for each in ids)


def test_a_call_of_an_unknown_tool_is_one_and_what_is_too_deep_is_none() -> None:
    """Whoever has the tools can tell the model that there is no such one."""
    unknown = '<tool_call>{"name": "Alice"}</tool_call>'
    assert _read(HERMES, unknown, []) == ("", [("Alice", "{}")])
    deep = f"<tool_call>{'[' * 100_000}</tool_call>"
    assert _read(HERMES, deep, []) == (deep, [])


@given(st.lists(st.integers(0, 200)))
def test_of_calls_that_shall_not_be_parallel_the_first_one_counts(cuts: list[int]) -> None:
    calls = [f'<tool_call>{{"name": "{name}", "arguments": {{}}}}</tool_call>' for name in ("g", "f")]
    assert _read(HERMES, f"a{calls[0]}b{calls[1]}c", cuts, single=True) == ("abc", [("g", "{}")])


@given(st.lists(st.integers(0, 200)))
def test_a_call_may_hold_lines_as_they_are(cuts: list[int]) -> None:
    """As of code, which models write into strings without the escapes that JSON asks for."""
    call = '{"name": "f", "arguments": {"x": "if a:\n\tb"}}'
    expected = ("", [("f", '{"x": "if a:\\n\\tb"}')])
    assert _read(HERMES, f"<tool_call>{call}</tool_call>", cuts) == expected
    assert _read(MISTRAL, f"[TOOL_CALLS][{call}]", cuts) == expected
    assert _read(NAMED, '[TOOL_CALLS]f[ARGS]{"x": "if a:\n\tb"}', cuts) == expected


_NO_CALLS = (
    *("", "null", "1", '"f"', "[]", "[1]", '["f"]', "{}", '{"name": 1}', '{"name": null, "arguments": {}}'),
    *('[{"name": "f", "arguments": {}}, 1]', '{"name": "f", "arguments": {"x": NaN}}', '{"arguments": {}}'),
)


@given(_letters, st.lists(st.integers(0, 200)))
def test_what_is_no_call_stays_text(letters: str, cuts: list[int]) -> None:
    for inside in (letters, *_NO_CALLS):
        text = f"a<tool_call>{inside}</tool_call>b<tool_call>{inside}"
        assert _read(HERMES, text, cuts) == (text, [])
        text = f"<tool_call>{inside}</tool_call>"
        assert _read(HERMES, text + '<tool_call>{"name": "f"}</tool_call>', cuts) == (text, [("f", "{}")])
        text = f"a[TOOL_CALLS]{inside}"
        assert _read(MISTRAL, text, cuts) == _read(NAMED, text, cuts) == (text, [])


def _thought(format_: ThoughtFormat, text: str, cuts: list[int], *, inside: bool = False) -> tuple[str, str]:
    """What is thought, and what is answered."""
    reader = format_.reader(inside=inside)
    found = [part for cut in _cut(text, cuts) for part in reader.push(cut)] + reader.flush()
    thought, answer = (
        "".join(text for field, text in found if field == name) for name in ("reasoning_content", "content")
    )
    return thought, answer


_marks = {mark for format_ in (THINK, MAGISTRAL, HARMONY) for mark in format_.marks}
_parts = sorted(_marks | {"<thi", "</", "[/", "<|", "analysis", "final", "a", " ", "\n", "\u00e4"})
_pieces = st.lists(st.sampled_from(_parts), max_size=12).map("".join)


@given(st.sampled_from([THINK, MAGISTRAL, HARMONY]), st.booleans(), _pieces, st.lists(st.integers(0, 200)))
def test_a_thought_is_the_same_wherever_tokens_end(
    format_: ThoughtFormat, inside: bool, text: str, cuts: list[int]
) -> None:
    found = _thought(format_, text, cuts, inside=inside)
    assert found == _thought(format_, text, [], inside=inside) == _thought(format_, text, [*range(200)], inside=inside)


@given(st.lists(st.integers(0, 200)))
def test_each_family_thinks_in_its_own_words(cuts: list[int]) -> None:
    for format_ in (THINK, MAGISTRAL):
        begin, end = format_.marks
        assert _thought(format_, f"\n{begin}\nSo: {begin[:3]} x \n{end}\n\nThe {begin} fox\n", cuts) == (
            f"So: {begin[:3]} x",
            f"The {begin} fox\n",
        )
        assert _thought(format_, f"  The fox {begin}a{end}", cuts) == ("", f"  The fox {begin}a{end}")
        assert _thought(format_, f"So.{end}The fox", cuts, inside=True) == ("So.", "The fox")
        assert _thought(format_, f"{begin}So.{end}The fox", cuts, inside=True) == ("So.", "The fox")
        assert _thought(format_, "So. The", cuts, inside=True) == ("So. The", "")
        assert _thought(format_, begin[:4], cuts) == ("", begin[:4])
    harmony = "<|channel|>analysis<|message|>So <a>.<|end|><|start|>assistant<|channel|>final<|message|>The <fox>"
    assert _thought(HARMONY, harmony, cuts) == ("So <a>.", "The <fox>")
    assert _thought(HARMONY, " and more", cuts) == ("", " and more")


def test_the_form_of_thoughts_is_known_by_the_template() -> None:
    assert thought_format_of("{{ '<think>' }}") is THINK
    assert thought_format_of("{{ content.split('</think>')[-1] }}") is THINK
    assert thought_format_of("{{ '[THINK]' + thinking + '[/THINK]' }}") is MAGISTRAL
    assert thought_format_of("{{ '<|start|>assistant<|channel|>final<|message|>' }}") is HARMONY
    assert thought_format_of("{{ 'I think' }}") is None


@pytest.mark.parametrize(
    ("format_", "inside", "content", "thought", "expected"),
    [
        (None, False, " a\n", "t", (" a\n", None, False)),
        (THINK, False, " a\n", "", (" a\n", None, False)),
        (THINK, False, "", "", ("", THINK, False)),
        (THINK, False, "<think>a", "", ("<think>a", THINK, True)),
        (THINK, True, "a", "t", ("t\n</think>\n\na", None, False)),
        (THINK, True, "t</think>a", "", ("t</think>a", None, False)),
        (THINK, True, "", "t", ("t", THINK, True)),
        (HARMONY, False, "a", "", ("<|channel|>final<|message|>a", HARMONY, False)),
        (HARMONY, False, "", "", ("", HARMONY, False)),
    ],
)
def test_an_answer_is_continued_as_one_and_a_thought_as_one(
    format_: ThoughtFormat | None,
    inside: bool,
    content: str,
    thought: str,
    expected: tuple[str, ThoughtFormat | None, bool],
) -> None:
    assert continued(format_, content, thought, inside=inside) == expected
