"""Chats of the model server, by steps whose words are known."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from tests.model_ready import ready
from tests.model_room import ScriptedSteps, answered, room_of
from workernode.local.server.front import app
from workernode.local.server.front.chat import answer
from workernode.local.server.front.tokens import Tokens
from workernode.local.server.words import Piece

if TYPE_CHECKING:
    import pytest

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


def test_prompts_are_tokenized_beside_the_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    where = []

    def of_messages(*_: Any, **__: Any) -> list[int]:
        where.append(threading.current_thread())
        return [1]

    monkeypatch.setattr(Tokens, "of_messages", of_messages)
    answered(app._tokenize, room_of(ready(chat_template="a"), ScriptedSteps()), messages=MESSAGES)
    assert where != [threading.main_thread()]
