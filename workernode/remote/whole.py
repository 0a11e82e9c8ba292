"""A whole answer on its way through: given our identity, read for the bill, and otherwise left byte for byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from workernode.remote.chunk import NULL
from workernode.remote.errors import failure_inside, strange
from workernode.remote.usage import as_json, usage_of
from workernode.remote.utf8 import is_utf8

if TYPE_CHECKING:
    from wire.usage import Usage


class _Choice(msgspec.Struct, gc=False):
    finish_reason: Any = None


_top = msgspec.json.Decoder(dict[str, msgspec.Raw])
_choices = msgspec.json.Decoder(list[_Choice])
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True)
class Whole:
    """An answer as the client shall see it, and what it used."""

    body: bytes
    usage: Usage
    finish_reason: str | None


def rewritten(answer: bytes | bytearray, own: dict[str, msgspec.Raw], *, request_body: bytes, key: str | None) -> Whole:
    """Replace the fields of ``own`` at the top; add the estimated usage where the upstream gave none.

    Raises :class:`workernode.remote.errors.Failure` for anything that is no answer.
    """
    try:
        top = _top.decode(answer)
        choices = _choices.decode(top.get("choices", NULL))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise failure_inside(answer if len(answer) < 2**20 else b"", key=key) from None
    if top.get("error", NULL) != NULL:
        raise failure_inside(answer, key=key)
    if not choices or not is_utf8(answer):
        raise strange()
    figures = top.get("usage", NULL)
    usage = usage_of(None if figures == NULL else figures, text_chars=0, body=request_body)
    if usage.estimated:
        usage = usage_of(None if figures == NULL else figures, text_chars=_chars(top["choices"]), body=request_body)
        if figures == NULL:
            top["usage"] = as_json(usage)
    top.update(own)
    reasons = [choice.finish_reason for choice in choices if choice.finish_reason is not None]
    return Whole(joined(top), usage, str(reasons[-1]) if reasons else None)


def joined(top: dict[str, msgspec.Raw]) -> bytes:
    """The object's JSON, each value as it was spelled."""
    # An encoder's buffer would grow to half as much again; of a large answer that is worth avoiding.
    parts: list[bytes | msgspec.Raw] = []
    for name, value in top.items():
        parts += (b"," if parts else b"{", _encoder.encode(name), b":", value)
    parts.append(b"}")
    return b"".join(parts)


def _chars(choices: msgspec.Raw) -> int:
    read = msgspec.json.decode(choices, type=list[dict[str, Any]])
    return sum(_length(choice.get("message", choice.get("text"))) for choice in read)


def _length(value: Any) -> int:
    if isinstance(value, dict):
        return sum(_length(part) for name, part in value.items() if name not in ("role", "type", "id"))
    if isinstance(value, list):
        return sum(_length(part) for part in value)
    return len(value) if isinstance(value, str) else 0
