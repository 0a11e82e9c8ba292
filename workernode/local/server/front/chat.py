"""``POST /v1/chat/completions``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from workernode.local.server.front import grammars
from workernode.local.server.front.asked import Chat, read, sampling_of
from workernode.local.server.front.problem import Problem, unsupported
from workernode.local.server.front.room import Room, usage
from workernode.local.server.front.tools import ToolCall, ToolReader
from workernode.local.server.words import Logprob, Submit

if TYPE_CHECKING:
    from workernode.local.server.front.client import Call
    from workernode.local.server.front.sending import Sender
    from workernode.local.server.front.thoughts import Part, ThoughtFormat, ThoughtReader
    from workernode.local.server.words import Piece, Sampling


async def answer(room: Room, body: bytes, sender: Sender) -> None:
    """Answer a conversation, whole or as a stream. Raises :class:`Problem`."""
    room.require_text()
    asked = read(body, Chat)
    # In a thread: of a long conversation it takes seconds, in which every stream would stand still.
    prompt = await asyncio.to_thread(room.tokens.of_chat, asked)
    tokens = room.tokens.or_begin(prompt.tokens)
    grammar = _grammar(room, asked)
    # What must have a form is an answer from its first word on.
    thoughts = None if grammar else prompt.thoughts
    sampling = _sampling(room, asked, len(tokens), grammar, thoughts)
    choices = asked.n or 1
    tool_format = room.tool_format if _calls_tools(asked) else None
    async with room.client.call() as call:
        call.submit(lambda number: Submit(number, tokens, sampling, choices))
        names = grammars.functions_of(asked.tools)
        single = asked.parallel_tool_calls is False
        voices = [
            _Voice(
                room,
                ToolReader(tool_format, names, single=single) if tool_format else None,
                thoughts.reader(inside=prompt.inside) if thoughts else None,
                sampling.shown,
            )
            for _ in range(choices)
        ]
        if asked.stream:
            await _stream(room, asked, call, voices, len(tokens), sender)
        else:
            await _whole(room, call, voices, len(tokens), sender, logprobs=bool(asked.logprobs))


def _grammar(room: Room, asked: Chat) -> str | None:
    """The form that the answer must have."""
    grammar = grammars.of_response_format(asked.response_format)
    if not _calls_tools(asked):
        return grammar
    if room.tool_format is None:
        raise unsupported("tools", "The format in which this model calls tools is not known.")
    forced = grammars.of_tool_choice(asked.tool_choice, asked.tools, room.tool_format)
    if forced and grammar:
        raise Problem("A forced tool call leaves no room for response_format.", param="response_format")
    return forced or grammar


def _sampling(
    room: Room, asked: Chat, prompt_tokens: int, grammar: str | None, thoughts: ThoughtFormat | None
) -> Sampling:
    if asked.top_logprobs is not None and not asked.logprobs:
        raise Problem("top_logprobs is only allowed with logprobs=true.", param="top_logprobs")
    # Where they are special tokens, they would be left out of the text, and nothing be found in it.
    marks = thoughts.marks if thoughts else ()
    if _calls_tools(asked) and room.tool_format is not None:
        marks += room.tool_format.marks
    return sampling_of(
        asked,
        ready=room.ready,
        prompt_tokens=prompt_tokens,
        max_tokens=asked.max_completion_tokens or asked.max_tokens,
        top_logprobs=(asked.top_logprobs or 0) if asked.logprobs else None,
        grammar=grammar,
        seed=room.flags.seed,
        shown=room.tokens.ids_of(*marks),
    )


def _calls_tools(asked: Chat) -> bool:
    return bool(asked.tools) and asked.tool_choice != "none"


class _Voice:
    """One choice: its text, thoughts, calls and logprobs so far."""

    def __init__(
        self, room: Room, reader: ToolReader | None, thoughts: ThoughtReader | None, shown: tuple[int, ...]
    ) -> None:
        self._room = room
        self._shown = shown
        self._reader = reader
        self._thoughts = thoughts
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.reasoning_tokens = 0
        self.calls: list[ToolCall] = []
        self.logprobs: list[dict[str, Any]] = []
        self.finish_reason: str | None = None

    def take(self, piece: Piece) -> list[dict[str, Any]]:
        """The deltas that a piece makes."""
        deltas = []
        for field, text in self._parts(piece):
            if field == "reasoning_content":
                self.reasoning.append(text)
                deltas.append({"reasoning_content": text})
            else:
                deltas += [self._delta(each) for each in (self._reader.push(text) if self._reader else [text])]
        if self._reader is not None and piece.finish_reason is not None:
            deltas += [self._delta(each) for each in self._reader.flush()]
        told = self._room.tokens.told(piece.logprobs or [], self._shown)
        self.logprobs += [_shown(self._room, each) for each in told]
        if piece.finish_reason is not None:
            self.finish_reason = "tool_calls" if self.calls and piece.finish_reason == "stop" else piece.finish_reason
        return deltas

    def _parts(self, piece: Piece) -> list[Part]:
        if self._thoughts is None:
            return [("content", piece.text)] if piece.text else []
        parts = self._thoughts.push(piece.text)
        if self._thoughts.thinks:
            self.reasoning_tokens += piece.tokens
        return parts if piece.finish_reason is None else parts + self._thoughts.flush()

    def _delta(self, part: str | ToolCall) -> dict[str, Any]:
        if isinstance(part, str):
            self.text.append(part)
            return {"content": part}
        self.calls.append(part)
        return {"tool_calls": [{"index": len(self.calls) - 1, **_call(part)}]}


async def _whole(
    room: Room, call: Call, voices: list[_Voice], prompt_tokens: int, sender: Sender, *, logprobs: bool
) -> None:
    generated = 0
    while any(voice.finish_reason is None for voice in voices):
        piece = await call.word()
        generated += piece.tokens
        voices[piece.choice].take(piece)
    choices = []
    for index, voice in enumerate(voices):
        text = "".join(voice.text)
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if voice.reasoning:
            message["reasoning_content"] = "".join(voice.reasoning)
        if voice.calls:
            message["content"] = text or None
            message["tool_calls"] = [_call(each) for each in voice.calls]
        told = {"content": voice.logprobs, "refusal": None} if logprobs else None
        choices.append({"index": index, "message": message, "logprobs": told, "finish_reason": voice.finish_reason})
    head = room.head("chat.completion", "chatcmpl")
    await sender.whole(head | {"choices": choices, "usage": usage(prompt_tokens, generated, _reasoning(voices))})


async def _stream(
    room: Room, asked: Chat, call: Call, voices: list[_Voice], prompt_tokens: int, sender: Sender
) -> None:
    head = room.head("chat.completion.chunk", "chatcmpl")
    if asked.usage_asked:
        head["usage"] = None
    silent = set(range(len(voices)))
    generated = 0
    while any(voice.finish_reason is None for voice in voices):
        piece = await call.word()
        generated += piece.tokens
        voice = voices[piece.choice]
        if piece.choice in silent:
            silent.remove(piece.choice)
            await sender.chunk(head | {"choices": [_choice(piece.choice, {"role": "assistant", "content": ""})]})
        known = len(voice.logprobs)
        deltas = voice.take(piece)
        told = {"content": voice.logprobs[known:], "refusal": None} if asked.logprobs else None
        if told and told["content"] and not deltas:
            deltas = [{"content": ""}]  # the token is told of, though its characters are not whole
        for number, delta in enumerate(deltas):
            await sender.chunk(head | {"choices": [_choice(piece.choice, delta, told if number == 0 else None)]})
        if voice.finish_reason is not None:
            last = _choice(piece.choice, {}) | {"finish_reason": voice.finish_reason}
            await sender.chunk(head | {"choices": [last]})
    if asked.usage_asked:
        await sender.chunk(head | {"choices": [], "usage": usage(prompt_tokens, generated, _reasoning(voices))})
    await sender.done()


def _reasoning(voices: list[_Voice]) -> int:
    return sum(voice.reasoning_tokens for voice in voices)


def _choice(index: int, delta: dict[str, Any], logprobs: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _shown(room: Room, told: Logprob) -> dict[str, Any]:
    def entry(token: int, logprob: float | None) -> dict[str, Any]:
        return {"token": room.tokens.shown(token), "logprob": logprob, "bytes": list(room.tokens.bytes_of(token))}

    return entry(told.token, told.logprob) | {"top_logprobs": [entry(*each) for each in told.top]}
