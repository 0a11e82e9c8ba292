"""Events as nodes would tell them, for the tests of the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wire import codec
from wire.event import PREFIX, Event, NodeData, RequestData, Times, charge_id
from wire.usage import Usage

if TYPE_CHECKING:
    import msgspec

NOON = "2026-03-01T12:00:00.000Z"
NOON_MS = 1_772_366_400_000


def event(id_: str, kind: str, data: msgspec.Raw, *, time: str = NOON, subject: str = "subject") -> bytes:
    """Any event, as bytes."""
    return codec.encode_event(Event(id=id_, source="node-a", type=PREFIX + kind, time=time, subject=subject, data=data))


def request_id_of(number: int) -> str:
    """The id of the request with this number."""
    return f"req_{number:032x}"


def request_data(number: int, **fields: Any) -> msgspec.Raw:
    """The data of a request event; ``usage`` and all other fields may be overridden."""
    told: dict[str, Any] = {
        "request_id": request_id_of(number),
        "endpoint": "chat/completions",
        "model": "small",
        "status": "answered",
        "key_id": "key-a",
        "node": "node-a",
        "usage": Usage(prompt_tokens=10, completion_tokens=5),
        "times": Times(received_ms=NOON_MS, published_ms=NOON_MS + 2, settled_ms=NOON_MS + 300),
    }
    return codec.encode_event_data(RequestData(**(told | fields)))


def billed(number: int, *, time: str = NOON, **fields: Any) -> bytes:
    """The charge of the request with this number."""
    id_ = request_id_of(number)
    return event(charge_id(id_), "request.billed", request_data(number, **fields), time=time, subject=id_)


def node_event(id_: str, kind: str, *, node: str = "node-a", time: str = NOON, **fields: Any) -> bytes:
    """What is told about a node."""
    told: dict[str, Any] = {"name": node, "model": "small", "node_type": "static", "version": "1"}
    data = codec.encode_event_data(NodeData(node=node, **(told | fields)))
    return event(id_, kind, data, time=time, subject=node)
