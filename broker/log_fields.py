"""What a log line of the broker's connection tells beside its sentence."""

from __future__ import annotations


def fields(action: str, **named: object) -> dict[str, object]:
    """For a logger's ``extra``: the record has them as ``fields``, for whoever makes a line of it."""
    return {"fields": {"action": action, **{name: str(value) for name, value in named.items()}}}
