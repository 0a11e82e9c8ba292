"""The prompts of a completion and the inputs of embeddings, in all their forms, from a checked body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

CHARS_PER_TOKEN = 4
Prompt = str | list[int]
"""A text, or the tokens of one."""


@dataclass(frozen=True)
class PromptTexts:
    """What of a request is text, how many tokens it gives as such, and how many messages there are."""

    texts: list[str]
    tokens: int = 0
    messages: int = 0


def prompts_of(field: Any) -> list[Prompt]:
    """The prompts that a parsed field holds: itself a text, tokens, or a list of either. Whatever else is left out."""
    if isinstance(field, str) or _is_tokens(field):
        return [field]
    return [each for each in field if isinstance(each, str) or _is_tokens(each)] if isinstance(field, list) else []


def estimated_tokens(body: bytes) -> int:
    """About how many tokens a request's prompt has, by the length of its texts; at least one."""
    prompt = prompt_texts(body)
    chars = sum(map(len, prompt.texts)) + CHARS_PER_TOKEN * prompt.tokens
    return max(1, -(-chars // CHARS_PER_TOKEN))


def prompt_texts(body: bytes) -> PromptTexts:
    """A request's prompts, or its messages, and its tools as they stand. Images count for nothing."""
    try:
        request = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return PromptTexts([body.decode(errors="replace")])
    if not isinstance(request, dict):
        return PromptTexts([])
    messages = request.get("messages")
    if isinstance(messages, list):
        texts = [text for message in messages if isinstance(message, dict) for text in _texts(message.get("content"))]
        tools = [msgspec.json.encode(request["tools"]).decode()] if request.get("tools") else []
        return PromptTexts(texts + tools, messages=len(messages))
    prompts = prompts_of(request.get("prompt", request.get("input")))
    tokens = sum(len(each) for each in prompts if not isinstance(each, str))
    return PromptTexts([each for each in prompts if isinstance(each, str)], tokens)


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return [text for text in texts if isinstance(text, str)]


def _is_tokens(field: Any) -> bool:
    return isinstance(field, list) and bool(field) and all(isinstance(each, int) for each in field)
