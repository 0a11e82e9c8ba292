"""Replaying a dead letter is owning its request once more: whoever does it is its gateway until it ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

import msgspec

from dead_letters.deciding import Replayed
from gateway.metrics import GatewayMetrics
from gateway.models.register import Models
from gateway.queue.broker_wait import BrokerWait
from gateway.queue.request_queue import RequestQueue
from gateway.requests.conversations import Conversations
from gateway.requests.decisions import Break
from gateway.requests.line import Lines
from gateway.requests.record import GatewayRecorder
from process.identity import new_incarnation, now_ms
from process.lifecycle import Tasks
from process.logging import Log
from process.timers import Timers
from wire.errors import Poison
from wire.topics import LEDGER

if TYPE_CHECKING:
    from broker.interface import Broker
    from gateway.requests.exchange import Exchange
    from wire.request import Request
    from wire.topics import Topics

log = Log("fleet")

ANSWER_BYTES_MAX = 64 * 1024 * 1024
SETTLE_S = 30.0
"""How long its node may take to charge for the answer, and to acknowledge the request."""


class _ChargesOnly(GatewayRecorder):
    """The request had its end in the ledger long ago; what the operator did is told as one event of its own."""

    def request_event(self, *_: object, **__: object) -> None:
        return None


async def replay(broker: Broker, topics: Topics, request: Request, timeout_s: float) -> Replayed:
    """Publish the request again, under its own id and with a fresh deadline, and see it to its end.

    Raises :class:`wire.errors.FleetError` where it could not be published, and :class:`broker.interface.BrokerError`.
    """
    gateway = new_incarnation("replay")
    received = now_ms()
    fresh = msgspec.structs.replace(
        request, gateway=gateway, received_ms=received, deadline_ms=received + round(timeout_s * 1000)
    )
    tasks, metrics = Tasks(log), GatewayMetrics()
    recorder = _ChargesOnly(gateway, tasks)
    conversations = Conversations(
        recorder,
        metrics,
        Models((), 0.0, 0),  # nobody listens to heartbeats here: silence is believed
        Timers(asyncio.get_running_loop()),
        conversations_max=1,
        stream_buffer_bytes_max=ANSWER_BYTES_MAX,
        answer_bytes_max=ANSWER_BYTES_MAX,
    )
    lines = conversations.lines = Lines(gateway, broker, topics, conversations, metrics)
    queue = RequestQueue(broker, topics, BrokerWait(broker))
    try:
        await broker.ensure(topics.results, LEDGER)
        recorder.producer = await broker.producer(topics.results)
        await lines.start()
        exchange = conversations.open(fresh)
        await queue.publish(fresh)
        answer = await _to_the_end(exchange)
        settled = await conversations.all_settled(SETTLE_S)
        conversations.close_books()
        await recorder.flushed(SETTLE_S)
        return _outcome(exchange, answer, settled=settled)
    finally:
        conversations.hang_up(request.request_id)  # if it is still open: nobody waits for it any more
        await queue.aclose()
        await lines.aclose()
        await tasks.aclose()


async def _to_the_end(exchange: Exchange) -> bytes:
    parts = []
    while exchange.end is None:
        await exchange.news(1.0)
        parts.append(exchange.take())
    return b"".join([*parts, exchange.take()])


def _outcome(exchange: Exchange, answer: bytes, *, settled: bool) -> Replayed:
    end = exchange.end
    assert end is not None
    if not isinstance(end, Break):
        return Replayed("answered", answer, usage=end.usage, settled=settled)
    error = (end.error.code, end.error.message)
    if end.error.code == Poison.code:
        return Replayed("dead", answer, error=error, settled=settled)
    status: Literal["failed", "expired"] = "expired" if end.error.code == "deadline_exceeded" else "failed"
    return Replayed(status, answer, error=error, settled=settled)
