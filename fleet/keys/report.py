"""How a key is shown: as JSON, and as a line. Never its secret, which nobody here has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleet.terminal import time_of

if TYPE_CHECKING:
    from store.keys import StoredKey


def as_json(key: StoredKey, now_ms: int) -> dict[str, Any]:
    """Everything about it, times in ISO 8601."""
    limits = key.limits
    return {
        "name": key.name,
        "prefix": key.prefix,
        "generation": key.generation,
        "state": key.state(now_ms),
        "models": None if limits.models is None else list(limits.models),
        "requests_per_min": limits.requests_per_min,
        "tokens_per_min": limits.tokens_per_min,
        "concurrent_max": limits.concurrent_max,
        "tags": dict(key.tags),
        "created": _time(key.created_ms),
        "expires": _time(key.expires_ms),
        "revoked": _time(key.revoked_ms),
    }


def as_line(key: StoredKey, now_ms: int) -> str:
    """What people want to see of it."""
    limits = key.limits
    words = [f"{key.name:20}", f"{key.prefix}…", f"{key.state(now_ms):7}"]
    words.append(f"models={','.join(limits.models)}" if limits.models is not None else "all models")
    for amount, unit in (
        (limits.requests_per_min, "requests/min"),
        (limits.tokens_per_min, "tokens/min"),
        (limits.concurrent_max, "at once"),
    ):
        if amount is not None:
            words.append(f"{amount} {unit}")
    words += [f"{name}={value}" for name, value in key.tags.items()]
    for verb, at in (("revoked", key.revoked_ms), ("expires", key.expires_ms)):
        if at is not None:
            words.append(f"{verb} {_time(at)}")
            break
    return "  ".join(words)


def _time(ms: int | None) -> str | None:
    return None if ms is None else time_of(ms)
