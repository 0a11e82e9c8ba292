"""A request whose answer goes on after a text that its client has seen already. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from wire.errors import InvalidRequest
from workernode.prompts import CHARS_PER_TOKEN

if TYPE_CHECKING:
    from wire.request import Request

_LIMITS = ("max_tokens", "max_completion_tokens")
_COMPLETION_TOKENS = 16
"""Where a completion does not say: the default of both engines that go on with an answer."""


def continued(request: Request, prefix: str, tokens: list[int] | None) -> Request:
    """The same request with ``prefix`` as the beginning of its answer. ``tokens`` are the prefix's, if they are known.

    Chats end with it as the assistant's message, which transformers and vLLM continue when they are told to. The
    client's limit of tokens holds for both parts together. Raises :class:`wire.errors.InvalidRequest`.
    """
    try:
        body: Any = msgspec.json.decode(request.body)
        if request.endpoint == "chat/completions":
            body["messages"] = _messages(body, prefix)
            body.update(continue_final_message=True, add_generation_prompt=False)
        else:
            body["prompt"] = _prompt(body["prompt"], prefix, tokens)
            body.setdefault("max_tokens", _COMPLETION_TOKENS)
        for name in _LIMITS:
            if isinstance(body.get(name), int):
                body[name] = max(1, body[name] - (len(prefix) // CHARS_PER_TOKEN if tokens is None else len(tokens)))
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise InvalidRequest("The answer cannot be continued.") from None
    return msgspec.structs.replace(request, body=msgspec.json.encode(body))


def _messages(body: Any, prefix: str) -> list[Any]:
    messages = body["messages"]
    if not body.get("continue_final_message"):
        return [*messages, {"role": "assistant", "content": prefix}]
    last = messages[-1]
    if not isinstance(last["content"], str):
        raise TypeError
    return [*messages[:-1], {**last, "content": last["content"] + prefix}]


def _prompt(prompt: Any, prefix: str, tokens: list[int] | None) -> Any:
    match prompt:
        case str():
            return prompt + prefix
        case [str() as only]:
            return only + prefix
        case [int(), *_] if tokens is not None:
            return [*prompt, *tokens]
        case [[int(), *_] as only] if tokens is not None:
            return [[*only, *tokens]]
        case _:
            raise TypeError
