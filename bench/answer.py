"""What is asked and what comes back: one request and its answer of fifty tokens, whole and as a stream."""

from __future__ import annotations

from typing import Any

import msgspec

MODEL = "bench"
TOKENS = 50
PACED = "paced"
"""This word in a request makes :mod:`bench.upstream` write one chunk after the other instead of all at once."""
DONE = b"data: [DONE]\n\n"

_PROMPT_WORDS = 100
_WORDS = [f"token-{number:02d} " for number in range(TOKENS)]
_TEXT = "".join(_WORDS).encode()
_CONTENT = b'"content":"token-'
_whole = msgspec.json.Decoder(dict[str, msgspec.Raw])
_HEAD = {"id": "chatcmpl-bench", "created": 1_700_000_000, "model": MODEL}
_USAGE = {"prompt_tokens": _PROMPT_WORDS, "completion_tokens": TOKENS, "total_tokens": _PROMPT_WORDS + TOKENS}


def request_body(*, stream: bool, paced: bool = False) -> bytes:
    """A chat completion request, as a client of OpenAI's API would send it."""
    prompt = " ".join(["word"] * (_PROMPT_WORDS - 1) + [PACED if paced else "word"])
    body: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "max_tokens": TOKENS}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return msgspec.json.encode(body)


def whole_body() -> bytes:
    """The whole answer, as a provider sends it."""
    message = {"role": "assistant", "content": _TEXT.decode()}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return msgspec.json.encode({**_HEAD, "object": "chat.completion", "choices": [choice], "usage": _USAGE})


def events() -> list[bytes]:
    """The same answer as server-sent events: fifty with a token, the finish reason, the usage, ``[DONE]``."""
    deltas: list[dict[str, str]] = [{"content": word} for word in _WORDS]
    deltas[0]["role"] = "assistant"
    choices = [[{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas]
    chunks: list[dict[str, Any]] = [{"choices": each, "usage": None} for each in choices]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": None})
    chunks.append({"choices": [], "usage": _USAGE})
    encoded = (msgspec.json.encode({**_HEAD, "object": "chat.completion.chunk", **chunk}) for chunk in chunks)
    return [*(b"data: %b\n\n" % chunk for chunk in encoded), DONE]


def is_complete(status: int, body: bytes, *, stream: bool) -> bool:
    """Whether all fifty tokens and the proper end are there. Ids and names may differ on the way."""
    if status != 200:
        return False
    if stream:
        return body.endswith(DONE) and body.count(_CONTENT) == TOKENS
    try:
        _whole.decode(body)
    except msgspec.DecodeError:
        return False
    return _TEXT in body
