"""All requests that this gateway owns: carries out what :mod:`gateway.conversation` decides."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, assert_never

import msgspec

from gateway.conversation import Break, Complete, Conversation, Decision, Forget, Probe, Show, Tell
from gateway.exchange import Exchange
from process.identity import now_ms
from process.logging import Log
from wire.control import AreYouAlive, Stop
from wire.errors import FleetError, Overloaded
from wire.piece import Alive, Content, Failed, Finished, Settled, Started

if TYPE_CHECKING:
    from gateway.line import Lines
    from gateway.metrics import GatewayMetrics
    from gateway.record import GatewayRecorder
    from wire.control import Word
    from wire.errors import ErrorBody
    from wire.event import RequestEventType, Status
    from wire.piece import Frame
    from wire.request import Request

log = Log("gateway")

PROBE_S = 0.5
"""A holder that says nothing for this long after ``alive?`` is dead, if our own echo was heard meanwhile."""
INSIST_S = 0.5
"""A node that should stop and does not settle is told again this often."""
INSIST_MAX = 20
FORGET_AFTER_S = 60.0
"""A request that nobody settles is forgotten this long after its deadline."""


@dataclass
class _Owned:
    """A request with its state, its client's exchange and its timers."""

    request: Request
    """Without its body."""
    body_bytes: int
    conversation: Conversation
    exchange: Exchange
    deadline: asyncio.TimerHandle | None = None
    attempts: set[str] = field(default_factory=set)
    insisted: int = 0
    client_waits: bool = True


