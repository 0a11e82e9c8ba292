"""Chats of the model server, by steps whose words are known."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.model_ready import ready
from tests.model_room import ScriptedSteps, answered, room_of
from workernode.local.server.front import app
from workernode.local.server.front.chat import answer
from workernode.local.server.front.tokens import Prompt, Tokens
from workernode.local.server.words import Piece

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
    call = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    for before, after, text in (("\n So: ", "\n", "\n So: \n"), ("", "", None)):
        answers = []
        for stream in (False, True):
            room = room_of(ready(chat_template=HERMES), ScriptedSteps(*pieces(before, call, after)))
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


@pytest.mark.parametrize(("ended", "told"), [("stop", "tool_calls"), ("length", "length")])
def test_an_answer_that_was_cut_is_told_so_whatever_it_has_called(ended: str, told: str) -> None:
    call = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    room = room_of(ready(chat_template=HERMES), ScriptedSteps(Piece(0, 0, call, 1, None, ended)))
    (choice,) = answered(answer, room, messages=MESSAGES, tools=TOOLS)["choices"]
    assert [each["function"]["name"] for each in choice["message"]["tool_calls"]] == ["f"]
    assert choice["finish_reason"] == told


@pytest.mark.parametrize("fields", [{"max_completion_tokens": 5, "max_tokens": 9}, {"max_tokens": 5}])
def test_the_newer_name_of_the_limit_wins(fields: Any) -> None:
    steps = ScriptedSteps(*pieces("a"))
    answered(answer, room_of(ready(chat_template=HERMES), steps), messages=MESSAGES, **fields)
    assert steps.asked[0].sampling.max_tokens == 5


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
