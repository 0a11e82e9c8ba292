"""What this gateway tells management: ends of requests that no node tells of, and what it refused."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from broker.interface import BrokerError, PayloadTooLarge
from process import __version__
from process.identity import now_ms
from process.logging import Log
from wire import codec
from wire.event import (
    PROMPT_BYTES_MAX,
    AcceptedData,
    AcceptedEventType,
    EventType,
    GatewayData,
    GatewayEventType,
    PromptData,
    RequestData,
    RequestEventType,
    Status,
    Times,
    request_event_id,
)

if TYPE_CHECKING:
    from broker.interface import Producer
    from process.lifecycle import Tasks
    from wire.errors import ErrorBody
    from wire.request import Request

log = Log("gateway")

EVENTS_WAITING_MAX = 10_000
"""Events that may be lost. Ends and charges may not: as long as they wait, fewer requests are accepted."""
SENDS_MAX = 1000
"""Events that wait for the broker's receipt at once. Requests need the room as well."""
RETRY_S = 1.0
RETRIES_MAX = 60


class GatewayRecorder:
    """Publishes in the background. Ends and charges of requests wait for the broker as long as it takes, for nobody
    else may know of them; other events that cannot be told for a minute are lost, which the log tells."""

    def __init__(self, gateway: str, tasks: Tasks) -> None:
        self.producer: Producer | None = None
        """Set once the broker is reached; before that no request is accepted."""
        self._gateway = gateway
        self._tasks = tasks
        self._ends: set[asyncio.Task[None]] = set()
        self._others: set[asyncio.Task[None]] = set()
        self._sends = asyncio.Semaphore(SENDS_MAX)

    @property
    def ends_waiting(self) -> int:
        """How many ends and charges are not told yet."""
        return len(self._ends)

    def request_event(
        self,
        kind: RequestEventType,
        request: Request,
        body_bytes: int,
        status: Status,
        attempts: int,
        error: ErrorBody | None = None,
    ) -> None:
        """Tell how a request ended for its client."""
        times = Times(received_ms=request.received_ms, settled_ms=now_ms())
        data = RequestData(
            request_id=request.request_id,
            endpoint=request.endpoint,
            model=request.model,
            status=status,
            stream=request.stream,
            attempt=attempts or None,
            times=times,
            durations=times.durations(),
            error_code=error.code if error else None,
            message=error.message if error else None,
            key_id=request.key_id,
            user_agent=request.user_agent,
            client_request_id=request.origin.client_request_id if request.origin else None,
            version=__version__,
            body_bytes=body_bytes,
            n=request.n,
            max_tokens=request.max_tokens,
            images=request.images,
            tags=request.tags,
        )
        event = self._event(kind, request_event_id(kind, request.request_id), request.request_id, data)
        self._tell(event, request.request_id)

    def prompt(self, request: Request) -> None:
        """Tell what a client sent, as far as one event holds it."""
        data = PromptData(
            request_id=request.request_id,
            model=request.model,
            endpoint=request.endpoint,
            body=request.body[:PROMPT_BYTES_MAX],
            body_bytes=len(request.body),
            key_id=request.key_id,
        )
        id_ = request.request_id
        self._tell(self._event("request.prompt", f"prompt-{id_}", id_, data), id_, RETRIES_MAX)

    def gateway_event(
        self, kind: GatewayEventType | AcceptedEventType, event_id: str, data: GatewayData | AcceptedData
    ) -> None:
        """Tell something about this gateway."""
        self._tell(self._event(kind, event_id, self._gateway, data), kind, RETRIES_MAX)

    def repeat(self, charge: bytes, request_id: str) -> None:
        """Tell the charge of an accepted attempt whose node may be gone. Its id makes it count once."""
        self._tell(charge, request_id)

    async def flushed(self, within_s: float) -> int:
        """Wait until everything is told, or for so long nothing was; returns how many events are left."""
        waiting, before = self._ends | self._others, math.inf
        while 0 < len(waiting) < before:
            before = len(waiting)
            _, waiting = await asyncio.wait(waiting, timeout=within_s)
        return len(waiting)

    def _event(self, kind: EventType, event_id: str, subject: str, data: codec.EventData) -> bytes:
        return codec.encode_told(kind, event_id, f"/gateways/{self._gateway}", subject, data, now_ms())

    def _tell(self, event: bytes, about: str, tries: float = math.inf) -> None:
        waiting = self._ends if tries == math.inf else self._others
        if waiting is self._others and len(waiting) >= EVENTS_WAITING_MAX:
            log.error("An event was lost: too many wait for the broker.", action="event_lost", about=about)
            return
        task = self._tasks.start(self._publish(event, about, tries), "tell event")
        waiting.add(task)
        task.add_done_callback(waiting.discard)

    async def _publish(self, event: bytes, about: str, tries: float) -> None:
        while tries:
            try:
                if self.producer is not None:
                    async with self._sends:
                        return await self.producer.send(event)
            except PayloadTooLarge:
                log.error("An event was too large to be told.", action="event_too_large", bytes=len(event))
                return None
            except BrokerError:
                pass
            tries -= 1
            await asyncio.sleep(RETRY_S)
        log.error("An event was lost: the broker was away for too long.", action="event_lost", about=about)
        return None
