"""Rows for people, made of what the REST API answers."""

from __future__ import annotations

import time
from typing import Any

from fleet.terminal import time_of

Row = dict[str, Any]


def node_rows(answer: Any) -> list[Row]:
    """One for each node."""
    now_ms = time.time() * 1000
    return [
        {
            "name": row["name"],
            "model": row["model"],
            "type": row["type"],
            "state": row["state"] if row["present"] else "gone",
            "for": _age(row["since_ms"], now_ms) if row["present"] else None,
            "busy": f"{row['busy']}/{row['slots']}" if row["present"] else None,
            "oldest": _age(min((each["taken_ms"] for each in row["running"]), default=None), now_ms),
            "service_ms": row["service_ms"],
            "node": row["node"],
            "host": row["host"],
            "version": row["version"],
            "last_error": row["last_error"]["code"] if row["last_error"] else None,
            "sentence": row["sentence"],
        }
        for row in answer["data"]
    ]


def model_rows(answer: Any) -> list[Row]:
    """One for each model."""
    now_ms = time.time() * 1000
    return [
        {
            "model": row["model"],
            "nodes": f"{row['ready']}/{row['nodes']}",
            "busy": f"{row['busy']}/{row['slots']}",
            "waiting": row["waiting"],
            "oldest": _age(row["oldest_ms"], now_ms),
            "in/s": f"{row['in_per_s']:.2f}",
            "out/s": f"{row['out_per_s']:.2f}",
            "first_token_ms": _quantiles(row["first_token"]),
            "total_ms": _quantiles(row["total"]),
            "dead_letters": row["dead_letters"],
            "order": f"{row['order']['order']} by {row['order']['by']}" if row["order"] else None,
            "sentence": row["sentence"],
        }
        for row in answer["data"]
    ]


def error_rows(answer: Any) -> list[Row]:
    """One for each error."""
    return [
        {
            "last": time_of(row["last_ms"]),
            "count": row["count"],
            "scope": row["scope"],
            "code": row["code"],
            "models": ",".join(each["name"] for each in row["models"]),
            "keys": ",".join(each["name"] for each in row["keys"]),
            "sentence": row["last_message"] or row["sentence"],
            "remedy": row["remedy"],
        }
        for row in answer["data"]
    ]


def _age(since_ms: int | None, now_ms: float) -> str | None:
    if since_ms is None:
        return None
    seconds = max(0, round((now_ms - since_ms) / 1000))
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _quantiles(both: Row | None) -> str | None:
    return f"{both['p50_ms']} / {both['p95_ms']}" if both else None
