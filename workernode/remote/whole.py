"""A whole answer on its way through: given our identity, read for the bill, and otherwise left byte for byte."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from workernode.remote.dialects.choices import Choices, begins
from workernode.remote.dialects.finish import FinishReason
from workernode.remote.dialects.request import NULL
from workernode.remote.errors import Failure, empty, failure_inside, strange
from workernode.remote.mending import NO_ERROR, mended
from workernode.remote.tokens import ByLength
from workernode.remote.usage import as_json, usage_of
from workernode.remote.utf8 import is_utf8

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wire.usage import Usage
    from workernode.remote.dialects.choices import Part
    from workernode.remote.tokens import TokenCounter

_BY_LENGTH = ByLength()
_NO_REASON = (None, "", "null")


class _Message(msgspec.Struct, gc=False):
    role: str
    content: msgspec.Raw = NULL
    reasoning: msgspec.Raw = NULL
    tool_calls: msgspec.Raw = NULL


class _Choice(msgspec.Struct, gc=False):
    """One as OpenAI writes it. Its text is not read: it may be large."""

    index: int
    message: _Message | None = None
    text: msgspec.Raw = NULL
    finish_reason: FinishReason | None = None
    error: msgspec.Raw = NULL
    usage: msgspec.Raw = NULL


class _Ending(msgspec.Struct, gc=False):
    finish_reason: Any = None


class _Calling(msgspec.Struct, gc=False):
    tool_calls: list[msgspec.Raw] | None = None


_top = msgspec.json.Decoder(dict[str, msgspec.Raw])
_choices = msgspec.json.Decoder(list[_Choice])
_endings = msgspec.json.Decoder(list[_Ending])
_calling = msgspec.json.Decoder(_Calling | None)
_objects = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_anything = msgspec.json.Decoder(float_hook=float)  # also a number that is too large for one, which passes as it is
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True)
class Whole:
    """An answer as the client shall see it, and what it used."""

    body: bytes
    usage: Usage
    finish_reason: str | None


def rewritten(
    answer: bytes | bytearray,
    own: dict[str, msgspec.Raw],
    *,
    request_body: bytes,
    key: str | None,
    part: Part = "message",
    choices: Choices | None = None,
    counter: TokenCounter = _BY_LENGTH,
) -> Whole:
    """Replace the fields of ``own`` at the top, mend choices that are not as OpenAI writes them, and add the estimated
    usage where the upstream gave none.

    Raises :class:`workernode.remote.errors.Failure` for anything that is no answer.
    """
    ours = partial(_rewritten, own=own, request_body=request_body, key=key, part=part, counter=counter)
    try:
        return ours(answer, choices=choices or Choices(key=key, sent=request_body))
    except Failure:
        if (again := mended(answer)) is None:
            raise
    return ours(again, choices=choices or Choices(key=key, sent=request_body))


def _rewritten(
    answer: bytes | bytearray,
    *,
    own: dict[str, msgspec.Raw],
    request_body: bytes,
    key: str | None,
    part: Part,
    choices: Choices,
    counter: TokenCounter,
) -> Whole:
    try:
        top = _top.decode(answer)
        endings = _endings.decode(top.get("choices", NULL))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise failure_inside(answer if len(answer) < 2**20 else b"", key=key, sent=request_body) from None
    if top.get("error", NULL) not in NO_ERROR or (not endings and "error" in top):
        raise failure_inside(answer, key=key, sent=request_body)
    if not is_utf8(answer):
        raise strange()
    if not endings:
        raise empty()
    if any(ending.finish_reason in _NO_REASON for ending in endings):
        top["choices"] = _ended(top["choices"])
        endings = _endings.decode(top["choices"])
    figures = top.get("usage", NULL)
    if choices.always or _is_odd(top["choices"], part):
        top["choices"] = choices.mended(top["choices"], part=part)
        endings = _endings.decode(top["choices"])
        if figures == NULL and choices.usage is not None:
            figures = top["usage"] = choices.usage
    given = None if figures == NULL else figures
    usage = usage_of(given, text_chars=0, body=request_body)
    if usage.estimated or (usage.completion_tokens == 0 and b'"echo"' not in request_body):
        texts = list(_texts(_anything.decode(top["choices"])))
        usage = usage_of(given, text_chars=sum(map(len, texts)), body=request_body, texts=texts, counter=counter)
        if given is None:
            top["usage"] = as_json(usage)
    top.update(own)
    reasons = [ending.finish_reason for ending in endings if ending.finish_reason is not None]
    return Whole(joined(top), usage, str(reasons[-1]) if reasons else None)


def as_chunks(answer: bytes | bytearray) -> list[bytes]:
    """The chunks of a stream that was answered as a whole; of anything else itself, to be read for its error."""
    try:
        top = _top.decode(answer)
        choices = _objects.decode(top.get("choices", NULL))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [bytes(answer)]
    if top.get("error", NULL) not in NO_ERROR or not choices:
        return [bytes(answer)]
    figures = top.pop("usage", NULL)
    for number, choice in enumerate(choices):
        choice.setdefault("index", msgspec.Raw(b"%d" % number))
        if "message" in choice:
            choice["delta"] = choice.pop("message")
    chunks = [joined({**top, "choices": msgspec.Raw(_encoder.encode([choice]))}) for choice in choices]
    if figures != NULL:
        chunks.append(joined({**top, "choices": msgspec.Raw(b"[]"), "usage": figures}))
    return [*chunks, b"[DONE]"]


def joined(top: dict[str, msgspec.Raw]) -> bytes:
    """The object's JSON, each value as it was spelled."""
    # An encoder's buffer would grow to half as much again; of a large answer that is worth avoiding.
    parts: list[bytes | msgspec.Raw] = []
    for name, value in top.items():
        parts += (b"," if parts else b"{", _encoder.encode(name), b":", value)
    parts.append(b"}")
    return b"".join(parts)


def _is_odd(choices: msgspec.Raw, part: Part) -> bool:
    try:
        read = _choices.decode(choices)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True
    for choice in read:
        message = choice.message
        if choice.error != NULL or choice.usage != NULL or (message is None) is (part == "message"):
            return True
        if message is not None and (
            begins(message.content, b"[") or message.reasoning != NULL or message.tool_calls != NULL
        ):
            return True
    return False


def _ended(choices: msgspec.Raw) -> msgspec.Raw:
    """Choices with the finish reasons that the upstream left out, as the end of a stream gets them: OpenAI's client for
    .NET reads no whole answer without."""
    read = _objects.decode(choices)
    for choice in read:
        if msgspec.json.decode(choice.get("finish_reason", NULL)) in _NO_REASON:
            choice["finish_reason"] = msgspec.Raw(b'"tool_calls"' if _calls(choice) else b'"stop"')
    return msgspec.Raw(_encoder.encode(read))


def _calls(choice: dict[str, msgspec.Raw]) -> bool:
    try:
        said = _calling.decode(choice.get("message", NULL))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False  # who mends it says what it is
    return said is not None and bool(said.tool_calls)


def _texts(choices: Any) -> Iterator[str]:
    for choice in choices:
        yield from _strings(choice.get("message", choice.get("text")))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, part in value.items():
            if name not in ("role", "type", "id"):
                yield from _strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part)
    elif isinstance(value, str):
        yield value
