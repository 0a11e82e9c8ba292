"""What an operator does with a dead letter stands in the ledger."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import msgspec

from process import __version__
from process.identity import now_ms
from wire import codec
from wire.event import RequestData, RequestEventType, Status
from wire.topics import LEDGER

if TYPE_CHECKING:
    from broker.interface import Broker
    from wire.request import Request
    from wire.topics import Topics


def told_of(request: Request, status: Status, *, code: str | None = None, message: str | None = None) -> RequestData:
    """What is told of a request that is still there."""
    return RequestData(
        request_id=request.request_id,
        endpoint=request.endpoint,
        model=request.model,
        status=status,
        stream=request.stream,
        error_code=code,
        message=message,
        key_id=request.key_id,
        body_bytes=len(request.body),
    )


async def leave_trace(
    broker: Broker,
    topics: Topics,
    kind: RequestEventType,
    data: RequestData,
) -> None:
    """Return when the event is in the results topic. Raises :class:`broker.interface.BrokerError`."""
    at_ms = now_ms()
    data = msgspec.structs.replace(data, host=socket.gethostname(), version=__version__)
    # With the time: an operator may do the same again, and that is another fact.
    event_id = f"{kind.partition('.')[2]}-{data.request_id}-{at_ms}"
    event = codec.encode_told(kind, event_id, "/operators", data.request_id, data, at_ms)
    await broker.ensure(topics.results, LEDGER)
    producer = await broker.producer(topics.results)
    try:
        await producer.send(event)
    finally:
        await producer.aclose()
