"""Images in a request's body, which are many bytes and few tokens."""

from __future__ import annotations

import msgspec


class _Address(msgspec.Struct):
    url: msgspec.Raw = msgspec.Raw(b"")


class _Part(msgspec.Struct):
    image_url: _Address | None = None


class _Message(msgspec.Struct):
    content: list[_Part] | str | None = None


class _Conversation(msgspec.Struct):
    messages: list[_Message] = []


_decoder = msgspec.json.Decoder(_Conversation)


def text_bytes(body: bytes) -> int:
    """How many bytes of a body are something else than images in data URLs. Only what a conversation shows is an image:
    the same words in a text, or in a tool's description, are words."""
    if b";base64," not in body:
        return len(body)
    try:
        messages = _decoder.decode(body).messages
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return len(body)
    parts = (part for each in messages if isinstance(each.content, list) for part in each.content)
    urls = (bytes(part.image_url.url) for part in parts if part.image_url is not None)
    return len(body) - sum(len(url) - 2 for url in urls if url.startswith((b'"data:image/', b'"data:image\\/')))
