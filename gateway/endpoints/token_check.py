"""``POST /api/v1/token_check``: FastChat's question whether prompts fit into a model's context.

The gateway knows context lengths from its nodes' presence and from declaration, and has no tokenizer: a node of the
model counts, where one is there that can. Else ``tokenCount`` is an estimate by length, and ``estimated`` says so.
Where no context length is known, ``contextLength`` and ``fits`` are null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.endpoints.fields import ModelName
from gateway.endpoints.reading import BodyReader
from wire.control import COUNT_PROMPTS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

CHARS_PER_TOKEN = 4
PATH = "/api/v1/token_check"
SUMMARY = "Count the tokens of prompts, and tell whether they fit into a model's context"


class PromptToCheck(msgspec.Struct, kw_only=True):
    """One prompt, and how much the answer may add to it."""

    prompt: str
    model: ModelName | UnsetType = UNSET
    max_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0


class TokenCheckRequest(msgspec.Struct, kw_only=True):
    """The prompts to look at."""

    prompts: Annotated[list[PromptToCheck], Meta(min_length=1, max_length=COUNT_PROMPTS_MAX)]


class CheckedPrompt(msgspec.Struct, kw_only=True, rename="camel"):
    """What is known of one prompt."""

    fits: bool | None
    token_count: int
    context_length: int | None
    estimated: bool


class TokenCheckAnswer(msgspec.Struct):
    """One for each prompt, in their order."""

    prompts: list[CheckedPrompt]


_reader = BodyReader(TokenCheckRequest)
_encoder = msgspec.json.Encoder()


def read(body: bytes) -> list[PromptToCheck]:
    """What is asked. Raises :class:`wire.errors.InvalidRequest` with ``param`` where one field is at fault."""
    return _reader.read(body)[0].prompts


def checked(asked: PromptToCheck, *, tokens: int | None, context_length: int | None) -> CheckedPrompt:
    """``tokens`` as they were counted; None if nobody could."""
    known = -(-len(asked.prompt) // CHARS_PER_TOKEN) if tokens is None else tokens
    fits = None if context_length is None else known + asked.max_tokens <= context_length
    return CheckedPrompt(fits=fits, token_count=known, context_length=context_length, estimated=tokens is None)


def told(prompts: Iterable[CheckedPrompt]) -> bytes:
    """The answer's body."""
    return _encoder.encode(TokenCheckAnswer(list(prompts)))
