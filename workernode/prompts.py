"""The prompts of a completion and the inputs of embeddings, in all their forms, from a checked body."""

from __future__ import annotations

from typing import Any

import msgspec

Prompt = str | list[int]
"""A text, or the tokens of one."""


class _Body(msgspec.Struct):
    prompt: Any = None


_body = msgspec.json.Decoder(_Body)


def prompts_of(field: Any) -> list[Prompt]:
    """The prompts that a parsed field holds: itself a text, tokens, or a list of either. Whatever else is left out."""
    if isinstance(field, str) or _is_tokens(field):
        return [field]
    return [each for each in field if isinstance(each, str) or _is_tokens(each)] if isinstance(field, list) else []


def prompt_count(body: bytes) -> int:
    """How many prompts a completion's body holds, at least one."""
    try:
        return len(prompts_of(_body.decode(body).prompt)) or 1
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 1


def _is_tokens(field: Any) -> bool:
    return isinstance(field, list) and bool(field) and all(isinstance(each, int) for each in field)
