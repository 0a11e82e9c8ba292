"""What of a provider's words may be told: neither the API key, nor what the client sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEY_CHARS_MIN = 8
"""A shorter key is a placeholder such as ``none``: masking it would only garble sentences."""
_COMPARED_BYTES_MAX = 256 * 1024
_TEXT_CHARS_MIN = 4
_PHRASE_CHARS = 16
"""So many characters in a row are the same by chance only in idioms."""


def masked(text: str, key: str | None) -> str:
    """``text`` without the API key."""
    return text.replace(key, "***") if key and len(key) >= _KEY_CHARS_MIN else text


def repeats(words: str, sent: bytes) -> bool:
    """Whether a text of the request is in the words, or a part of it that is no mere phrase."""
    if len(sent) > _COMPARED_BYTES_MAX:
        return True  # nobody knows
    try:
        body = msgspec.json.decode(sent)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True
    texts = [text.lower() for text in _texts(body) if len(text) >= _TEXT_CHARS_MIN]
    parts = {words[start : start + _PHRASE_CHARS] for start in range(len(words) - _PHRASE_CHARS + 1)}
    return any(text in words or any(part in text for part in parts) for text in texts)


def stands_in(words: str, sent: bytes) -> bool:
    """Whether the words stand in a text of the request, or in the name of a field."""
    try:
        body = msgspec.json.decode(sent)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True  # nobody knows
    return any(words in text.lower() for text in _strings(body))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _texts(value: Any, name: str = "") -> Iterator[str]:
    """All texts of a body but the model's name, which an error may well repeat."""
    if isinstance(value, str):
        if name not in ("model", "role", "type"):
            yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
