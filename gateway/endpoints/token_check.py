"""``POST /api/v1/token_check``: FastChat's question whether prompts fit into a model's context.

The gateway answers it by itself, without a node: it knows context lengths from its nodes' presence and from
declaration, and has no tokenizer, so ``tokenCount`` is an estimate by length and ``estimated`` says so. Where no
context length is known, ``contextLength`` and ``fits`` are null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.endpoints.fields import ModelName, named
from gateway.endpoints.reading import BodyReader

if TYPE_CHECKING:
    from collections.abc import Callable

CHARS_PER_TOKEN = 4
PROMPTS_MAX = 1024
PATH = "/api/v1/token_check"
SUMMARY = "Estimate whether prompts fit into a model's context"


class PromptToCheck(msgspec.Struct, kw_only=True):
    """One prompt, and how much the answer may add to it."""

    prompt: str
    model: ModelName | UnsetType = UNSET
    max_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0


class TokenCheckRequest(msgspec.Struct, kw_only=True):
    """The prompts to look at."""

    prompts: Annotated[list[PromptToCheck], Meta(min_length=1, max_length=PROMPTS_MAX)]


class CheckedPrompt(msgspec.Struct, kw_only=True, rename="camel"):
    """What is known of one prompt."""

    fits: bool | None
    token_count: int
    context_length: int | None
    estimated: bool = True


class TokenCheckAnswer(msgspec.Struct):
    """One for each prompt, in their order."""

    prompts: list[CheckedPrompt]


_reader = BodyReader(TokenCheckRequest)
_encoder = msgspec.json.Encoder()


def answer(body: bytes, context_length: Callable[[str | None], int | None]) -> bytes:
    """The answer's body. ``context_length`` knows models, and raises for those that there are not.

    Raises :class:`wire.errors.InvalidRequest` with ``param`` where one field is at fault.
    """
    request = _reader.read(body)
    return _encoder.encode(TokenCheckAnswer([_checked(each, context_length) for each in request.prompts]))


def _checked(asked: PromptToCheck, context_length: Callable[[str | None], int | None]) -> CheckedPrompt:
    limit = context_length(named(asked.model))
    tokens = -(-len(asked.prompt) // CHARS_PER_TOKEN)
    fits = None if limit is None else tokens + asked.max_tokens <= limit
    return CheckedPrompt(fits=fits, token_count=tokens, context_length=limit)
