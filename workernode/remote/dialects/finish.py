"""Why an answer ended, in OpenAI's words."""

from __future__ import annotations

from typing import Literal

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]

_OPENAIS: dict[str, FinishReason | None] = {
    "": None,
    "null": None,
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "complete": "stop",
    "max_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "tool_call": "tool_calls",
    "safety": "content_filter",
    "recitation": "content_filter",
    "prohibited_content": "content_filter",
    "blocklist": "content_filter",
    "spii": "content_filter",
    "sensitive": "content_filter",
    "refusal": "content_filter",
}
REASON_CHARS_MAX = 128
FAILED = frozenset(("error", "insufficient_system_resource", "network_error", "abort"))
"""With these the provider says that the answer is none."""


def finish_reason(theirs: str) -> str | None:
    """OpenAI's word for a provider's; None for one that stands in chunks that end nothing. Others pass, cut where they
    are too long for a bill."""
    word = theirs.lower()
    if word.startswith("content_filter"):
        return "content_filter"  # Google says which after it
    return _OPENAIS.get(word, word[:REASON_CHARS_MAX])
