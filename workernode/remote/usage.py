"""What an answer used: the upstream's figures, or an estimate that says so. Never a silent 0."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Annotated

import msgspec

from wire.usage import REQUEST_TOKENS_MAX, Usage
from workernode.remote.tokens import ByLength

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from workernode.remote.tokens import TokenCounter

_Count = Annotated[int, msgspec.Meta(ge=0, le=REQUEST_TOKENS_MAX)] | None
_BY_LENGTH = ByLength()


class _PromptDetails(msgspec.Struct):
    cached_tokens: _Count = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: _Count = None


class _Figures(msgspec.Struct):
    prompt_tokens: _Count = None
    completion_tokens: _Count = None
    total_tokens: _Count = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: _Count = None
    """DeepSeek's name for what was cached."""
    cached_tokens: _Count = None
    """Moonshot's."""


_decoder = msgspec.json.Decoder(_Figures)
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


def usage_of(
    figures: msgspec.Raw | None,
    *,
    text_chars: int,
    body: bytes,
    generates: bool = True,
    texts: Sequence[str] = (),
    counter: TokenCounter = _BY_LENGTH,
) -> Usage:
    """The usage of an answer of ``text_chars`` characters to ``body``; ``texts`` are they, for a counter that reads.

    ``figures`` is the upstream's ``usage`` object. Where it is missing, unreadable, says 0 for something that was
    there, or more than any request can use, ``counter`` counts instead, and the usage is marked as estimated.
    ``generates`` is false where no answer has completion tokens: embeddings.
    """
    given = _read(figures)
    prompt = given.prompt_tokens or (0 if generates else given.total_tokens) or 0
    completion = given.completion_tokens or 0
    if generates and prompt and given.completion_tokens is not None and given.total_tokens is not None:
        # Some count the model's thoughts in the total only, and bill them (xAI, Gemini).
        completion = max(completion, given.total_tokens - prompt)
    unsaid = generates and completion == 0 and (text_chars > 0 or given.completion_tokens is None)
    estimated = prompt == 0 or unsaid
    if prompt == 0:
        prompt = counter.prompt(body)
    if completion == 0:
        completion = counter.answer(texts, text_chars)
    details = given.prompt_tokens_details or _PromptDetails()
    cached = details.cached_tokens or given.prompt_cache_hit_tokens or given.cached_tokens
    reasoning = given.completion_tokens_details.reasoning_tokens if given.completion_tokens_details else None
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=min(cached or 0, prompt),
        reasoning_tokens=min(reasoning or 0, completion),
        estimated=estimated,
    )


async def counted(
    figures: msgspec.Raw | None, *, texts: Sequence[str], text_chars: int, body: bytes, counter: TokenCounter
) -> Usage:
    """The same, where counting must not hold up others."""
    usage = usage_of(figures, text_chars=text_chars, body=body)
    if not usage.estimated or not counter.exact:
        return usage
    return await asyncio.to_thread(
        usage_of, figures, text_chars=text_chars, body=body, texts=list(texts), counter=counter
    )


def total(usages: Sequence[Usage]) -> Usage:
    """What several calls used together, as far as the ledger takes it. One estimate makes all of it one."""

    def added(counts: Iterable[int]) -> int:
        return min(sum(counts), REQUEST_TOKENS_MAX)

    return Usage(
        prompt_tokens=added(each.prompt_tokens for each in usages),
        completion_tokens=added(each.completion_tokens for each in usages),
        cached_tokens=added(each.cached_tokens for each in usages),
        reasoning_tokens=added(each.reasoning_tokens for each in usages),
        estimated=any(each.estimated for each in usages),
    )


def as_json(usage: Usage) -> msgspec.Raw:
    """The ``usage`` object of an answer whose upstream gave none, or of several answers together."""
    figures: dict[str, object] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    if usage.cached_tokens:
        figures["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if usage.reasoning_tokens:
        figures["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return msgspec.Raw(msgspec.json.encode(figures))


def _read(figures: msgspec.Raw | None) -> _Figures:
    if figures is None:
        return _Figures()
    try:
        return _decoder.decode(figures)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _read_one_by_one(figures)


def _read_one_by_one(figures: msgspec.Raw) -> _Figures:
    """A figure that is odd says nothing of the others."""
    read = _Figures()
    try:
        fields = _object.decode(figures)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return read
    for name in _Figures.__struct_fields__:
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            alone = _decoder.decode(b'{"%b":%b}' % (name.encode(), fields.get(name, b"null")))
            setattr(read, name, getattr(alone, name))
    return read
