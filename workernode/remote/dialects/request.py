"""A request's fields as the provider knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Set

    from wire.request import Endpoint
    from workernode.remote.dialects.dialect import Adapter

Fields = dict[str, msgspec.Raw]
"""The top of a body, each value as the client spelled it."""

NULL = msgspec.Raw(b"null")
USAGE_ASKED = msgspec.Raw(b'{"include_usage":true}')
"""The options of a stream that a request is sent with which has none of its own."""
_SYSTEM = msgspec.Raw(b'"system"')
_messages = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_encoder = msgspec.json.Encoder()


def adapt(fields: Fields, adapters: Set[Adapter], endpoint: Endpoint) -> None:
    """Say once what is said twice, and rename what the provider calls otherwise. What is no message is left for it to
    refuse."""
    if endpoint == "chat/completions":
        if NULL not in (fields.get("max_tokens", NULL), fields.get("max_completion_tokens", NULL)):
            # Budgets and limits count by the newer name. A provider that knows the older one alone must not be left
            # without a limit.
            fields["max_tokens"] = fields["max_completion_tokens"]
        if "max-tokens" in adapters:
            _rename(fields, "max_completion_tokens", "max_tokens")
        elif "max-completion-tokens" in adapters:
            _rename(fields, "max_tokens", "max_completion_tokens")
        if "system-role" in adapters and b'"developer"' in (messages := bytes(fields.get("messages", NULL))):
            fields["messages"] = _without_developers(messages)
    if "random-seed" in adapters:
        _rename(fields, "seed", "random_seed")


def _rename(fields: Fields, name: str, theirs: str) -> None:
    value = fields.pop(name, NULL)
    if value != NULL:
        fields[theirs] = value


def _without_developers(messages: bytes) -> msgspec.Raw:
    try:
        parsed = _messages.decode(messages)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.Raw(messages)
    for message in parsed:
        if bytes(message.get("role", NULL)) == b'"developer"':
            message["role"] = _SYSTEM
    return msgspec.Raw(_encoder.encode(parsed))
