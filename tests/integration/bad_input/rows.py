"""Ways for a client to be wrong, and what each gets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.raw_http import JSON, post
from tests.run import RUN

MODEL = f"model-{RUN}"
"""What the node of every row serves. The broker may be used by others."""
CANARY = "CANARY"
"""Stands in everything that a client sends, and must come back in nothing."""
CHAT = "/v1/chat/completions"
BODY_BYTES_MAX = 4 * 1024 * 1024
BODY_WAIT_S = 1.0
WRITE_WAIT_S = 1.0
MISSING = "missing_required_parameter"
REFUSED = "unsupported_parameter"
CHUNKED = (*JSON, "transfer-encoding: chunked")


@dataclass(frozen=True)
class Row:
    """One way to be wrong, and what it gets."""

    claim: str
    request: bytes
    status: int = 400
    code: str = "invalid_value"
    param: str | None = None
    within_s: float = 1.0


def good(**extra: Any) -> dict[str, Any]:
    """A body without fault."""
    return {"model": MODEL, "messages": [{"role": "user", "content": CANARY}], **extra}


def with_message(**message: Any) -> dict[str, Any]:
    """A good body with this message as its second."""
    return good(messages=[{"role": "user", "content": "hi"}, message])


def with_part(**part: Any) -> dict[str, Any]:
    """A good body whose second message has this part as its second."""
    return with_message(role="user", content=[{"type": "text", "text": CANARY}, part])


def with_field(text: str) -> bytes:
    """A body with a field as written, for what no Python value stands for."""
    return json.dumps(good()).encode()[:-1] + b"," + text.encode("utf-8", "surrogatepass") + b"}"


def with_schema(schema: Any, *, tools: int = 1) -> dict[str, Any]:
    """A body with tools that all have these parameters."""
    function = {"name": "f", "parameters": schema}
    return good(tools=[{"type": "function", "function": function}] * tools)


def with_headers(*headers: str, path: str = CHAT) -> bytes:
    """A request with a good body and these headers alone."""
    data = json.dumps(good()).encode()
    return post(data, *headers, f"content-length: {len(data)}", path=path)


def deep(opening: str, closing: str, levels: int) -> str:
    """JSON that many levels deep."""
    return opening * levels + "1" + closing * levels


def bad(
    claim: str,
    body: bytes | dict[str, Any],
    param: str | None = None,
    code: str = "invalid_value",
    *,
    path: str = CHAT,
) -> Row:
    """A body that is refused with 400."""
    return Row(claim, post(body, path=path), param=param, code=code)


def bad_field(name: str, *values: Any) -> list[Row]:
    """A field of a conversation, in values that it cannot have."""
    return [bad(f"{name}_of_{json.dumps(value)[:24]}_is_refused", good(**{name: value}), name) for value in values]
