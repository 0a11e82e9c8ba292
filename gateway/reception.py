"""Taking a request in, whatever its endpoint: check it, own it, publish it, and show its answer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from gateway.http.answering import Response, answer_stream, answer_whole, keep_alive, queue_headers
from gateway.http.body import ClientGone, read_body
from gateway.http.deadline import timeout_ms
from gateway.http.origin import origin
from gateway.http.traced import admitted, traced
from gateway.queue.request_queue import NotPublished
from gateway.requests.exchange import HungUp
from process import crash
from process.connection import CONNECTION
from process.identity import now_ms
from process.span_names import STATUS
from wire.errors import BodyTooLarge, Overloaded, QueueUnavailable, ShuttingDown
from wire.request import Request

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.types import Receive, Scope, Send

    from gateway.endpoints.endpoint import Asked, Endpoint
    from gateway.http.visit import Visit
    from gateway.keys.budgets import Budgets
    from gateway.metrics import GatewayMetrics
    from gateway.models.names import ModelNames
    from gateway.models.register import Models
    from gateway.queue.admission import Admission, Place
    from gateway.queue.request_queue import RequestQueue
    from gateway.requests.acceptances import Acceptances
    from gateway.requests.conversations import Conversations
    from gateway.requests.exchange import Exchange
    from gateway.settings import GatewaySettings
    from process.otel import Span, Traces
    from process.timers import Timers

USER_AGENT_CHARS_MAX = 256


class Window:
    """One endpoint's place at the reception, as an ASGI application."""

    def __init__(self, reception: Reception, endpoint: Endpoint) -> None:
        self._reception = reception
        self._endpoint = endpoint

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one request. Errors before its acceptance are raised, for :mod:`gateway.http.front` to render."""
        answering = self._reception.answer(self._endpoint, scope, receive, send)
        traces = self._reception.traces
        return answering if traces is None else traced(traces, self._endpoint, scope, answering)


class Reception:
    """What all windows share: no model object per request, no parsing per chunk."""

    def __init__(
        self,
        settings: GatewaySettings,
        gateway: str,
        names: ModelNames,
        models: Models,
        admission: Admission,
        queue: RequestQueue,
        conversations: Conversations,
        metrics: GatewayMetrics,
        acceptances: Acceptances,
        timers: Timers,
    ) -> None:
        self.budgets: Budgets | None = None
        """Set where there is a database that has them."""
        self.traces: Traces | None = None
        """Set where somebody wants them."""
        self.leaving = False
        """Set when the gateway shuts down: clients go to another one with what they ask after the next answer."""
        self.closed = False
        """Set a little later: open answers finish, new requests are refused."""
        self._settings = settings
        self._timers = timers
        self._on_disconnect = settings.disconnect_policy
        self._gateway = gateway
        self._names = names
        self._models = models
        self._admission = admission
        self._queue = queue
        self._conversations = conversations
        self._metrics = metrics
        self._acceptances = acceptances
        self._tag_names = settings.tag_names

    async def answer(self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (see :class:`Window`)."""
        settings = self._settings
        headers: dict[bytes, bytes] = dict(scope["headers"])
        try:
            body = await read_body(
                receive, headers, self._timers, bytes_max=settings.body_bytes_max, wait_s=settings.body_wait_s
            )
        except ClientGone:
            return
        if self.closed:  # perhaps since its head came: nobody waits any more for what would be open from now on
            raise ShuttingDown(retry_after_ms=1000)
        asked = endpoint.parse(body, scope["path"])
        request = self._request(endpoint, asked, scope, headers, body)
        span: Span | None = scope["state"].get("span")
        place, exchange = await self._admit(request, asked, scope["state"]["visit"], span)
        began = time.perf_counter()
        response = Response(
            exchange, scope[CONNECTION], send, queue_headers(place.admitted), self._timers, settings.write_wait_s
        )
        ended = False
        try:
            crash.point("after_own_before_publish")
            await self._publish(request, exchange)
            if span is not None:
                span.step("published")
            crash.point("after_publish")
            # An answer may last for minutes; from here on the prompt is the queue's alone.
            request = msgspec.structs.replace(request, body=b"")
            del body, asked, headers
            if request.stream:
                await answer_stream(
                    exchange,
                    response,
                    lambda: keep_alive(place.standing(now_ms())),
                    status_hold_s=settings.status_hold_s,
                    keep_alive_s=settings.keep_alive_s,
                )
            else:
                await answer_whole(exchange, response)
            ended = True
            crash.point("after_answer")
        except HungUp:
            pass
        finally:
            response.close()
            if not ended:
                finish = self._on_disconnect.finishes(request.model, request.key_id)
                self._conversations.hang_up(request.request_id, finish=finish)
            self._metrics.seconds.observe(time.perf_counter() - began)
            if span is not None and response.status is not None:
                span.note({STATUS: response.status})

    async def _admit(self, request: Request, asked: Asked, visit: Visit, span: Span | None) -> tuple[Place, Exchange]:
        """Own the request if it may wait and its key has room; whoever is refused holds nothing."""
        now = now_ms()
        # The queue comes first: a request that cannot be served shall not count against its key's limits.
        self._queue.check()
        self._conversations.check_room()
        place = self._admission.admit(request.model, request.deadline_ms - now, now)
        try:
            await visit.admit(request)
            if self.budgets is not None:
                await self.budgets.reserve(request)
        except BaseException:
            place.leave()
            raise
        try:
            visit.exchange = self._conversations.open(
                request, plain=asked.plain, keep_text=self._models.continues(request.model), place=place, span=span
            )
        except BaseException:
            place.leave()
            self._release(request)
            raise
        place.accept()
        if span is not None:
            admitted(span, request)
        return place, visit.exchange

    def _request(
        self, endpoint: Endpoint, asked: Asked, scope: Scope, headers: dict[bytes, bytes], body: bytes
    ) -> Request:
        """What is published: the client's own bytes, and beside them what routing and billing need."""
        received = now_ms()
        model = self._names.resolve(asked.model)
        scope["state"]["visit"].check_model(asked.model or self._names.default, model)
        self._models.admit(model, endpoint.name, received)
        agent = headers.get(b"user-agent")
        span: Span | None = scope["state"].get("span")
        return Request(
            request_id=scope["state"]["request_id"],
            model=model,
            endpoint=endpoint.name,
            body=body if asked.body is None else asked.body,
            gateway=self._gateway,
            received_ms=received,
            deadline_ms=received + timeout_ms(headers, self._settings.request_timeout_s, stream=asked.stream),
            stream=asked.stream,
            usage_asked=asked.usage_asked,
            key_id=scope["state"]["key_id"],
            user_agent=agent.decode("latin-1")[:USER_AGENT_CHARS_MAX] if agent else None,
            n=asked.n,
            answers=None if asked.answers == (asked.n or 1) else asked.answers,
            max_tokens=asked.max_tokens,
            origin=origin(headers, self._models.has_node),
            images=asked.images or None,
            tags=self._tags(asked, scope["state"]["visit"]),
            traceparent=None if span is None else span.traceparent,
        )

    async def _publish(self, request: Request, exchange: Exchange) -> None:
        try:
            with self._timers.limit((request.deadline_ms - now_ms()) / 1000) as limit:
                if not self._on_disconnect.finishes(request.model, request.key_id):
                    # Else who has gone would wait for a broker that is away, with what its key may have at once.
                    exchange.on_hang_up = limit.end
                    if exchange.hung_up:
                        raise TimeoutError  # it left while it was admitted
                exchange.on_taken = limit.end
                try:
                    await self._queue.publish(request)
                finally:
                    exchange.on_hang_up = exchange.on_taken = None
        except TimeoutError:
            # Its deadline or its client's leaving has ended it, receipt or not, and that is what becomes of it; or a
            # node has it, whose answer shall not wait for a receipt that was lost.
            pass
        except (NotPublished, Overloaded, BodyTooLarge):
            self._conversations.never_published(request.request_id)
            self._release(request)
            raise
        except QueueUnavailable as error:
            # Perhaps it is in the topic after all. A node that has found it answers, and charges for that; one that
            # finds it later will be told that it has its end, which its client hears as that of any other.
            self._conversations.give_up(request.request_id, error)
        self._acceptances.add(request)

    def _release(self, request: Request) -> None:
        if self.budgets is not None:
            self.budgets.release(request.request_id)

    def _tags(self, asked: Asked, visit: Visit) -> dict[str, str]:
        names = self._tag_names
        return visit.tags({name: tag for name, tag in asked.tags.items() if names is None or name in names})
