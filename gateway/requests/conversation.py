"""One request as its gateway owns it: who works on it, what the client has seen, how it ended. Pure: decide, then act.

Every method takes what was heard and returns decisions; :mod:`gateway.requests.conversations` carries them out. A
request has at most one *holder*, the attempt whose pieces count. All rules about who that is stand here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.requests.decisions import Break, Complete, Decision, Forget, Probe, Show, State, Tell, Verify
from gateway.requests.shown import Diverged, Replay, ShownText
from wire.control import Accepted, AreYouAlive, Go, Park, Settle, Stop, StopReason, Word
from wire.errors import DeadlineExceeded, EngineDied, FleetError, Poison, StreamInterrupted, UpstreamFailed

if TYPE_CHECKING:
    from wire.piece import Alive, Content, Failed, Finished, Settled, Started

SILENT_DEATHS_MAX = 3
"""At this many silent deaths of its holders a request is poison, once they are certain. The death of an engine whose
node lives, and tells of it, counts as much."""
FAILURES_MAX = 5
FAILING_S = 30.0
"""A request that was handed back so often because its provider failed, for so long, may be the reason itself: it ends
with that error. It would else come back before all others again and again, until its deadline."""
_PERHAPS_ITS_OWN = (UpstreamFailed.code, "upstream_timeout")
"""What may be the request's doing. Of rates, keys and quotas the node is sure that it is its own."""


@dataclass
class _Party:
    """An attempt and the node that runs it."""

    attempt_id: str
    node: str
    continues: bool = False
    begun: bool = False
    """Whether its engine has seen the request, or is about to: only then is its death held against the request."""
    parked: bool = False
    """Whether it was told to wait, so that nobody knows whether it still lives."""


