"""Token counts of the static responder: by length, and they say so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wire.usage import Usage
from workernode.prompts import CHARS_PER_TOKEN

if TYPE_CHECKING:
    from wire.request import Request


def estimate(request: Request, *, text_chars: int) -> Usage:
    """The usage of an answer of so many characters."""
    return Usage(
        prompt_tokens=-(-len(request.body) // CHARS_PER_TOKEN),
        completion_tokens=-(-text_chars // CHARS_PER_TOKEN),
        estimated=True,
    )


def as_openai(usage: Usage) -> dict[str, int]:
    """The ``usage`` object."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }


def words_of(text: str) -> list[str]:
    """The text in parts, as it is streamed: joined they are the text."""
    words = text.split(" ")
    return [f"{word} " for word in words[:-1]] + words[-1:]
