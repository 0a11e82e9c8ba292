"""Words for people, and the tone of each: a tone has a shape and a colour, and neither stands without the word."""

from __future__ import annotations

from typing import Any, Literal

Tone = Literal["good", "busy", "warn", "bad", "off"]

ENDS: dict[str, tuple[str, Tone]] = {
    "answered": ("Answered", "good"),
    "failed": ("Failed", "bad"),
    "cancelled": ("Cancelled", "off"),
    "expired": ("Expired", "warn"),
    "dead": ("Dead letter", "bad"),
    "abandoned": ("Abandoned", "warn"),
}
"""How a request ended."""
ATTEMPTS: dict[str, tuple[str, Tone]] = ENDS | {
    "refused": ("Refused", "bad"),
    "superseded": ("Superseded", "warn"),
    "handed_back": ("Handed back", "warn"),
}
"""How an attempt ended."""
NODES: dict[str, tuple[str, Tone]] = {
    "starting": ("Starting", "busy"),
    "ready": ("Ready", "good"),
    "rate_limited": ("Rate limited", "warn"),
    "quota_exhausted": ("Quota exhausted", "bad"),
    "authentication_failed": ("Key refused", "bad"),
    "misconfigured": ("Misconfigured", "bad"),
    "unreachable": ("Unreachable", "warn"),
    "paused": ("Paused", "off"),
    "draining": ("Draining", "busy"),
    "stopped": ("Stopped", "off"),
    "gone": ("Gone", "off"),
}
"""What a node is like."""
EVENTS: dict[str, tuple[str, Tone]] = {
    "request.billed": ("Charged", "good"),
    "request.failed": ("Failed", "bad"),
    "request.cost": ("Attempt not charged", "warn"),
    "request.cancelled": ("Cancelled", "off"),
    "request.expired": ("Expired", "warn"),
    "request.dead": ("Dead letter", "bad"),
    "request.abandoned": ("Abandoned", "warn"),
    "request.replayed": ("Replayed", "busy"),
    "request.discarded": ("Discarded", "off"),
    "node.started": ("Started", "busy"),
    "node.rate_limited": ("Rate limited", "warn"),
    "node.quota_exhausted": ("Quota exhausted", "bad"),
    "node.authentication_failed": ("Key refused", "bad"),
    "node.misconfigured": ("Misconfigured", "bad"),
    "node.unreachable": ("Unreachable", "warn"),
    "node.engine_died": ("Engine died", "bad"),
    "node.recovered": ("Recovered", "good"),
    "node.draining": ("Draining", "busy"),
    "node.stopped": ("Stopped", "off"),
    "node.quarantined": ("Message put aside", "warn"),
}
"""What is told, by its type without the prefix."""
BUDGETS: dict[str, tuple[str, Tone]] = {
    "ok": ("Within limits", "good"),
    "warning": ("Nearly spent", "warn"),
    "exhausted": ("Spent", "bad"),
}
KEYS: dict[str, tuple[str, Tone]] = {
    "active": ("Active", "good"),
    "expired": ("Expired", "off"),
    "revoked": ("Revoked", "off"),
}
ACTIONS: dict[str, tuple[str, Tone]] = {
    "running": ("Under way", "busy"),
    "done": ("Done", "good"),
    "failed": ("Failed", "bad"),
    "unknown": ("Unknown", "off"),
}
SCOPES: dict[str, tuple[str, Tone]] = {
    "request": ("A request failed", "bad"),
    "attempt": ("An attempt failed", "warn"),
    "node": ("A node's state", "warn"),
}
"""What an error was an error of."""
WORDS: dict[str, Any] = {
    "ACTION_WORDS": ACTIONS,
    "SCOPE_WORDS": SCOPES,
    "END_WORDS": ENDS,
    "ATTEMPT_WORDS": ATTEMPTS,
    "NODE_WORDS": NODES,
    "EVENT_WORDS": EVENTS,
    "BUDGET_WORDS": BUDGETS,
    "KEY_WORDS": KEYS,
}
"""What templates call them."""
