"""Chats of the model server, by steps whose words are known."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.model_ready import ready
from tests.model_room import ScriptedSteps, answered, room_of
from workernode.local.server.front import app
from workernode.local.server.front.chat import answer
from workernode.local.server.front.problem import Problem
from workernode.local.server.front.tokens import Prompt, Tokens
from workernode.local.server.front.tools import format_of
from workernode.local.server.words import Logprob, Piece

if TYPE_CHECKING:
    from workernode.local.server.words import Ready

CALL = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
MESSAGES = [{"role": "user", "content": "hi"}]
TOOLS = [{"type": "function", "function": {"name": "f"}}]
HERMES = "{{ tools }}<tool_call>"


def pieces(*texts: str) -> list[Piece]:
    """The last one ends the answer."""
    return [Piece(0, 0, text, 1, None, "stop" if n == len(texts) else None) for n, text in enumerate(texts, 1)]


def joined(chunks: list[Any], name: str) -> str:
    """What the deltas of a stream have of a field."""
    return "".join(chunk["choices"][0]["delta"].get(name) or "" for chunk in chunks)


def test_the_text_beside_calls_is_that_of_the_stream() -> None:
    for before, after, text in (("\n So: ", "\n", "\n So: \n"), ("", "", None)):
        answers = []
        for stream in (False, True):
            room = room_of(ready(chat_template=HERMES), ScriptedSteps(*pieces(before, CALL, after)))
            answers.append(answered(answer, room, messages=MESSAGES, tools=TOOLS, stream=stream))
        whole, chunks = answers
        assert whole["choices"][0]["message"]["content"] == text
        assert joined(chunks, "content") == (text or "")


@pytest.mark.parametrize("arguments", ['{"x": "a\\ud83d"}', r'"{\"x\": \"a\ud83d\"}"'])
def test_half_a_character_in_a_call_spoils_no_answer(arguments: str) -> None:
    room = room_of(
        ready(chat_template=HERMES),
        ScriptedSteps(*pieces(f'<tool_call>{{"name": "f", "arguments": {arguments}}}</tool_call>')),
    )
    (call,) = answered(answer, room, messages=MESSAGES, tools=TOOLS)["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "f", "arguments": '{"x": "a\ufffd"}'}


THOUGHT = '<tool_call>{"name": "f", "arguments": {}}</tool_call>?'
SPECIAL = ("<think>", "</think>", "[THINK]", "<|channel|>")
WRITTEN = {
    "{{ tools }}<tool_call><think>": ["<think>", "\n", *THOUGHT, "\n", "</think>", "\n\n", "The", " fox"],
    "{{ tools }}<tool_call></think>{{ '<think>\n' if add_generation_prompt }}": [*THOUGHT, "</think>", "The", " fox"],
    "{{ tools }}<tool_call>[THINK]": ["[THINK]", *THOUGHT, "[/THINK]", "The", " fox"],
    "{{ tools }}<tool_call><|channel|>": [
        *("<|channel|>", "analysis", "<|message|>", *THOUGHT, "<|end|>", "<|start|>", "assistant"),
        *("<|channel|>", "final", "<|message|>", "The", " fox"),
    ],
}


@pytest.mark.parametrize("template", WRITTEN)
def test_a_thought_is_no_part_of_the_answer_and_calls_nothing(template: str) -> None:
    words, answers = WRITTEN[template], []
    for stream in (False, True):
        steps = ScriptedSteps(*pieces(*words))
        known = ready(*SPECIAL, chat_template=template)
        options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        answers.append(answered(answer, room_of(known, steps), messages=MESSAGES, tools=TOOLS, **options))
        marks = room_of(known, steps).tokens.ids_of(*(word for word in words if word in SPECIAL))
        assert set(marks) <= set(steps.asked[0].sampling.shown), "else they would be left out of the text"
    whole, chunks = answers
    message = whole["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == (THOUGHT, "The fox")
    assert "tool_calls" not in message
    usage = chunks.pop()["usage"]
    assert usage == whole["usage"]
    assert usage["completion_tokens"] == len(words)
    assert 0 <= usage["completion_tokens_details"]["reasoning_tokens"] - len(THOUGHT) <= 3
    assert (joined(chunks, "reasoning_content"), joined(chunks, "content")) == (THOUGHT, "The fox")


@pytest.mark.parametrize("asked", [True, False, None])
def test_all_chunks_before_the_usage_say_that_it_is_to_come_and_else_none_names_it(asked: bool | None) -> None:
    room = room_of(ready(chat_template="a"), ScriptedSteps(*pieces("The", " fox")))
    options = {} if asked is None else {"stream_options": {"include_usage": asked}}
    chunks = answered(answer, room, messages=MESSAGES, stream=True, **options)
    if asked:
        assert chunks.pop()["usage"]["completion_tokens"] == 2
    assert [chunk.get("usage", "absent") for chunk in chunks] == [None if asked else "absent"] * len(chunks)
    assert joined(chunks, "content") == "The fox"


@pytest.mark.parametrize(("ended", "told"), [("stop", "tool_calls"), ("length", "length")])
def test_an_answer_that_was_cut_is_told_so_whatever_it_has_called(ended: str, told: str) -> None:
    room = room_of(ready(chat_template=HERMES), ScriptedSteps(Piece(0, 0, CALL, 1, None, ended)))
    (choice,) = answered(answer, room, messages=MESSAGES, tools=TOOLS)["choices"]
    assert [each["function"]["name"] for each in choice["message"]["tool_calls"]] == ["f"]
    assert choice["finish_reason"] == told


@pytest.mark.parametrize("fields", [{"max_completion_tokens": 5, "max_tokens": 9}, {"max_tokens": 5}])
def test_the_newer_name_of_the_limit_wins(fields: Any) -> None:
    steps = ScriptedSteps(*pieces("a"))
    answered(answer, room_of(ready(chat_template=HERMES), steps), messages=MESSAGES, **fields)
    assert steps.asked[0].sampling.max_tokens == 5


@pytest.mark.parametrize("fields", [{}, {"logprobs": False}, {"logprobs": None}])
def test_alternatives_without_the_tokens_themselves_are_refused(fields: dict[str, Any]) -> None:
    room = room_of(ready(chat_template="a"), ScriptedSteps())
    with pytest.raises(Problem, match="only allowed with logprobs=true") as raised:
        answered(answer, room, messages=MESSAGES, top_logprobs=1, **fields)
    assert raised.value.param == "top_logprobs"


def test_a_too_long_conversation_is_refused_by_its_own_name() -> None:
    room = room_of(ready(chat_template="{{ messages[0].content }}"), ScriptedSteps())
    with pytest.raises(Problem, match="your messages resulted in 1001 tokens") as raised:
        answered(answer, room, messages=[{"role": "user", "content": "a" * 1001}])
    assert (raised.value.code, raised.value.param) == ("context_length_exceeded", "messages")


def test_what_must_have_a_form_is_an_answer_from_its_first_word_on() -> None:
    known = ready("<think>", chat_template="<think>")
    steps = ScriptedSteps(*pieces("{", "}"))
    found = answered(answer, room_of(known, steps), messages=MESSAGES, response_format={"type": "json_object"})
    assert found["choices"][0]["message"] == {"role": "assistant", "content": "{}", "refusal": None}
    assert steps.asked[0].sampling.shown == ()


def test_an_answer_goes_on_as_one_where_the_template_begins_a_thought() -> None:
    known = ready(chat_template="{% for message in messages %}[{{ message.content }}]{% endfor %}{{ '<think>\n' }}")
    steps = ScriptedSteps(*pieces(" fox", "."))
    room = room_of(known, steps)
    begun = [*MESSAGES, {"role": "assistant", "content": "The", "reasoning_content": "So."}]
    found = answered(answer, room, messages=begun, continue_final_message=True)
    assert room.tokens.text(steps.asked[0].prompt) == "[hi]<think>\nSo.\n</think>\n\nThe"
    assert found["choices"][0]["message"]["content"] == " fox."


def test_prompts_are_tokenized_beside_the_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    where = []

    def of_messages(*_: Any, **__: Any) -> Prompt:
        where.append(threading.current_thread())
        return Prompt([1])

    monkeypatch.setattr(Tokens, "of_messages", of_messages)
    answered(app._tokenize, room_of(ready(chat_template="a"), ScriptedSteps()), messages=MESSAGES)
    assert where != [threading.main_thread()]


def refused(known: Ready, **fields: Any) -> Problem:
    """What a chat is refused with."""
    with pytest.raises(Problem) as raised:
        answered(answer, room_of(known, ScriptedSteps()), messages=MESSAGES, **fields)
    return raised.value


def test_a_model_that_writes_nothing_takes_no_chats() -> None:
    problem = refused(ready(chat_template=HERMES, generates=False))
    assert (problem.status, problem.code) == (404, "unsupported_endpoint")


def test_tools_are_refused_where_nobody_knows_how_the_model_calls_them() -> None:
    known = ready(chat_template="{{ tools }}")
    problem = refused(known, tools=TOOLS)
    assert (problem.code, problem.param) == ("unsupported_parameter", "tools")
    found = answered(
        answer, room_of(known, ScriptedSteps(*pieces("a"))), messages=MESSAGES, tools=TOOLS, tool_choice="none"
    )
    assert found["choices"][0]["message"]["content"] == "a"


def test_an_answer_has_the_form_of_a_forced_call_or_that_which_was_asked_for_and_never_both() -> None:
    form = {"type": "json_object"}
    problem = refused(ready(chat_template=HERMES), tools=TOOLS, tool_choice="required", response_format=form)
    assert problem.param == "response_format"
    grammars = []
    options: list[dict[str, Any]] = [
        *({"tool_choice": "required"}, {"response_format": form}, {"response_format": form, "tool_choice": "none"}, {}),
    ]
    for fields in options:
        steps = ScriptedSteps(*pieces("{}"))
        answered(answer, room_of(ready(chat_template=HERMES), steps), messages=MESSAGES, tools=TOOLS, **fields)
        grammars.append(steps.asked[0].sampling.grammar)
    forced, formed, formed_too, free = grammars
    assert "<tool_call>" in forced
    assert formed == formed_too != forced
    assert free is None


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("<tool_call>", "hermes"),
        ("<tool_call><function=f>", None),  # Qwen's coders
        ("<tool_call>f<arg_key>a", None),  # GLM
        ("[TOOL_CALLS]", "mistral"),
        ("[TOOL_CALLS]f[ARGS]", "mistral-named"),
        ("<|python_tag|>", "llama3"),
        ('ipython "parameters"', "llama3"),
        ("ipython", None),
        ("", None),
    ],
)
def test_the_format_of_calls_is_known_by_the_template(template: str, name: str | None) -> None:
    """Of a family that writes them in another way between the same marks they would stay text."""
    found = format_of(template)
    assert (found and found.name) == name


@pytest.mark.parametrize(
    "marks", [("[TOOL_CALLS]",), ("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"), ("<tool_call>", "</tool_call>")], ids=str
)
def test_the_marks_of_calls_are_read_also_where_they_are_special_tokens(marks: tuple[str, ...]) -> None:
    known = ready(*marks, chat_template="{{ tools }}" + "".join(marks))
    shown = []
    options: list[dict[str, Any]] = [{"tools": TOOLS}, {"tools": TOOLS, "tool_choice": "none"}, {}]
    for fields in options:
        steps = ScriptedSteps(*pieces("a"))
        room = room_of(known, steps)
        answered(answer, room, messages=MESSAGES, **fields)
        shown.append(steps.asked[0].sampling.shown)
    assert [sorted(each) for each in shown] == [sorted(room.tokens.ids_of(*marks)), [], []]
    assert len(shown[0]) == len(marks)


@pytest.mark.parametrize(
    ("fields", "text", "calls"),
    [
        ({}, f"{CALL}{CALL}", 2),
        ({"parallel_tool_calls": None}, f"{CALL}{CALL}", 2),
        ({"parallel_tool_calls": False}, f"{CALL}{CALL}", 1),
        ({"tool_choice": "none"}, CALL, 0),
        ({}, CALL.removesuffix("</tool_call>"), 1),
        ({}, "So: <tool_c", 0),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_calls_are_counted_as_the_request_asks_also_at_the_end_of_a_text(
    fields: Any, text: str, calls: int, *, stream: bool
) -> None:
    room = room_of(ready(chat_template=HERMES), ScriptedSteps(*pieces(text, "")))
    found = answered(answer, room, messages=MESSAGES, tools=TOOLS, stream=stream, **fields)
    if stream:
        deltas = [chunk["choices"][0]["delta"] for chunk in found]
        told = [call for delta in deltas for call in delta.get("tool_calls", ())]
        assert [call["index"] for call in told] == list(range(calls))
        content, finished = joined(found, "content"), found[-1]["choices"][0]["finish_reason"]
        assert deltas[0] == {"role": "assistant", "content": ""}
    else:
        (choice,) = found["choices"]
        told, content = choice["message"].get("tool_calls", []), choice["message"]["content"] or ""
        finished = choice["finish_reason"]
    assert [call["function"] for call in told] == [{"name": "f", "arguments": "{}"}] * calls
    assert content == ("" if calls else text)
    assert finished == ("tool_calls" if calls else "stop")


def test_a_token_is_told_of_when_it_comes_though_its_characters_are_not_whole() -> None:
    half, rest = Logprob(96, -0.5, [(96, -0.5), (97, -1.0)]), Logprob(97, -0.25, [(97, -0.25)])
    steps = ScriptedSteps(Piece(0, 0, "", 1, [half]), Piece(0, 0, "é", 1, [rest], "stop"))
    room = room_of(ready(chat_template="a"), steps)
    chunks = answered(answer, room, messages=MESSAGES, stream=True, logprobs=True, top_logprobs=2)
    told = [each for chunk in chunks if (each := chunk["choices"][0]["logprobs"])]
    assert [(len(each["content"]), each["refusal"]) for each in told] == [(1, None), (1, None)]
    assert [each["content"][0]["logprob"] for each in told] == [-0.5, -0.25]
    assert [top["logprob"] for top in told[0]["content"][0]["top_logprobs"]] == [-0.5, -1.0]
    assert told[0]["content"][0]["bytes"] == list(room.tokens.bytes_of(96))
    assert joined(chunks, "content") == "é"
    assert steps.asked[0].sampling.top_logprobs == 2
