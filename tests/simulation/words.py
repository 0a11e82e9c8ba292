"""What a message says, in a line of a trace."""

from __future__ import annotations

from typing import Any

import msgspec

from wire.event import PREFIX

_SHOWN = ("attempt_id", "request_id", "number", "through", "missing_until", "reason", "begun", "holding", "cancelled")


def told(payload: bytes) -> str:
    """Any message of ours: its kind, and what tells it from others."""
    if payload[:1] == b"{":
        event = msgspec.json.decode(payload)
        return f"{event['type'].removeprefix(PREFIX)} {event['id']}"
    message = msgspec.msgpack.decode(payload[1:])
    match message["kind"]:
        case "link":
            return f"{message['line']}#{message['first']} {', '.join(map(_piece, message['frames']))}"
        case "control":
            return f"{', '.join(map(_piece, message['words']))}"
        case _:
            return _piece(message)


def _piece(frame: dict[str, Any]) -> str:
    shown = [f"{name}={frame[name]}" for name in _SHOWN if name in frame]
    return " ".join([frame["kind"], *shown])
