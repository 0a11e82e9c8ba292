"""What an answer used: the upstream's figures, or an estimate that says so. Never a silent 0."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from wire.usage import TOKENS_MAX, Usage
from workernode.prompts import prompts_of

CHARS_PER_TOKEN = 4

_Count = Annotated[int, msgspec.Meta(ge=0, le=TOKENS_MAX)] | None


class _PromptDetails(msgspec.Struct):
    cached_tokens: _Count = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: _Count = None


class _Figures(msgspec.Struct):
    prompt_tokens: _Count = None
    completion_tokens: _Count = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


_decoder = msgspec.json.Decoder(_Figures)


def usage_of(figures: msgspec.Raw | None, *, text_chars: int, body: bytes, generates: bool = True) -> Usage:
    """The usage of an answer of ``text_chars`` characters to ``body``.

    ``figures`` is the upstream's ``usage`` object. Where it is missing, unreadable, or says 0 for something that was
    there, characters are counted instead, and the usage is marked as estimated. ``generates`` is false where no answer
    has completion tokens: embeddings.
    """
    given = _read(figures)
    prompt = given.prompt_tokens or 0
    completion = given.completion_tokens or 0
    unsaid = generates and completion == 0 and (text_chars > 0 or given.completion_tokens is None)
    estimated = prompt == 0 or unsaid
    if prompt == 0:
        prompt = max(1, _tokens(prompt_chars(body)))
    if completion == 0:
        completion = _tokens(text_chars)
    cached = given.prompt_tokens_details.cached_tokens if given.prompt_tokens_details else None
    reasoning = given.completion_tokens_details.reasoning_tokens if given.completion_tokens_details else None
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=min(cached or 0, prompt),
        reasoning_tokens=min(reasoning or 0, completion),
        estimated=estimated,
    )


def as_json(usage: Usage) -> msgspec.Raw:
    """The ``usage`` object of an answer whose upstream gave none."""
    return msgspec.Raw(
        msgspec.json.encode(
            {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "total_tokens": usage.total_tokens,
            }
        )
    )


def prompt_chars(body: bytes) -> int:
    """The characters of text in a request: its prompts, or its messages, and its tools as they stand.

    Images count for nothing, a token for :data:`CHARS_PER_TOKEN` characters.
    """
    try:
        request = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return len(body)
    if not isinstance(request, dict):
        return 0
    messages = request.get("messages")
    if not isinstance(messages, list):
        prompts = prompts_of(request.get("prompt", request.get("input")))
        return sum(len(each) * (1 if isinstance(each, str) else CHARS_PER_TOKEN) for each in prompts)
    chars = sum(_chars(message.get("content")) for message in messages if isinstance(message, dict))
    return chars + (len(msgspec.json.encode(request["tools"])) if request.get("tools") else 0)


def _chars(content: Any) -> int:
    if isinstance(content, str):
        return len(content)
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict))
        return sum(len(text) for text in texts if isinstance(text, str))
    return 0


def _tokens(chars: int) -> int:
    return -(-chars // CHARS_PER_TOKEN)


def _read(figures: msgspec.Raw | None) -> _Figures:
    if figures is None:
        return _Figures()
    try:
        return _decoder.decode(figures)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Figures()