class Conversation:
    """``state`` is ``open`` until the client has its end; from then on the node is awaited to settle."""

    def __init__(self, request_id: str, deadline_ms: int, *, plain: bool = False, keep_text: bool = False) -> None:
        """``plain``: the answer may be continued by another attempt, as one choice of plain text, streamed.

        ``keep_text``: some node of the model can continue a text that it is given.
        """
        self.request_id = request_id
        self.state: State = "open"
        self.attempts = 0
        self.dead: frozenset[str] = frozenset()
        """Nodes that fell silent while they worked on this request, as far as is known."""
        self.engine_deaths = 0
        """How many engines ended while they worked on this request, as their nodes told."""
        self.shown = False
        """Whether the client has seen any part of an answer."""
        self._deadline_ms = deadline_ms
        self._shown_text = ShownText(keep=keep_text) if plain else None
        self._replay: Replay | None = None  # for a holder that answers after an earlier one was shown
        self._holder: _Party | None = None
        self._next_piece = 1
        self._probing = False
        self._verifying = False  # whether it is poison, or its nodes were only out of hearing
        self._failures = 0  # for which the provider failed
        self._failing_since_ms: int | None = None
        self._dropped = False  # acknowledged by one that was taken for dead
        self._unjudged = 0  # probes of this holder that `unanswered` was not called for yet
        self._contenders: dict[str, _Party] = {}  # asked to begin while there was a holder, the latest to ask last
        self._dismissed: dict[str, Word] = {}  # attempts that are out, with their last word: it may have been lost
        self._prefix: str | None = None  # what the holder was told to continue after
        self._accepted: str | None = None
        self._charge: bytes | None = None

    def __repr__(self) -> str:
        holder = self._holder.attempt_id if self._holder else None
        return f"<Conversation {self.request_id} {self.state} holder={holder} contenders={len(self._contenders)}>"

    @property
    def deaths(self) -> int:
        """What is held against the request."""
        return len(self.dead) + self.engine_deaths

    @property
    def holder(self) -> tuple[str, str] | None:
        """The holding attempt and its node."""
        return (self._holder.attempt_id, self._holder.node) if self._holder else None

    @property
    def probing(self) -> bool:
        """Whether the holder was asked if it lives, and has not answered yet."""
        return self._probing

    def started(self, node: str, piece: Started, now_ms: int) -> list[Decision]:
        """A node has taken the request, or asks again what to do with it."""
        party = _Party(piece.attempt_id, node, piece.continues, piece.begun)
        if self.state != "open":
            return self._after_the_end(party)
        if piece.attempt_id in self._dismissed:
            return [self._stop_stray(party)]
        if self._verifying:
            self._contend(party)
            return [self._park(party)]
        if self._holder is None:
            return self._begin(party, now_ms, begun=piece.begun)
        if self._holder.attempt_id == piece.attempt_id:
            self._holder.begun = self._holder.begun or piece.begun
            decisions = self._alive()
            return decisions if piece.begun else [*decisions, Tell(node, self._go(party, now_ms))]
        if piece.begun:
            # A node that did not wait for `go`, beside a holder: its text could only be mixed in.
            return [self._stop_stray(party), *self._probe()]
        self._contend(party)
        return self._probe()

    def content(self, node: str, piece: Content) -> list[Decision]:
        """A part of an answer."""
        holding = self._holder is not None and self._holder.attempt_id == piece.attempt_id
        decisions = self._alive() if holding else []
        if self.state == "open" and holding:
            if piece.number == self._next_piece:
                self._next_piece += 1
                return [*decisions, *self._show(piece.data)]
            if piece.number > self._next_piece:
                return [*decisions, *self._end("failed", StreamInterrupted())]
            return decisions
        return [*decisions, self._stop_stray(_Party(piece.attempt_id, node))]

    def finished(self, node: str, piece: Finished) -> list[Decision]:
        """An attempt's answer is complete, or was cut short because the client went."""
        if self._accepted == piece.attempt_id:
            return [Tell(node, Accepted(attempt_id=piece.attempt_id))]
        if self._holder is None or self._holder.attempt_id != piece.attempt_id or self._accepted is not None:
            return [self._stop_stray(_Party(piece.attempt_id, node))]
        if self.state not in ("open", "cancelled"):
            return [self._stop_stray(_Party(piece.attempt_id, node))]
        if self.state == "open" and piece.number != self._next_piece:
            # A part of the answer could not be read: what was shown is not the whole of it.
            return self._end("failed", StreamInterrupted())
        if self.state == "open" and self._replay is not None and not self._replay.caught_up:
            return self._end("failed", StreamInterrupted())
        self._accepted, self._charge = piece.attempt_id, piece.charge
        decisions: list[Decision] = []
        if self.state == "open":
            self.state = "answered"
            decisions.append(Complete(piece.finish_reason, piece.usage))
        decisions.append(Tell(node, Accepted(attempt_id=piece.attempt_id)))
        return decisions

    def failed(self, node: str, piece: Failed, now_ms: int) -> list[Decision]:
        """An attempt ended without an answer."""
        if self._accepted == piece.attempt_id:
            return [Tell(node, Accepted(attempt_id=piece.attempt_id))]
        if self._holder is None or self._holder.attempt_id != piece.attempt_id:
            return [self._stop_stray(_Party(piece.attempt_id, node))]
        if self.state != "open":
            return [self._stop_stray(self._holder)]
        accepted = Accepted(attempt_id=piece.attempt_id)
        if piece.again:
            self.engine_deaths += piece.error.code == EngineDied.code
            dismissal = self._dismiss(self._holder, accepted)
            if self.deaths >= SILENT_DEATHS_MAX and not self.dead:
                self._holder, self._probing = None, False
                return [dismissal, *self._end("poison", Poison())]
            if self.deaths >= SILENT_DEATHS_MAX:
                return [dismissal, *self._verify()]
            if piece.error.code in _PERHAPS_ITS_OWN and self._is_hopeless(now_ms):
                self._holder, self._probing, self.state = None, False, "failed"
                return [dismissal, Break(piece.error), *self._stop_everyone(self._reason_after_the_end())]
            return [dismissal, *self._released(now_ms)]
        self._accepted = piece.attempt_id
        self.state = "failed"
        return [Tell(node, accepted), Break(piece.error)]

    def alive(self, piece: Alive, now_ms: int) -> list[Decision]:
        """A node answered ``alive?``, or said on its own that it still works."""
        if not piece.holding and self._contenders.pop(piece.attempt_id, None) is not None:
            # Should its question be heard once more, it must not be taken for one that waits.
            self._dismissed[piece.attempt_id] = Stop(attempt_id=piece.attempt_id, reason="again")
        if not self._awaited or self._holder is None or self._holder.attempt_id != piece.attempt_id:
            return []
        if piece.holding:
            return self._alive()
        self._dismiss(self._holder, Stop(attempt_id=piece.attempt_id, reason="superseded"))
        return self._released(now_ms)

    def settled(self, piece: Settled) -> list[Decision]:
        """The request is acknowledged: no attempt of it will follow."""
        if self.state == "open" and piece.attempt_id in self._dismissed and self._holder is not None:
            # The last word of one that was taken for dead: another one has the request, and answers. Should it not, the
            # queue has nothing any more that it could be begun from.
            self._dropped = True
            return []
        if self.state == "open":
            # Acknowledged without an end that we accepted: nobody will answer any more, so the client must hear it.
            return self._drop()
        self._contenders.pop(piece.attempt_id, None)
        parties = self._contenders.values()
        done: list[Decision] = [Tell(party.node, Stop(attempt_id=party.attempt_id, reason="done")) for party in parties]
        if self._holder is not None and self._holder.attempt_id != piece.attempt_id:
            return done  # the holder still has its end to tell, and a charge to hear accepted
        return [*done, Forget()]

    def unanswered(self, attempt_id: str, now_ms: int) -> list[Decision]:
        """The holder was asked whether it lives and stayed silent, while our own echo was heard: it is dead."""
        if self._holder is None or self._holder.attempt_id != attempt_id:
            return []
        self._unjudged -= 1
        if not self._awaited or not self._probing:
            return []
        if self._unjudged > 0:
            return []  # this was about an earlier question, which was answered; the last one still has its time
        if self._holder.begun:
            self.dead |= {self._holder.node}
        fence = [self._dismiss(self._holder, Stop(attempt_id=attempt_id, reason="superseded"))]
        if self.state == "open" and self.deaths >= SILENT_DEATHS_MAX:
            return [*fence, *self._verify()]
        return [*fence, *self._released(now_ms)]

    def _verify(self) -> list[Decision]:
        """Who was silent may live: that is found out before a request is called poison for it."""
        self._holder, self._probing, self._verifying = None, False, True
        return [*map(self._park, self._contenders.values()), Verify(self.dead)]

    def verified(self, alive: set[str], now_ms: int) -> list[Decision]:
        """What came of :class:`Verify`: the nodes of :attr:`dead` that were heard again, and so never died."""
        self.dead -= alive
        if not self._verifying:
            return []
        self._verifying = False
        if self.state != "open":
            return []
        if self.deaths >= SILENT_DEATHS_MAX:
            return self._end("poison", Poison())
        return self._released(now_ms)

    def hung_up(self) -> list[Decision]:
        """The client is gone. A holder stops, and is charged for what it had; a waiting request will never run."""
        if self.state != "open":
            return []
        self.state = "cancelled"
        if self._holder is None:
            return self._stop_everyone("cancelled")
        # Whoever else has the request keeps it until the holder's charge is safe: they ask again by themselves.
        return [Tell(self._holder.node, Stop(attempt_id=self._holder.attempt_id, reason="cancelled"))]

    def expired(self) -> list[Decision]:
        """The deadline passed."""
        if self.state != "open":
            return []
        return self._end("expired", DeadlineExceeded())

    def broken(self, error: FleetError) -> list[Decision]:
        """The gateway itself cannot go on with this answer."""
        if self.state != "open":
            return []
        return self._end("failed", error)

    def stop_again(self) -> list[Decision]:
        """The stop may have been lost: a holder that should have stopped is told again."""
        if self.state in ("open", "answered") or self._accepted is not None or self._holder is None:
            return []
        return [self._stop_stray(self._holder)]

    def _begin(self, party: _Party, now_ms: int, *, begun: bool) -> list[Decision]:
        self._holder = party
        # One that was not parked has asked just now: it lives and will begin, so that its silence is this request's
        # doing. A parked one may be long dead, and one that shall run alone may have to wait: they say once more that
        # they begin.
        party.begun = begun or not (party.parked or self._last_try)
        self._contenders.pop(party.attempt_id, None)
        self._next_piece, self._probing, self._unjudged = 1, False, 0
        self.attempts += 1
        self._prefix = self._prefix_for(party) if not begun else None
        self._replay = None
        if self.shown and self._shown_text is not None:
            self._replay = Replay(self._shown_text, after=self._prefix is not None)
        return [] if begun else [Tell(party.node, self._go(party, now_ms))]

    @property
    def _awaited(self) -> bool:
        """Whether the holder's end still matters: for an answer, or for the charge of one whose client has gone."""
        return self.state == "open" or (self.state == "cancelled" and self._accepted is None)

    @property
    def _last_try(self) -> bool:
        """Whether one more death makes it poison. Such attempts never share a node: one that kills would else take
        all of those with it that were beside it each time, for nothing that they did."""
        return self.deaths == SILENT_DEATHS_MAX - 1

    @property
    def _continuable(self) -> bool:
        return self._shown_text is not None and self._shown_text.plain

    def _prefix_for(self, party: _Party) -> str | None:
        """The text to continue after, for an engine that can; others answer anew and are compared."""
        if not (self.shown and self._shown_text is not None and party.continues) or self._shown_text.finished:
            return None
        return self._shown_text.text

    def _show(self, data: bytes) -> list[Decision]:
        """What is new to the client in a part of the holder's answer."""
        if self._replay is not None and data:
            try:
                data = self._replay.new(data)
            except Diverged:
                return self._end("failed", StreamInterrupted())
        if not data:
            return []
        self.shown = True
        if self._shown_text is not None:
            self._shown_text.add(data)
        return [Show(data)]

    def _go(self, party: _Party, now_ms: int) -> Go:
        remaining_ms = max(0, self._deadline_ms - now_ms)
        return Go(
            attempt_id=party.attempt_id,
            number=self.attempts,
            remaining_ms=remaining_ms,
            prefix=self._prefix,
            alone=self._last_try,
        )

    def _probe(self) -> list[Decision]:
        if self._probing or self._holder is None:
            return []
        self._probing = True
        self._unjudged += 1
        holder = self._holder
        return [Tell(holder.node, AreYouAlive(attempt_id=holder.attempt_id)), Probe(holder.attempt_id)]

    def _alive(self) -> list[Decision]:
        """The holder lives: whoever else has the request waits for its end."""
        if not self._probing:
            return []
        self._probing = False
        return [self._park(party) for party in self._contenders.values()]

    def _contend(self, party: _Party) -> None:
        """It waits, as the one that asked last."""
        earlier = self._contenders.pop(party.attempt_id, None)
        party.parked = earlier is not None and earlier.parked
        self._contenders[party.attempt_id] = party

    def _park(self, party: _Party) -> Tell:
        party.parked = True
        return Tell(party.node, Park(attempt_id=party.attempt_id))

    def _released(self, now_ms: int) -> list[Decision]:
        """There is no holder any more: the contender that asked last, and so is the likeliest to live, takes over.

        Not if the client has seen something that cannot be continued, or is gone.
        """
        self._holder, self._probing = None, False
        if self.state == "cancelled":
            return self._stop_everyone("cancelled")
        if self.shown and not self._continuable:
            return self._end("failed", StreamInterrupted())
        if not self._contenders:
            return self._drop() if self._dropped else []
        *others, latest = self._contenders.values()
        return [
            *self._begin(latest, now_ms, begun=False),
            *map(self._park, others),
        ]

    def _is_hopeless(self, now_ms: int) -> bool:
        """After one more failure of the provider."""
        self._failures += 1
        self._failing_since_ms = self._failing_since_ms or now_ms
        return self._failures >= FAILURES_MAX and now_ms - self._failing_since_ms >= FAILING_S * 1000

    def _drop(self) -> list[Decision]:
        dropped = FleetError("The request was dropped by the node that had it.")
        return [*self._end("failed", dropped), Forget()]

    def _end(self, state: State, error: FleetError) -> list[Decision]:
        self.state, self._probing = state, False
        return [Break(error.body()), *self._stop_everyone(self._reason_after_the_end())]

    def _stop_everyone(self, reason: StopReason) -> list[Decision]:
        parties = [*([self._holder] if self._holder else []), *self._contenders.values()]
        return [Tell(party.node, Stop(attempt_id=party.attempt_id, reason=reason)) for party in parties]

    def _after_the_end(self, party: _Party) -> list[Decision]:
        """What an attempt hears that asks now."""
        if self._accepted == party.attempt_id:
            return [Tell(party.node, Accepted(attempt_id=party.attempt_id))]
        if party.begun or party.attempt_id in self._dismissed:
            return [self._stop_stray(party)]
        if self._charge is not None:
            return [Tell(party.node, Settle(attempt_id=party.attempt_id, charge=self._charge))]
        if self._awaited and self._holder is not None and self._holder.attempt_id != party.attempt_id:
            # The holder may die before its charge is safe: then nobody else has any, and this one is let go.
            self._contend(party)
            return [self._park(party), *self._probe()]
        return [Tell(party.node, Stop(attempt_id=party.attempt_id, reason=self._reason_after_the_end()))]

    def _stop_stray(self, party: _Party) -> Tell:
        """To an attempt whose pieces do not count (any more)."""
        if (word := self._dismissed.get(party.attempt_id)) is not None:
            return Tell(party.node, word)
        holding = self._holder is not None and self._holder.attempt_id == party.attempt_id
        needed = self.state == "open" or self._charge is not None or (self._awaited and self._holder is not None)
        if not holding and needed:
            # Its delivery is its own and still needed: for an answer, or to settle one that was or will be accepted.
            return self._dismiss(party, Stop(attempt_id=party.attempt_id, reason="again"))
        reason = self._reason_after_the_end()
        if reason == "cancelled" and not holding:
            reason = "done"  # `cancelled` lets an attempt charge what it had, which only the holder may
        return Tell(party.node, Stop(attempt_id=party.attempt_id, reason=reason))

    def _dismiss(self, party: _Party, word: Word) -> Tell:
        """This attempt is out for good. Should it miss its last word, it hears the same one again."""
        self._dismissed[party.attempt_id] = word
        self._contenders.pop(party.attempt_id, None)
        return Tell(party.node, word)

    def _reason_after_the_end(self) -> StopReason:
        match self.state:
            case "cancelled":
                return "cancelled"
            case "expired":
                return "expired"
            case "poison":
                return "poison"
            case _:
                return "done"
