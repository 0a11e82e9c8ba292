"""What an operator does with a dead letter stands in the ledger."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from process import __version__
from process.identity import now_ms
from wire import codec
from wire.event import PREFIX, Event, RequestData, RequestEventType, Status
from wire.topics import LEDGER

if TYPE_CHECKING:
    from broker.interface import Broker
    from wire.request import Request
    from wire.topics import Topics


async def leave_trace(
    broker: Broker,
    topics: Topics,
    kind: RequestEventType,
    request: Request,
    status: Status,
    *,
    code: str | None = None,
    message: str | None = None,
) -> None:
    """Return when the event is in the results topic. Raises :class:`broker.interface.BrokerError`."""
    at_ms = now_ms()
    data = RequestData(
        request_id=request.request_id,
        endpoint=request.endpoint,
        model=request.model,
        status=status,
        stream=request.stream,
        error_code=code,
        message=message,
        key_id=request.key_id,
        host=socket.gethostname(),
        version=__version__,
        body_bytes=len(request.body),
    )
    event = Event(
        # With the time: an operator may do the same again, and that is another fact.
        id=f"{kind.partition('.')[2]}-{request.request_id}-{at_ms}",
        source="/operators",
        type=PREFIX + kind,
        time=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        subject=request.request_id,
        data=codec.encode_event_data(data),
    )
    await broker.ensure(topics.results, LEDGER)
    producer = await broker.producer(topics.results)
    try:
        await producer.send(codec.encode_event(event))
    finally:
        await producer.aclose()
