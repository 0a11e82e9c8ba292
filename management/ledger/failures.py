"""What went wrong, as events tell it, and which of it is the same. Pure."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from wire.event import NodeData, RequestData

Scope = Literal["request", "attempt", "node"]
"""Who has to do with it: a client that got an error; an attempt that another one followed; a node and its state."""

MESSAGE_CHARS_MAX = 1000
_CODE_CHARS_MAX = 64
_PROVIDER_CHARS_MAX = 128
_SCOPES: dict[str, Scope] = {
    "request.failed": "request",
    "request.expired": "request",
    "request.dead": "request",
    "request.abandoned": "request",
    "request.cost": "attempt",
}
_CODES = {"request.expired": "deadline_exceeded", "request.dead": "request_poisonous", "request.abandoned": "abandoned"}
"""What is meant where the event itself has no code."""
_NODE_KINDS = frozenset(
    (
        "node.rate_limited",
        "node.quota_exhausted",
        "node.authentication_failed",
        "node.misconfigured",
        "node.unreachable",
        "node.engine_died",
        "node.quarantined",
    )
)
_STRANGE = re.compile(r"[^a-z0-9_.:/-]")
_LONG_NUMBER = re.compile(r"[0-9]{5,}")


def failure_of_request(kind: str, row: dict[str, Any], data: RequestData) -> dict[str, Any] | None:
    """What a request event tells of; None if nothing went wrong.

    Its message is left out: a provider's words may repeat the prompt. It stays in the event.
    """
    scope = _SCOPES.get(kind)
    code = data.error_code or _CODES.get(kind)
    if scope is None or (scope == "attempt" and code is None):
        return None
    return _failure(row, scope, code or "unknown", data.provider) | {"request_id": data.request_id}


def failure_of_node(kind: str, row: dict[str, Any], data: NodeData) -> dict[str, Any] | None:
    """What a node event tells of; None if nothing went wrong."""
    if kind not in _NODE_KINDS:
        return None
    failure = _failure(row, "node", kind.partition(".")[2], data.provider)
    return failure | {"message": data.message[:MESSAGE_CHARS_MAX] if data.message else None}


def fingerprint_of(scope: str, code: str, provider: str) -> str:
    """The same for what a person would call the same error."""
    return hashlib.sha256("\n".join((scope, code, provider)).encode()).hexdigest()[:16]


def _failure(row: dict[str, Any], scope: Scope, code: str, provider: str | None) -> dict[str, Any]:
    # A provider's own codes may hold numbers of theirs, and a forged one anything.
    code = _LONG_NUMBER.sub("0", _STRANGE.sub("_", code.lower()))[:_CODE_CHARS_MAX]
    provider = _STRANGE.sub("_", (provider or "").lower())[:_PROVIDER_CHARS_MAX]
    return {
        "fingerprint": fingerprint_of(scope, code, provider),
        "scope": scope,
        "code": code,
        "provider": provider,
        "time_ms": row["time_ms"],
        "event_id": row["event_id"],
        "model": row["model"],
        "key_id": row["key_id"],
        "node": row["node"],
        "request_id": None,
        "message": None,
    }
