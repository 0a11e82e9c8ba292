"""What this node tells management: the charge and the cost of its attempts, and its own states."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from broker.interface import BrokerError, PayloadTooLarge
from process import __version__
from process.identity import now_ms
from process.logging import Log
from wire import codec
from wire.event import (
    EventType,
    NodeData,
    NodeEventType,
    RequestData,
    RequestEventType,
    Status,
    Times,
    attempt_event_id,
    charge_id,
)
from workernode.outcome import Cancelled, Interrupted, Later, Refused

if TYPE_CHECKING:
    from broker.interface import Producer
    from wire.usage import Usage
    from workernode.attempt import Attempt
    from workernode.engine import Engine
    from workernode.identity import NodeIdentity
    from workernode.outcome import Outcome
    from workernode.settling import Bill

log = Log("node")

RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Pauses between attempts to publish one event; the last one repeats. The unacknowledged request is the outbox."""


class Recorder:
    """Composes events and publishes them until the broker has confirmed."""

    def __init__(self, identity: NodeIdentity, engine: Engine, producer: Producer) -> None:
        self._identity = identity
        self._engine = engine
        self._producer = producer

    async def publish(self, event: bytes) -> None:
        """Return when the event is in the results topic. Repeats it, with the same id, for as long as that takes."""
        tries = 0
        while True:
            try:
                return await self._producer.send(event)
            except PayloadTooLarge:
                log.error("An event was too large to be told.", action="event_too_large", bytes=len(event))
                return None
            except BrokerError as error:
                if tries == 0:
                    log.warning("An event waits for the broker.", action="event_waits", why=str(error))
                await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
                tries += 1

    def charge(self, attempt: Attempt, usage: Usage, finish_reason: str | None, *, cancelled: bool) -> bytes:
        """The one charge of the attempt's request, if the gateway accepts this end."""
        data = self._request_data(attempt, usage, "cancelled" if cancelled else "answered", finish_reason)
        return self._event("request.billed", charge_id(attempt.request.request_id), attempt.request.request_id, data)

    def attempt_event(self, attempt: Attempt, bill: Bill, outcome: Outcome, usage: Usage) -> bytes:
        """A failure, a cost without charge, or an abandoned request."""
        error = outcome.error if isinstance(outcome, Refused | Later) else None
        kind: RequestEventType = (
            "request.failed" if bill == "failed" else "request.abandoned" if bill == "abandoned" else "request.cost"
        )
        data = self._request_data(
            attempt,
            usage,
            "abandoned" if bill == "abandoned" else _status(outcome),
            None,
            error_code=error.code if error else None,
            message=error.message if error else None,
        )
        return self._event(kind, attempt_event_id(kind, attempt.attempt_id), attempt.request.request_id, data)

    def node_event(
        self,
        kind: NodeEventType,
        message: str,
        *,
        error_code: str | None = None,
        until_ms: int | None = None,
        about: str | None = None,
    ) -> bytes:
        """Something about this node. ``about`` makes it the same event when it is told again of the same thing."""
        identity = self._identity
        data = NodeData(
            node=identity.incarnation,
            name=identity.name,
            model=identity.model,
            node_type=identity.type,
            version=__version__,
            host=identity.host or identity.name,
            provider=self._engine.details.provider,
            message=message,
            error_code=error_code,
            until_ms=until_ms,
        )
        return self._event(kind, f"{kind}-{identity.incarnation}-{about or now_ms()}", identity.incarnation, data)

    def _request_data(
        self,
        attempt: Attempt,
        usage: Usage,
        status: Status,
        finish_reason: str | None,
        *,
        error_code: str | None = None,
        message: str | None = None,
    ) -> RequestData:
        request, identity = attempt.request, self._identity
        times = Times(
            received_ms=request.received_ms,
            published_ms=attempt.published_ms,
            taken_ms=attempt.taken_ms,
            first_token_ms=attempt.first_token_ms,
            last_token_ms=attempt.last_token_ms,
            settled_ms=now_ms(),
        )
        return RequestData(
            request_id=request.request_id,
            endpoint=request.endpoint,
            model=request.model,
            status=status,
            stream=request.stream,
            attempt_id=attempt.attempt_id,
            attempt=attempt.number,
            usage=usage,
            times=times,
            durations=times.durations(),
            finish_reason=finish_reason,
            error_code=error_code,
            message=message,
            key_id=request.key_id,
            user_agent=request.user_agent,
            client_request_id=request.origin.client_request_id if request.origin else None,
            node=identity.incarnation,
            node_type=identity.type,
            host=identity.host or identity.name,
            version=__version__,
            upstream_model=self._engine.details.upstream_model,
            provider=self._engine.details.provider,
            body_bytes=len(request.body),
            answer_bytes=attempt.answer_bytes,
            n=request.n,
            max_tokens=request.max_tokens,
            images=request.images,
            tags=request.tags,
        )

    def _event(self, kind: EventType, event_id: str, subject: str, data: codec.EventData) -> bytes:
        source = f"/nodes/{self._identity.incarnation}"
        return codec.encode_told(kind, event_id, source, subject, data, now_ms())


def _status(outcome: Outcome) -> Status:
    match outcome:
        case Refused(error):
            return "refused" if error.http_status < 500 else "failed"
        case Later() | Interrupted():
            return "handed_back"
        case Cancelled("expired"):
            return "expired"
        case Cancelled("superseded" | "again"):
            return "superseded"
        case Cancelled():
            return "cancelled"
        case _:
            return "superseded"
