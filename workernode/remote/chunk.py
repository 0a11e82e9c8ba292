"""Streamed chunks on their way through: given our identity, read for the bill, and otherwise left byte for byte."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from workernode.remote.dialects.choices import COMPLETE, NO_ARGUMENTS, Choices
from workernode.remote.dialects.finish import FinishReason
from workernode.remote.dialects.request import NULL
from workernode.remote.errors import Failure, failure_inside, strange
from workernode.remote.mending import NO_ERROR, mended
from workernode.remote.splice import Splice
from workernode.remote.utf8 import is_utf8

if TYPE_CHECKING:
    from collections.abc import Iterable, Set

    from workernode.remote.dialects.choices import Part

_DONE = b"[DONE]"
_DONE_BYTES_MAX = 16
_ERROR_FIELDS = frozenset(("message", "detail", "errors", "error_code"))
"""Of what has no choices: an error, and no heartbeat."""
_ROLE = b'"role":"assistant",'
_NOTHING = msgspec.Raw(b"[]")
CHOICES_MAX = 2048
"""Of a stream: as many as a gateway lets anybody ask for. More would keep the node from everything else."""
HELD_BYTES_MAX = 1024 * 1024
"""More than this of an answer does not wait for the arguments of a call."""


class _Function(msgspec.Struct, gc=False):
    arguments: str | None = None
    name: str | None = None


class _ToolCall(msgspec.Struct, gc=False):
    index: int
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct, gc=False):
    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _AnyChoice(msgspec.Struct, gc=False):
    """A choice as far as it is read. A completion's has ``text`` and no delta."""

    index: int
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Choice(_AnyChoice, gc=False):
    """One as OpenAI writes it."""

    finish_reason: FinishReason | None = None
    error: msgspec.Raw = NULL
    usage: msgspec.Raw = NULL


class _Groq(msgspec.Struct, gc=False):
    usage: msgspec.Raw = NULL
    error: msgspec.Raw = NULL


_top = msgspec.json.Decoder(dict[str, msgspec.Raw])
_choices = msgspec.json.Decoder(list[_Choice])
_any_choices = msgspec.json.Decoder(list[_AnyChoice])
_groq = msgspec.json.Decoder(_Groq)
_anything = msgspec.json.Decoder(float_hook=float)  # also a number that is too large for one, which passes as it is
_encoder = msgspec.json.Encoder()


def identity(
    *, answer_id: str, created_s: int, model: str, completion: bool = False, stream: bool = True
) -> dict[str, msgspec.Raw]:
    """The fields that every chunk of an answer, and a whole answer, has from us and not from the upstream."""
    kind = "text_completion" if completion else "chat.completion.chunk" if stream else "chat.completion"
    own = {"id": answer_id, "object": kind, "created": created_s, "model": model}
    return {name: msgspec.Raw(_encoder.encode(value)) for name, value in own.items()}


