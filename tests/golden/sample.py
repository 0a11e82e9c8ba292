"""Who and what the examples tell of."""

from __future__ import annotations

from wire.errors import ErrorBody
from wire.event import Times
from wire.usage import Usage

REQUEST = "req_0123456789abcdef0123456789abcdef"
QUESTION = "qst_0123456789abcdef01234567"
ATTEMPT = "att_0123456789abcdef01234567"
GATEWAY = "gateway-host-0123456789abcdef"
NODE = "node-host-fedcba9876543210"
AT = 1_760_000_000_000
USAGE = Usage(prompt_tokens=12, completion_tokens=34, cached_tokens=5, reasoning_tokens=6)
ERROR = ErrorBody(
    code="upstream_refused",
    message="The provider of this model refused the request.",
    type="invalid_request_error",
    param="messages",
    http_status=400,
    retryable=True,
    retry_after_ms=1500,
)
TIMES = Times(
    received_ms=AT,
    published_ms=AT + 2,
    taken_ms=AT + 5,
    first_token_ms=AT + 105,
    last_token_ms=AT + 305,
    settled_ms=AT + 306,
)

TAGS = {"team": "search", "größe": "🦙"}
BODY = b'{"model":"gpt-4o","messages":[{"role":"user","content":"Hi"}]}'
