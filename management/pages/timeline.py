"""What happened to one request, from the events that tell of it: its stages, and every attempt. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from wire import codec
from wire.errors import UndecodableMessage
from wire.event import PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wire.event import Event, RequestData

SCALE = 1000
"""How wide a timeline is: spans are parts of that."""
_OF_ATTEMPTS = frozenset(
    f"{PREFIX}request.{name}" for name in ("billed", "cost", "failed", "cancelled", "expired", "dead", "abandoned")
)


@dataclass(frozen=True)
class Stage:
    """A step that every request takes if all goes well; ``time_ms`` is None if it was not told."""

    name: str
    time_ms: int | None
    after_ms: int | None = None
    """Since the request came in."""


@dataclass(frozen=True)
class Span:
    """Something that lasted, from ``start`` for ``width`` of :data:`SCALE`."""

    name: str
    kind: str
    start: float
    width: float
    lasted_ms: int


@dataclass
class Lane:
    """What happened in one place: the gateway's queue, or one attempt."""

    title: str
    status: str | None = None
    data: RequestData | None = None
    is_charged: bool = False
    spans: list[Span] = field(default_factory=list)


@dataclass(frozen=True)
class Timeline:
    """All that is known. ``told`` has the events themselves, the oldest first."""

    stages: list[Stage]
    lanes: list[Lane]
    told: list[dict[str, Any]]
    model: str | None
    endpoint: str | None
    begins_ms: int
    lasted_ms: int


def timeline_of(rows: Sequence[dict[str, Any]]) -> Timeline:
    """From rows of :func:`management.reading.queries.timeline`, of which there is at least one."""
    told = [_read(row) for row in rows]
    attempts = _attempts(told)
    charge = next((one for one in told if one["kind"] == "request.billed"), None)
    times = [one["data"].times for one in told if one["data"] is not None]
    received = _least(each.received_ms for each in times)
    published = _least(each.published_ms for each in times)
    last = charge["data"].times if charge is not None and charge["data"] is not None else None
    finished = _most(each.settled_ms or each.last_token_ms for each in times) if last is None else last.settled_ms
    steps = [
        ("Accepted", received),
        ("Published", published),
        ("Taken", _least(each.taken_ms for each in times)),
        ("First token", last.first_token_ms if last else _least(each.first_token_ms for each in times)),
        ("Finished", finished),
        ("Charged", charge["time_ms"] if charge else None),
    ]
    known = [time for _, time in steps if time is not None] or [one["time_ms"] for one in told]
    begins = min(known)
    lasted = max(1, max(known) - begins)
    first = next((data for data in (one["data"] for one in told) if data is not None), None)
    return Timeline(
        stages=[Stage(name, time, None if time is None else max(0, time - begins)) for name, time in steps],
        lanes=_lanes(attempts, received, published, begins, lasted),
        told=told,
        model=first.model if first else None,
        endpoint=first.endpoint if first else None,
        begins_ms=begins,
        lasted_ms=lasted,
    )


def _read(row: dict[str, Any]) -> dict[str, Any]:
    event: Event = codec.decode_event(row["raw"].encode())
    data = None
    if event.type in _OF_ATTEMPTS:
        try:
            data = codec.decode_request_data(event.data)
        except UndecodableMessage:
            data = None
    time_ms = round(datetime.fromisoformat(event.time).timestamp() * 1000)
    kind = event.type.removeprefix(PREFIX)
    return {"kind": kind, "time_ms": time_ms, "data": data, "source": event.source, **row}


def _attempts(told: Sequence[dict[str, Any]]) -> list[tuple[RequestData, bool]]:
    """The last word about each attempt, and whether it is the one that is charged."""
    found: dict[str, tuple[RequestData, bool]] = {}
    for one in told:
        data, is_charged = one["data"], one["kind"] == "request.billed"
        if data is not None and data.attempt_id is not None and not found.get(data.attempt_id, (data, False))[1]:
            found[data.attempt_id] = (data, is_charged)
    return sorted(found.values(), key=lambda one: (one[0].times.taken_ms or 0, one[0].attempt or 0))


def _lanes(
    attempts: Sequence[tuple[RequestData, bool]], received: int | None, published: int | None, begins: int, lasted: int
) -> list[Lane]:
    def span(name: str, kind: str, start: int | None, end: int | None) -> list[Span]:
        if start is None or end is None or end < start:
            return []
        width = max((end - start) * SCALE / lasted, 3)
        return [Span(name, kind, min((start - begins) * SCALE / lasted, SCALE - width), width, end - start)]

    taken = _least(data.times.taken_ms for data, _ in attempts)
    gateway = Lane("Gateway")
    gateway.spans += span("Publishing", "publish", received, published)
    gateway.spans += span("Waiting in the queue", "queue", published, taken)
    lanes = [gateway] if gateway.spans else []
    for number, (data, is_charged) in enumerate(attempts, 1):
        times, lane = data.times, Lane(f"Attempt {data.attempt or number}", data.status, data, is_charged)
        generated = times.last_token_ms or times.settled_ms
        if times.first_token_ms is None:
            lane.spans += span("Without an answer", "first", times.taken_ms, times.settled_ms)
        else:
            lane.spans += span("Until the first token", "first", times.taken_ms, times.first_token_ms)
            lane.spans += span("Generating", "generate", times.first_token_ms, generated)
            lane.spans += span("Settling", "settle", times.last_token_ms, times.settled_ms)
        lanes.append(lane)
    return lanes


def _least(times: Any) -> int | None:
    return min((time for time in times if time is not None), default=None)


def _most(times: Any) -> int | None:
    return max((time for time in times if time is not None), default=None)