class Chunks:
    """The chunks of one answer. Feed it the events' payloads in order, and put :meth:`last` at the end.

    ``done`` is set by ``[DONE]``, ``failure`` by an error or something unreadable; nothing is taken after either.
    ``speaking`` is set by the first chunk that says more than who speaks. ``usage`` is the upstream's latest figures.
    ``texts`` is what was said, kept only with ``keep_text``; ``text_chars`` its length. ``sent`` is the request's body,
    which an error may repeat.
    """

    def __init__(
        self,
        own: dict[str, msgspec.Raw],
        *,
        usage_asked: bool,
        choices: Choices | None = None,
        part: Part = "delta",
        key: str | None = None,
        sent: bytes | None = None,
        keep_text: bool = False,
    ) -> None:
        self._own = own
        self._usage_asked = usage_asked
        self._mender = choices or Choices(key=key, sent=sent)
        self._part = part
        self._key = key
        self._sent = sent
        self._keep_text = keep_text
        self._splice = Splice()
        self._usage_chunk: dict[str, msgspec.Raw] | None = None
        self._seen = self._mender.begun
        self._ended: set[int] = set()
        self._calls: set[tuple[int, int]] = set()
        """Tools' calls, by the index of their choice and their own."""
        self._bare: set[tuple[int, int]] = set()
        """Those of functions of which no argument has come."""
        self._held: list[tuple[set[tuple[int, int]], bytes]] = []
        """Lines that wait for arguments, or to be sure that none come, each with the calls that have to be whole before
        it."""
        self._held_bytes = 0
        self._held_for: set[tuple[int, int]] = set()
        """All of these calls: to look through the lines for each further one would take longer and longer."""
        self.done = False
        self.failure: Failure | None = None
        self.speaking = False
        self.text_chars = 0
        self.texts: list[str] = []
        self.finish_reason: str | None = None
        self.usage: msgspec.Raw | None = None

    @property
    def empty(self) -> bool:
        """Whether it is over and had no choice at all."""
        return self.done and not self._seen

    def ended(self, n: int) -> bool:
        """Whether all of ``n`` choices have a finish reason: then the answer is whole, even without ``[DONE]``."""
        return len(self._ended) >= n and self._ended >= self._seen

    def take(self, payloads: Iterable[bytes]) -> bytes:
        """The chunks to pass on, as lines."""
        lines = []
        for payload in payloads:
            if payload == _DONE or (len(payload) < _DONE_BYTES_MAX and payload.strip() == _DONE):
                self.done = True
                break
            bare, begun = (self._bare.copy(), self._calls.copy()) if self._bare else (None, None)
            try:
                line = self._spliced(payload) or self._mended(payload)
            except Failure as failure:
                self.failure = failure
                break
            if bare and begun:
                lines += self._in_turn(line, bare, {index for index, _ in self._calls - begun})
            else:
                lines.append(line)
        return b"".join(lines)

    def endings(self) -> bytes:
        """The lines with the finish reasons that the upstream left out."""
        lines = []
        for index in sorted(self._seen - self._ended):
            said: dict[str, Any] = {"text": ""} if self._part == "text" else {"delta": {}}
            self.finish_reason = "tool_calls" if any(choice == index for choice, _ in self._calls) else "stop"
            lines += self._released()
            lines += self._arguments({place for place in self._bare if place[0] == index})
            lines.append(self._line({"index": index, **said, "logprobs": None, "finish_reason": self.finish_reason}))
        return b"".join(lines)

    def last(self, usage: msgspec.Raw) -> bytes:
        """The line with the usage, after all others."""
        chunk = self._usage_chunk or self._own
        return _encoder.encode({**chunk, "choices": _NOTHING, "usage": usage}) + b"\n"

    def _in_turn(self, line: bytes, bare: set[tuple[int, int]], beginning: set[int]) -> list[bytes]:
        """The lines that may go now, where ``bare`` calls had no arguments before this one. In choices where it begins
        other calls, clients take those before for whole, and must have their arguments: it waits for these."""
        before = {place for place in bare if place[0] in beginning}
        self._held.append((before, line))
        self._held_bytes += len(line)
        self._held_for |= before
        if any(index not in self._ended for index, _ in self._held_for & self._bare):
            if self._held_bytes <= HELD_BYTES_MAX:
                return []
            for calls, _ in self._held:
                calls.clear()
        before.update(place for place in self._bare if place[0] in self._ended)
        return self._released()

    def _released(self) -> list[bytes]:
        held, self._held, self._held_bytes, self._held_for = self._held, [], 0, set()
        return [each for before, line in held for each in (*self._arguments(before & self._bare), line)]

    def _arguments(self, over: Set[tuple[int, int]]) -> list[bytes]:
        """The lines with the arguments of calls that are over, where the upstream left them out."""
        self._bare.difference_update(over)
        if self.finish_reason not in COMPLETE:
            return []
        calls = ((index, {"index": call, "function": {"arguments": NO_ARGUMENTS}}) for index, call in sorted(over))
        return [
            self._line({"index": index, "delta": {"tool_calls": [call]}, "logprobs": None, "finish_reason": None})
            for index, call in calls
        ]

    def _line(self, choice: dict[str, Any]) -> bytes:
        chunk = {**self._own, "choices": [choice], **({"usage": None} if self._usage_asked else {})}
        return _encoder.encode(chunk) + b"\n"

    def _spliced(self, payload: bytes) -> bytes | None:
        """The line of a chunk that is as OpenAI writes it and differs from others in its choices only."""
        choices = self._splice.choices_of(payload)
        if choices is None or b"\n" in payload:
            return None
        try:
            read = _choices.decode(choices)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if not read:
            return None
        if self._is_odd(read):
            # Some say in each chunk who speaks. No text can hold these bytes, for its quotation marks are escaped.
            choices = choices.replace(_ROLE, b"")
            read = _choices.decode(choices)
            if self._is_odd(read):
                return None
        self._note(read, choices)
        return self._splice.line(choices)

    def _mended(self, payload: bytes) -> bytes:
        try:
            return self._rewritten(payload)
        except Failure:
            if (again := mended(payload)) is None:
                raise
        return self._rewritten(again)

    def _rewritten(self, payload: bytes) -> bytes:
        # Line breaks in valid JSON are white space, and would end the line (or the event) early that this becomes.
        payload = payload.replace(b"\n", b" ").replace(b"\r", b" ")
        try:
            theirs = _top.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise strange() from None
        if not is_utf8(payload):
            raise strange()
        choices = theirs.get("choices", NULL)
        if choices == NULL and not _ERROR_FIELDS.isdisjoint(theirs):
            raise failure_inside(payload, key=self._key, sent=self._sent)
        error = theirs.get("error", NULL)
        if error != NULL and (choices == NULL or error not in NO_ERROR):
            raise failure_inside(payload, key=self._key, sent=self._sent)
        chunk = dict(theirs)
        usage = self._read_usage(chunk)
        chunk.update(self._own)
        if choices == NULL:
            return b""  # no chunk of an answer: some providers send heartbeats in this form
        chunk["choices"], empty = self._read(choices)
        if empty and usage:
            self._usage_chunk = chunk
            return b""
        if self._usage_asked:
            chunk["usage"] = NULL
        if not empty and not usage:
            self._splice.learn(payload, theirs, chunk)
        return _encoder.encode(chunk) + b"\n"

    def _read_usage(self, chunk: dict[str, msgspec.Raw]) -> bool:
        """Take the figures out of a chunk, and say whether there were any."""
        usage = chunk.pop("usage", NULL)
        if "x_groq" in chunk:
            try:
                groq = _groq.decode(chunk["x_groq"])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                groq = _Groq()
            if groq.error not in NO_ERROR:  # why the stream ends early
                raise failure_inside(b'{"error":%b}' % bytes(groq.error), key=self._key, sent=self._sent)
            usage = groq.usage if usage == NULL else usage
        if usage != NULL:
            self.usage = usage
        return usage != NULL

    def _read(self, choices: msgspec.Raw) -> tuple[msgspec.Raw, bool]:
        """Note what the choices say; they in OpenAI's form, and whether there are none."""
        read: list[_Choice] | list[_AnyChoice]
        try:
            read = _choices.decode(choices)
            odd = self._is_odd(read)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            odd = True
        if odd:
            choices = self._mender.mended(choices, part=self._part, said=self.text_chars > 0)
            if self._mender.usage is not None:
                self.usage = self._mender.usage
            try:
                read = _any_choices.decode(choices)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                raise strange() from None
        self._note(read, choices)
        return choices, not read

    def _is_odd(self, read: list[_Choice]) -> bool:
        """Whether something is as OpenAI does not write it, though it has the right types."""
        if self._mender.always:
            return True
        for choice in read:
            if choice.error != NULL or choice.usage != NULL:
                return True
            delta = choice.delta
            if delta is None:
                if self._part == "delta":
                    return True
                continue
            if delta.reasoning is not None:
                return True
            if delta.role is not None if choice.index in self._seen else not delta.role:
                return True
            # The first part of a tool's call may lack what the later ones must not have.
            if delta.tool_calls and any(self._begins(choice.index, call) for call in delta.tool_calls):
                return True
        return False

    def _begins(self, index: int, call: _ToolCall) -> bool:
        """Whether a fragment of a tool's call is its first one, or says what that has said."""
        named = call.function is not None and call.function.name
        return bool(call.id or named) or (index, call.index) not in self._calls

    def _note(self, read: list[_Choice] | list[_AnyChoice], choices: bytes | msgspec.Raw) -> None:
        if not self.speaking:
            self.speaking = _speaks(choices)
        for choice in read:
            index = choice.index
            self._seen.add(index)
            if len(self._seen) > CHOICES_MAX:
                raise strange()
            text = choice.text if choice.delta is None else _said(choice.delta)
            if text:
                self.text_chars += len(text)
                if self._keep_text:
                    self.texts.append(text)
            if choice.delta is not None and choice.delta.tool_calls:
                for call in choice.delta.tool_calls:
                    self._note_call((index, call.index), call)
            if choice.finish_reason is not None:
                self._ended.add(index)
                self.finish_reason = choice.finish_reason

    def _note_call(self, place: tuple[int, int], call: _ToolCall) -> None:
        if call.function is not None:
            if call.function.arguments:
                self._bare.discard(place)
            elif place not in self._calls:
                self._bare.add(place)
        self._calls.add(place)


def _said(delta: _Delta) -> str:
    text = delta.content or ""
    if delta.reasoning_content:
        text += delta.reasoning_content
    if delta.refusal:
        text += delta.refusal
    for call in delta.tool_calls or ():
        if call.function is not None and call.function.arguments:
            text += call.function.arguments
    return text


def _speaks(choices: bytes | msgspec.Raw) -> bool:
    for choice in _anything.decode(choices):
        delta = choice.get("delta")
        if isinstance(delta, dict) and any(value for name, value in delta.items() if name != "role"):
            return True
        if choice.get("finish_reason") or choice.get("text"):
            return True
    return False
