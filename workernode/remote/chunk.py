"""Streamed chunks on their way through: given our identity, read for the bill, and otherwise left byte for byte."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from workernode.remote.errors import Failure, failure_inside, strange
from workernode.remote.utf8 import is_utf8

if TYPE_CHECKING:
    from collections.abc import Iterable

NULL = msgspec.Raw(b"null")
_DONE = b"[DONE]"
_NOTHING = msgspec.Raw(b"[]")
_COMPLETION = msgspec.Raw(b'"text_completion"')
_CHAT_CHUNK = msgspec.Raw(b'"chat.completion.chunk"')


class _Function(msgspec.Struct, gc=False):
    arguments: str | None = None


class _ToolCall(msgspec.Struct, gc=False):
    function: _Function | None = None


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    delta: _Delta | None = None
    text: str | None = None
    """A completion's, which has no delta."""
    finish_reason: str | None = None


_top = msgspec.json.Decoder(dict[str, msgspec.Raw])
_choices = msgspec.json.Decoder(list[_Choice])
_encoder = msgspec.json.Encoder()


def identity(*, answer_id: str, created_s: int, model: str, completion: bool = False) -> dict[str, msgspec.Raw]:
    """The fields that every chunk of an answer, and a whole answer, has from us and not from the upstream.

    Chunks of a ``completion`` are called what its whole answer is; those of a chat are left their names.
    """
    own = {
        "id": msgspec.Raw(_encoder.encode(answer_id)),
        "created": msgspec.Raw(_encoder.encode(created_s)),
        "model": msgspec.Raw(_encoder.encode(model)),
    }
    return {**own, "object": _COMPLETION} if completion else own


class Chunks:
    """The chunks of one answer. Feed it the events' payloads in order, and put :meth:`last` at the end if asked.

    ``done`` is set by ``[DONE]``, ``failure`` by an error or something unreadable; nothing is taken after either.
    ``speaking`` is set by the first chunk that says more than who speaks. ``usage`` is the upstream's latest figures.
    """

    def __init__(self, own: dict[str, msgspec.Raw], *, usage_asked: bool, key: str | None) -> None:
        self._own = own
        self._usage_asked = usage_asked
        self._key = key
        self._usage_chunk: dict[str, msgspec.Raw] | None = None
        self._seen: set[int] = set()
        self._ended: set[int] = set()
        self.done = False
        self.failure: Failure | None = None
        self.speaking = False
        self.text_chars = 0
        self.finish_reason: str | None = None
        self.usage: msgspec.Raw | None = None

    def ended(self, n: int) -> bool:
        """Whether all of ``n`` choices have a finish reason: then the answer is whole, even without ``[DONE]``."""
        return len(self._ended) >= n and self._ended >= self._seen

    def take(self, payloads: Iterable[bytes]) -> bytes:
        """The chunks to pass on, as lines."""
        chunks = []
        for payload in payloads:
            if payload == _DONE:
                self.done = True
                break
            try:
                chunk = self._rewritten(payload)
            except Failure as failure:
                self.failure = failure
                break
            if chunk is not None:
                chunks.append(chunk)
        return _encoder.encode_lines(chunks)

    def last(self, usage: msgspec.Raw) -> bytes:
        """The line with the usage, after all others."""
        chunk = self._usage_chunk or {"object": _CHAT_CHUNK, **self._own}
        return _encoder.encode_lines([{**chunk, "choices": _NOTHING, "usage": usage}])

    def _rewritten(self, payload: bytes) -> dict[str, msgspec.Raw] | None:
        # Line breaks in valid JSON are white space, and would end the line (or the event) early that this becomes.
        payload = payload.replace(b"\n", b" ").replace(b"\r", b" ")
        try:
            chunk = _top.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise strange() from None
        if not is_utf8(payload):
            raise strange()
        choices = chunk.get("choices", NULL)
        if choices == NULL and ("message" in chunk or "detail" in chunk):
            raise failure_inside(payload, key=self._key)
        if "error" in chunk and chunk["error"] != NULL:
            raise failure_inside(payload, key=self._key)
        usage = chunk.pop("usage", NULL)
        if usage != NULL:
            self.usage = usage
        chunk.update(self._own)
        if choices == NULL:
            return None  # no chunk of an answer: some providers send heartbeats in this form
        if not self._read(choices) and usage != NULL:
            self._usage_chunk = chunk
            return None
        if self._usage_asked:
            chunk["usage"] = NULL
        return chunk

    def _read(self, choices: msgspec.Raw) -> bool:
        """Note what the choices say. False if there are none."""
        try:
            read = _choices.decode(choices)
        except (msgspec.ValidationError, UnicodeDecodeError):
            read = _leniently(choices)
        if not self.speaking:
            self.speaking = _speaks(choices)
        for choice in read:
            self._seen.add(choice.index)
            if choice.delta is not None:
                self.text_chars += _chars(choice.delta)
            elif choice.text is not None:
                self.text_chars += len(choice.text)
            if choice.finish_reason is not None:
                self._ended.add(choice.index)
                self.finish_reason = choice.finish_reason
        return bool(read)


def _chars(delta: _Delta) -> int:
    # `reasoning` and `reasoning_content` are two names of the same text, where both are given.
    chars = len(delta.content or "") + len(delta.reasoning_content or delta.reasoning or "") + len(delta.refusal or "")
    for call in delta.tool_calls or ():
        if call.function is not None:
            chars += len(call.function.arguments or "")
    return chars


def _speaks(choices: msgspec.Raw) -> bool:
    parsed = _parsed(choices)
    for choice in parsed if isinstance(parsed, list) else ():
        delta = choice.get("delta") if isinstance(choice, dict) else None
        if isinstance(delta, dict) and any(value for name, value in delta.items() if name != "role"):
            return True
        if isinstance(choice, dict) and (choice.get("finish_reason") or choice.get("text")):
            return True
    return False


def _leniently(choices: msgspec.Raw) -> list[_Choice]:
    """For a dialect whose fields have other types: its text is counted by the length of the whole delta."""
    parsed = _parsed(choices)
    if not isinstance(parsed, list):
        raise strange()
    read = []
    for number, choice in enumerate(parsed):
        if not isinstance(choice, dict):
            raise strange()
        index, finish_reason, delta = choice.get("index"), choice.get("finish_reason"), choice.get("delta")
        read.append(
            _Choice(
                index=index if isinstance(index, int) else number,
                delta=_Delta(content=_text(delta) or _text(choice.get("text"))),
                finish_reason=None if finish_reason is None else str(finish_reason),
            )
        )
    return read


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "".join(_text(part) for name, part in value.items() if name not in ("role", "type"))
    if isinstance(value, list):
        return "".join(_text(part) for part in value)
    return value if isinstance(value, str) else ""


def _parsed(data: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise strange() from None
