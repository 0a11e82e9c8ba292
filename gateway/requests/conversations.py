"""All requests that this gateway owns: carries out what :mod:`gateway.requests.conversation` decides."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, assert_never

import msgspec

from gateway.requests.conversation import Conversation
from gateway.requests.decisions import Break, Complete, Decision, Forget, Probe, Show, Tell, Verify
from gateway.requests.ends import Ends
from gateway.requests.exchange import Exchange
from gateway.requests.journey import Journey
from gateway.requests.owned import Owned
from process import crash
from process.identity import now_ms
from process.logging import Log
from wire.control import Accepted, AreYouAlive, Settle, Stop
from wire.errors import AnswerTooLarge, FleetError, Overloaded, RequestCancelled
from wire.piece import Alive, Content, Failed, Finished, Settled, Started
from wire.presence import PRESENCE_EVERY_S

if TYPE_CHECKING:
    from gateway.metrics import GatewayMetrics
    from gateway.models.register import Models
    from gateway.queue.admission import Place
    from gateway.requests.line import Lines
    from gateway.requests.record import GatewayRecorder
    from process.otel import Span
    from process.timers import Timers
    from wire.control import Word
    from wire.piece import AttemptFrame
    from wire.request import Request

log = Log("gateway")

PROBE_S = 0.5
"""A holder that says nothing for this long after ``alive?`` is dead, if our own echo was heard meanwhile."""
ASKS = 4
"""How often it is asked within that, as long as it has not answered."""
VERIFY_S = PRESENCE_EVERY_S + 1.0
"""A node that was silent and of which nothing comes for this long, not even a heartbeat, is dead for certain. After a
restart of the broker it may be back later than we are, and was never dead."""
INSIST_S = 0.5
"""A node that should stop and does not settle is told again this often."""
INSIST_MAX = 20
FORGET_AFTER_S = 60.0
"""A request that nobody settles is forgotten this long after its deadline."""


class Conversations:
    """Opened by HTTP handlers, fed with frames by :class:`gateway.requests.line.Lines`."""

    def __init__(
        self,
        recorder: GatewayRecorder,
        metrics: GatewayMetrics,
        models: Models,
        timers: Timers,
        *,
        conversations_max: int,
        stream_buffer_bytes_max: int,
        answer_bytes_max: int,
    ) -> None:
        self.lines: Lines | None = None
        """Set once, before the first frame: lines and conversations know each other."""
        self._ends = Ends(recorder)
        self._timers = timers
        self._metrics = metrics
        self._models = models
        self._conversations_max = conversations_max
        self._stream_buffer_bytes_max = stream_buffer_bytes_max
        self._answer_bytes_max = answer_bytes_max
        self.open_count = 0
        """How many requests have not come to their end yet; their clients wait, or have left that to us."""
        self._all_answered = asyncio.Event()
        self._all_answered.set()
        self._all_settled = asyncio.Event()
        self._all_settled.set()
        self._owned: dict[str, Owned] = {}
        self._by_attempt: dict[str, Owned] = {}

    def __repr__(self) -> str:
        return f"<Conversations {len(self._owned)} attempts={len(self._by_attempt)}>"

    def __len__(self) -> int:
        return len(self._owned)

    @property
    def unsettled_count(self) -> int:
        """Of how many accepted ends it is not certain yet that they are charged."""
        return self._ends.unsettled_count

    async def all_answered(self, within_s: float) -> bool:
        """Wait until no client waits for its end any more; False if that takes too long."""
        try:
            async with asyncio.timeout(within_s):
                await self._all_answered.wait()
        except TimeoutError:
            return False
        return True

    async def all_settled(self, within_s: float) -> bool:
        """Wait until every request that was ever owned is forgotten; False if that takes too long."""
        try:
            async with asyncio.timeout(within_s):
                await self._all_settled.wait()
        except TimeoutError:
            return False
        return True

    def check_room(self) -> None:
        """Raises :class:`wire.errors.Overloaded` while no more requests can be owned. Ends that wait for the broker are
        kept, and take the room."""
        if len(self._owned) + self._ends.untold_count >= self._conversations_max:
            raise Overloaded(retry_after_ms=1000)

    def open(
        self,
        request: Request,
        *,
        plain: bool = False,
        keep_text: bool = False,
        place: Place | None = None,
        span: Span | None = None,
    ) -> Exchange:
        """Own a request from here to its end (see :class:`gateway.requests.conversation.Conversation` for the flags).

        ``place``: its place in the queue, which is left when its client has its end. ``span`` hears what it comes
        through, and is ended by who began it.

        Raises :class:`wire.errors.Overloaded` (see :meth:`check_room`).
        """
        self.check_room()
        # The body lives in the log from now on; a backlog shall not fill this process's memory with it.
        kept = msgspec.structs.replace(request, body=b"")
        exchange = Exchange(self._timers)
        conversation = Conversation(request.request_id, request.deadline_ms, plain=plain, keep_text=keep_text)
        journey = Journey(self._metrics, stream=request.stream, span=span)
        owned = Owned(kept, len(request.body), conversation, exchange, journey, place)
        left_s = (request.deadline_ms - now_ms()) / 1000
        owned.deadline = self._timers.after(left_s, partial(self._deadline, owned))
        owned.ends_at = self._timers.loop.time() + left_s
        self._owned[request.request_id] = owned
        self.open_count += 1
        self._all_answered.clear()
        self._all_settled.clear()
        return exchange

    def never_published(self, request_id: str) -> None:
        """The request is certainly not in its topic: nothing will ever be heard of it."""
        if (owned := self._owned.get(request_id)) is not None:
            self._client_served(owned)
            owned.end_told = True  # its end is the refusal that its client got
            self._forget(owned)

    def hang_up(self, request_id: str, *, finish: bool = False) -> None:
        """The client is gone. ``finish``: the answer is still wanted, though nobody reads it."""
        if (owned := self._owned.get(request_id)) is not None and owned.conversation.state == "open":
            waiting = owned.conversation.holder is None
            if finish:
                owned.exchange.discard()
                return
            owned.exchange.begun = not waiting
            self._cancel(owned, waiting=waiting)

    def cancel(self, request_id: str) -> bool:
        """An operator wants no answer to it: its client gets an error. Returns whether it was open here."""
        owned = self._owned.get(request_id)
        if owned is None or owned.conversation.state != "open":
            return False
        owned.error = RequestCancelled().body()
        self._cancel(owned, waiting=owned.conversation.holder is None)
        owned.exchange.finish(Break(owned.error))
        return True

    def _cancel(self, owned: Owned, *, waiting: bool) -> None:
        self._carry_out(owned, owned.conversation.hung_up())
        owned.journey.cancelled(owned.error)
        self._client_served(owned)
        if not waiting:
            self._insist_later(owned)  # its node charges for what was generated
        elif owned.attempts:
            self._ends.tell(owned)
        else:
            # No node has it, perhaps for long: whoever takes it will hear that nobody knows of it any more.
            self._forget(owned)

    def give_up(self, request_id: str, error: FleetError) -> bool:
        """No receipt came: the request ends with this error, unless a node has shown that it is in its topic after all.

        Returns whether it ended.
        """
        owned = self._owned.get(request_id)
        if owned is None or owned.attempts:
            return False
        self._carry_out(owned, owned.conversation.broken(error))
        return True

    def break_all(self, error: FleetError) -> None:
        """This gateway is leaving: every client that still waits gets this error."""
        for owned in list(self._owned.values()):
            self._carry_out(owned, owned.conversation.broken(error))

    def close_books(self) -> None:
        """This gateway is leaving: tell what no node has told yet."""
        for owned in list(self._owned.values()):
            self._ends.tell(owned)

    def frame(self, node: str, frame: AttemptFrame, *, repeated: bool) -> None:
        """Take a frame of a node (:class:`gateway.requests.line.FrameTaker`)."""
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
                if frame.attempt_id not in owned.attempts:
                    owned.attempts += (frame.attempt_id,)
                    owned.exchange.taken()
                self._by_attempt[frame.attempt_id] = owned
                self._carry_out(owned, owned.conversation.started(node, frame, self._now_ms(owned)))
            case Finished() | Failed():
                owned = self._by_attempt.get(frame.attempt_id)
                if owned is None:
                    self._say(node, Stop(attempt_id=frame.attempt_id, reason="unknown"))
                elif isinstance(frame, Finished):
                    decisions = owned.conversation.finished(node, frame)
                    if owned.charge is None and _accepts(decisions):
                        self._ends.accept(owned, frame.charge)
                        owned.journey.end_accepted(frame.usage)
                    self._carry_out(owned, decisions)
                else:
                    decisions = owned.conversation.failed(node, frame, self._now_ms(owned))
                    self._carry_out(owned, decisions, node_tells=not frame.again and _accepts(decisions))
            case Alive():
                if (owned := self._by_attempt.get(frame.attempt_id)) is not None:
                    self._carry_out(owned, owned.conversation.alive(frame, self._now_ms(owned)))
            case Settled():
                if not repeated and (owned := self._owned.get(frame.request_id)) is not None:
                    self._ends.settled(owned, frame)
                    if not frame.abandoned:
                        owned.journey.settled()
                    self._carry_out(owned, owned.conversation.settled(frame))
            case _:
                assert_never(frame)

    def _carry_out(self, owned: Owned, decisions: list[Decision], *, node_tells: bool = False) -> None:
        """``node_tells``: the error among the decisions is a node's, and its event too."""
        for decision in decisions:
            match decision:
                case Tell(node, word):
                    if isinstance(word, Accepted | Settle):
                        owned.trusted |= {word.attempt_id}
                    self._say(node, word)
                case Show(data):
                    self._show(owned, data)
                    crash.point("after_show")
                case Complete():
                    owned.journey.answered(decision)
                    self._client_served(owned)
                    crash.point("after_accept_before_answer")
                    owned.exchange.finish(decision)
                case Break():
                    owned.journey.failed(owned.conversation.state, decision.error)
                    owned.error = decision.error
                    if not node_tells:
                        self._ends.tell(owned)
                    self._client_served(owned)
                    owned.exchange.finish(decision)
                case Probe(attempt_id):
                    self._probe(owned, attempt_id)
                case Verify(nodes):
                    self._verify(owned, nodes)
                case Forget():
                    self._forget(owned)
                case _:
                    assert_never(decision)
        holder = owned.conversation.holder
        owned.journey.held(holder)
        if owned.place is not None:
            owned.place.held(holder is not None)

    def _client_served(self, owned: Owned) -> None:
        if owned.client_waits:
            owned.client_waits = False
            self.open_count -= 1
            if owned.place is not None:
                owned.place.leave()
            if not self.open_count:
                self._all_answered.set()

    def _show(self, owned: Owned, data: bytes) -> None:
        owned.journey.shown()
        owned.exchange.put(data)
        limit = self._stream_buffer_bytes_max if owned.request.stream else self._answer_bytes_max
        if owned.exchange.pending_bytes > limit:
            if owned.request.stream:
                why, error = "Nobody takes it.", FleetError("The answer was not taken fast enough.")
            else:
                why, error = "It is larger than ANSWER_BYTES_MAX.", AnswerTooLarge()
            log.warning(f"An answer was cut. {why}", action="answer_cut", **owned.ids)
            self._carry_out(owned, owned.conversation.broken(error))

    def _probe(self, owned: Owned, attempt_id: str) -> None:
        """The holder was asked just now. Each word may be lost, and each answer."""
        assert self.lines is not None
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        self.lines.echo()
        for ask in range(1, ASKS):
            loop.call_later(PROBE_S * ask / ASKS, self._ask_again, owned, attempt_id)
        loop.call_later(PROBE_S, self._judge, owned, attempt_id, asked_at)

    def _ask_again(self, owned: Owned, attempt_id: str) -> None:
        holder = owned.conversation.holder
        if holder is not None and holder[0] == attempt_id and owned.conversation.probing:
            self._say(holder[1], AreYouAlive(attempt_id=attempt_id))

    def _judge(self, owned: Owned, attempt_id: str, asked_at: float) -> None:
        assert self.lines is not None
        if self.lines.echo_heard_at >= asked_at:
            self._carry_out(owned, owned.conversation.unanswered(attempt_id, self._now_ms(owned)))
        else:
            # We hear not even ourselves: silence says nothing about the node, which may not have heard us either.
            self._ask_again(owned, attempt_id)
            self._probe(owned, attempt_id)

    def _verify(self, owned: Owned, nodes: frozenset[str]) -> None:
        lines = self.lines
        assert lines is not None
        loop = asyncio.get_running_loop()
        silent_at = loop.time()

        def listen() -> None:
            asked_at = loop.time()
            lines.echo()
            loop.call_later(PROBE_S, judge, asked_at)

        def judge(asked_at: float) -> None:
            if lines.echo_heard_at < asked_at:
                return self._verify(owned, nodes)  # we hear not even ourselves
            # Its heartbeat may be lost, and what it said before its end may come late.
            alive = {
                node
                for node in nodes
                if self._models.heard_at(node) > silent_at or lines.heard_at(node) > silent_at + VERIFY_S / 2
            }
            return self._carry_out(owned, owned.conversation.verified(alive, self._now_ms(owned)))

        loop.call_later(VERIFY_S, listen)

    def _deadline(self, owned: Owned) -> None:
        self._carry_out(owned, owned.conversation.expired())
        self._insist_later(owned)
        owned.deadline = self._timers.after(FORGET_AFTER_S, partial(self._forget, owned))

    def _insist_later(self, owned: Owned, asked_at: float = float("-inf")) -> None:
        asyncio.get_running_loop().call_later(INSIST_S, self._insist, owned, asked_at)

    def _insist(self, owned: Owned, asked_at: float) -> None:
        decisions = owned.conversation.stop_again()
        if not decisions or owned.request.request_id not in self._owned:
            return
        lines = self.lines
        assert lines is not None
        if lines.echo_heard_at >= asked_at:
            # Else we hear not even ourselves, and its silence says nothing.
            owned.insisted += 1
        if owned.insisted > INSIST_MAX:
            # It died with what it would have charged. Who has the request now hears that it is not known any more.
            self._forget(owned)
            return
        self._carry_out(owned, decisions)
        asked_at = asyncio.get_running_loop().time()
        lines.echo()
        self._insist_later(owned, asked_at)

    def _forget(self, owned: Owned) -> None:
        self._ends.forget(owned)
        if owned.deadline is not None:
            owned.deadline.cancel()
        self._owned.pop(owned.request.request_id, None)
        if not self._owned:
            self._all_settled.set()
        for attempt_id in owned.attempts:
            self._by_attempt.pop(attempt_id, None)

    def _now_ms(self, owned: Owned) -> int:
        """As the request's deadline counts it: a clock that is set meanwhile leaves a request the time that it had."""
        return owned.request.deadline_ms - round((owned.ends_at - self._timers.loop.time()) * 1000)

    def _say(self, node: str, word: Word) -> None:
        if self.lines is not None:
            self.lines.say(node, word)


def _accepts(decisions: list[Decision]) -> bool:
    """Whether a node is told that its end is the request's."""
    return any(isinstance(decision, Tell) and isinstance(decision.word, Accepted) for decision in decisions)