class Conversations:
    """Opened by HTTP handlers, fed with frames by :class:`gateway.line.Lines`."""

    def __init__(
        self,
        recorder: GatewayRecorder,
        metrics: GatewayMetrics,
        *,
        conversations_max: int,
        stream_buffer_bytes_max: int,
        answer_bytes_max: int,
    ) -> None:
        self.lines: Lines | None = None
        """Set once, before the first frame: lines and conversations know each other."""
        self._recorder = recorder
        self._metrics = metrics
        self._conversations_max = conversations_max
        self._stream_buffer_bytes_max = stream_buffer_bytes_max
        self._answer_bytes_max = answer_bytes_max
        self.open_count = 0
        """How many clients still wait for their end."""
        self._all_answered = asyncio.Event()
        self._all_answered.set()
        self._owned: dict[str, _Owned] = {}
        self._by_attempt: dict[str, _Owned] = {}

    def __repr__(self) -> str:
        return f"<Conversations {len(self._owned)} attempts={len(self._by_attempt)}>"

    def __len__(self) -> int:
        return len(self._owned)

    async def all_answered(self, within_s: float) -> bool:
        """Wait until no client waits for its end any more; False if that takes too long."""
        try:
            async with asyncio.timeout(within_s):
                await self._all_answered.wait()
        except TimeoutError:
            return False
        return True

    def open(self, request: Request, *, plain: bool = False, keep_text: bool = False) -> Exchange:
        """Own a request from here to its end (see :class:`gateway.conversation.Conversation` for the flags).

        Raises :class:`wire.errors.Overloaded`.
        """
        if len(self._owned) >= self._conversations_max:
            raise Overloaded(retry_after_ms=1000)
        loop = asyncio.get_running_loop()
        # The body lives in the log from now on; a backlog shall not fill this process's memory with it.
        kept = msgspec.structs.replace(request, body=b"")
        conversation = Conversation(request.request_id, request.deadline_ms, plain=plain, keep_text=keep_text)
        owned = _Owned(kept, len(request.body), conversation, Exchange())
        left_s = (request.deadline_ms - now_ms()) / 1000
        owned.deadline = loop.call_later(max(0.0, left_s), self._deadline, owned)
        self._owned[request.request_id] = owned
        self.open_count += 1
        self._all_answered.clear()
        return owned.exchange

    def never_published(self, request_id: str) -> None:
        """The request is certainly not in its topic: nothing will ever be heard of it."""
        if (owned := self._owned.get(request_id)) is not None:
            self._client_served(owned)
            self._forget(owned)

    def hang_up(self, request_id: str) -> None:
        """The client is gone."""
        if (owned := self._owned.get(request_id)) is not None and owned.conversation.state == "open":
            waiting = owned.conversation.holder is None
            self._carry_out(owned, owned.conversation.hung_up())
            self._metrics.requests.labels(outcome="cancelled").inc()
            self._client_served(owned)
            if waiting:
                self._record(owned, "request.cancelled", "cancelled")
            self._insist_later(owned)

    def break_all(self, error: FleetError) -> None:
        """This gateway is leaving: every client that still waits gets this error."""
        for owned in list(self._owned.values()):
            self._carry_out(owned, owned.conversation.broken(error))

    def frame(self, node: str, frame: Frame, *, repeated: bool) -> None:
        """Take a frame of a node (:class:`gateway.line.Listener`)."""
        now = now_ms()
        match frame:
            case Content():
                owned = self._by_attempt.get(frame.attempt_id)
                if owned is None:
                    self._say(node, Stop(attempt_id=frame.attempt_id, reason="unknown"))
                else:
                    self._carry_out(owned, owned.conversation.content(node, frame))
            case Started():
                owned = self._owned.get(frame.request_id)
                if owned is None:
                    self._say(node, Stop(attempt_id=frame.attempt_id, reason="unknown"))
                    return
                owned.attempts.add(frame.attempt_id)
                self._by_attempt[frame.attempt_id] = owned
                self._carry_out(owned, owned.conversation.started(node, frame, now))
            case Finished() | Failed():
                owned = self._by_attempt.get(frame.attempt_id)
                if owned is None:
                    self._say(node, Stop(attempt_id=frame.attempt_id, reason="unknown"))
                elif isinstance(frame, Finished):
                    self._carry_out(owned, owned.conversation.finished(node, frame))
                else:
                    self._carry_out(owned, owned.conversation.failed(node, frame, now))
            case Alive():
                if (owned := self._by_attempt.get(frame.attempt_id)) is not None:
                    self._carry_out(owned, owned.conversation.alive(frame, now))
            case Settled():
                if not repeated and (owned := self._owned.get(frame.request_id)) is not None:
                    self._carry_out(owned, owned.conversation.settled(frame))
            case _:
                assert_never(frame)

    def _carry_out(self, owned: _Owned, decisions: list[Decision]) -> None:
        for decision in decisions:
            match decision:
                case Tell(node, word):
                    self._say(node, word)
                case Show(data):
                    self._show(owned, data)
                case Complete():
                    self._metrics.requests.labels(outcome="answered").inc()
                    self._client_served(owned)
                    owned.exchange.finish(decision)
                case Break():
                    self._metrics.requests.labels(outcome=owned.conversation.state).inc()
                    self._told_an_error(owned, decision)
                    self._client_served(owned)
                    owned.exchange.finish(decision)
                case Probe(attempt_id):
                    self._probe(owned, attempt_id)
                case Forget():
                    self._forget(owned)
                case _:
                    assert_never(decision)

    def _client_served(self, owned: _Owned) -> None:
        if owned.client_waits:
            owned.client_waits = False
            self.open_count -= 1
            if not self.open_count:
                self._all_answered.set()

    def _show(self, owned: _Owned, data: bytes) -> None:
        owned.exchange.put(data)
        limit = self._stream_buffer_bytes_max if owned.request.stream else self._answer_bytes_max
        if owned.exchange.pending_bytes > limit:
            log.warning("An answer was cut: nobody takes it.", action="answer_cut", request_id=owned.request.request_id)
            self._carry_out(owned, owned.conversation.broken(FleetError("The answer was not taken fast enough.")))

    def _told_an_error(self, owned: _Owned, end: Break) -> None:
        """Tell management of an end that no node tells of: refusals and failures of a node are that node's events."""
        state = owned.conversation.state
        if state == "expired":
            self._record(owned, "request.expired", "expired", end.error)
        elif state == "poison" or (state == "failed" and end.error.code in ("stream_interrupted", "server_error")):
            self._record(owned, "request.failed", "failed", end.error)

    def _record(self, owned: _Owned, kind: RequestEventType, status: Status, error: ErrorBody | None = None) -> None:
        attempts = owned.conversation.attempts
        self._recorder.request_event(kind, owned.request, owned.body_bytes, status, attempts, error)

    def _probe(self, owned: _Owned, attempt_id: str) -> None:
        lines = self.lines
        assert lines is not None
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        holder = owned.conversation.holder
        lines.echo()

        def ask_again() -> None:
            if holder is not None and owned.conversation.holder == holder:
                self._say(holder[1], AreYouAlive(attempt_id=attempt_id))

        def judge() -> None:
            if lines.echo_heard_at >= asked_at:
                self._carry_out(owned, owned.conversation.unanswered(attempt_id, now_ms()))
            else:
                # We hear not even ourselves: silence says nothing about the node.
                lines.echo()
                loop.call_later(PROBE_S, judge)

        loop.call_later(PROBE_S / 2, ask_again)
        loop.call_later(PROBE_S, judge)

    def _deadline(self, owned: _Owned) -> None:
        self._carry_out(owned, owned.conversation.expired())
        self._insist_later(owned)
        loop = asyncio.get_running_loop()
        owned.deadline = loop.call_later(FORGET_AFTER_S, self._forget, owned)

    def _insist_later(self, owned: _Owned) -> None:
        asyncio.get_running_loop().call_later(INSIST_S, self._insist, owned)

    def _insist(self, owned: _Owned) -> None:
        decisions = owned.conversation.stop_again()
        owned.insisted += 1
        if decisions and owned.insisted <= INSIST_MAX and owned.request.request_id in self._owned:
            self._carry_out(owned, decisions)
            self._insist_later(owned)

    def _forget(self, owned: _Owned) -> None:
        if owned.deadline is not None:
            owned.deadline.cancel()
        self._owned.pop(owned.request.request_id, None)
        for attempt_id in owned.attempts:
            self._by_attempt.pop(attempt_id, None)

    def _say(self, node: str, word: Word) -> None:
        if self.lines is not None:
            self.lines.say(node, word)
