"""Embeddings on their way through: the model is ours, usage is read for the bill, vectors pass byte for byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from workernode.remote.dialects.request import NULL
from workernode.remote.errors import failure_inside, strange
from workernode.remote.tokens import ByLength
from workernode.remote.usage import usage_of
from workernode.remote.utf8 import is_utf8
from workernode.remote.whole import Whole, joined

if TYPE_CHECKING:
    from workernode.remote.tokens import TokenCounter

_top = msgspec.json.Decoder(dict[str, msgspec.Raw])
_data = msgspec.json.Decoder(list[msgspec.Raw])
_encoder = msgspec.json.Encoder()
_BY_LENGTH = ByLength()


def embedded(
    answer: bytes | bytearray, *, model: str, request_body: bytes, key: str | None, counter: TokenCounter = _BY_LENGTH
) -> Whole:
    """Put our model's name in, take an id out, which OpenAI's has none of; add the usage where there is none.

    Raises :class:`workernode.remote.errors.Failure` for anything that is no answer.
    """
    try:
        top = _top.decode(answer)
        vectors = _data.decode(top.get("data", NULL))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise failure_inside(answer if len(answer) < 2**20 else b"", key=key, sent=request_body) from None
    if top.get("error", NULL) != NULL:
        raise failure_inside(answer, key=key, sent=request_body)
    if not vectors or not is_utf8(answer):
        raise strange()
    figures = top.get("usage", NULL)
    given = None if figures == NULL else figures
    usage = usage_of(given, text_chars=0, body=request_body, generates=False, counter=counter)
    if figures == NULL:
        counts = {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.total_tokens}
        top["usage"] = msgspec.Raw(_encoder.encode(counts))
    for name in ("id", "created"):
        top.pop(name, None)
    top["object"] = msgspec.Raw(b'"list"')
    top["model"] = msgspec.Raw(_encoder.encode(model))
    return Whole(joined(top), usage, None)
