"""Nodes of one credential on a virtual clock: each one's real :class:`workernode.remote.pace.CredentialPace` and
:class:`workernode.condition.Condition`, a queue with permits, heartbeats that travel, and a provider that counts.
No sockets and no event loop: an hour takes a moment."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import Counter, deque
from functools import partial
from typing import TYPE_CHECKING

from wire.errors import ErrorBody
from wire.presence import PRESENCE_EVERY_S, CredentialPresence
from wire.usage import Usage
from workernode.condition import Better, Condition, Worse
from workernode.outcome import Answered, Later
from workernode.remote.pace import CredentialPace
from workernode.remote.stated import stated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.simulation.provider_limits import Limiter, Verdict
    from workernode.outcome import Outcome
    from workernode.remote.allowance import Limits

CREDENTIAL = "0123456789abcdef"
EPOCH_MS = 1_760_000_000_000
PROMPT_TOKENS, MAX_TOKENS, USED_TOKENS = 10, 100, 60


class Clock:
    """Runs what is due, in order."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def at(self, time: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (time, next(self._count), act))

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self.at(self.now + seconds, act)

    def run(self, done: Callable[[], bool], *, at_most_s: float) -> None:
        while self._due and not done() and self.now < at_most_s:
            self.now, _, act = heapq.heappop(self._due)
            act()


class SimulatedNode:
    """Tells its pace and its condition what a real node tells them, from its slots to its provider."""

    def __init__(self, fleet: PacedFleet, name: str, limits: Limits, slots: int) -> None:
        self.fleet, self.name, self.idle, self.alive = fleet, name, slots, True
        self.clock, self.seed = fleet.clock, fleet.seed
        self.pace = CredentialPace(
            lambda: CREDENTIAL, name, limits, clock=lambda: self.clock.now, unix_ms=fleet.unix_ms
        )
        self.pace.changed = self._changed
        self.condition = Condition()
        self.state = "ready"
        self._admitted = 0
        self._limited_until = 0.0
        self._looks_at = math.inf
        self._beat()
        self.clock.after(self.seed.random(), self._tick)
        self.clock.after(0.01, self.look)

    def leave(self, *, in_order: bool) -> None:
        """Go: with a last word, or without."""
        self.alive = False
        if in_order:
            self.state = "stopped"
            self._say()

    def look(self) -> None:
        """Let out the permits that may go out, and look again when the next one may."""
        while self.alive and self.idle:
            if self._admitted:
                self._admitted -= 1
                trying = True
                self.pace.permit()
            elif self.condition.trouble is not None:
                break
            elif (wait_s := self.pace.wait_s()) > 0:
                if self.clock.now + wait_s < self._looks_at:
                    self._looks_at = self.clock.now + wait_s
                    self.clock.at(self._looks_at, self._look_due)
                break
            else:
                trying = self.pace.permit()
            self.idle -= 1
            self.fleet.permits.append((self, trying))
        self.fleet.dispatch()

    def take(self, *, trying: bool) -> None:
        """A request is delivered for a permit."""
        closed = self.condition.trouble is not None or self.pace.held_s is not None
        if not self.alive or (closed and not trying):
            self.pace.withdraw()
            self._hand_back()
        else:
            self.pace.begin()
            self.clock.after(0.01, partial(self._call, trying))

    def _call(self, trying: bool) -> None:
        if self.pace.limited_s():
            self._ended(later("upstream_rate_limited"), trying)
            return
        sent_at = self.clock.now
        reserved = self.pace.reserve(PROMPT_TOKENS, MAX_TOKENS)
        self.clock.after(self.seed.uniform(0.01, 0.06), partial(self._arrives, sent_at, reserved, trying))

    def _arrives(self, sent_at: float, reserved: float, trying: bool) -> None:
        fleet = self.fleet
        back_s = self.seed.uniform(0.03, 0.1)
        if fleet.down:
            fleet.calls += 1
            self.clock.after(back_s, partial(self._done, later("upstream_failed"), reserved, 0, trying))
            return
        verdict, headers = fleet.call()
        if verdict.admitted:
            takes_s = self.seed.uniform(0.5, 2.5)
            head_s = takes_s if self.seed.random() < 0.5 else 0.3
            self.clock.after(head_s, partial(self._head, headers, sent_at))
            self.clock.after(takes_s, partial(self._done, Answered(Usage()), reserved, USED_TOKENS, trying))
        else:
            self.clock.after(back_s, partial(self._refused, verdict, headers, sent_at, reserved, trying))

    def _head(self, headers: dict[str, str], sent_at: float) -> None:
        self.pace.learn(stated(headers, 0.0))
        self.pace.accepted(sent_at)

    def _refused(
        self, verdict: Verdict, headers: dict[str, str], sent_at: float, reserved: float, trying: bool
    ) -> None:
        self.pace.learn(stated(headers, 0.0))
        self.pace.refused(verdict.wait_s if "retry-after-ms" in headers else None, sent_at)
        self._done(later("upstream_rate_limited"), reserved, 0, trying)

    def _done(self, outcome: Outcome, reserved: float, used: float, trying: bool) -> None:
        self.pace.settle(reserved, used)
        self._ended(outcome, trying)

    def _ended(self, outcome: Outcome, trying: bool) -> None:
        self.pace.end(called=True)
        match self.condition.after(outcome, trying=trying):
            case Worse(state=state, again_s=again_s, news=news):
                self.clock.after(again_s, self._admit)
                if news:
                    self.fleet.events.append((self.clock.now, self.name, state))
                    self._say()
            case Better():
                self.fleet.events.append((self.clock.now, self.name, "well"))
                self._say()
        if isinstance(outcome, Answered):
            self.idle += 1
            self.fleet.answered += 1
            self.look()
        else:
            self._hand_back()

    def _admit(self) -> None:
        self._admitted = 1
        self.look()

    def _hand_back(self) -> None:
        self.idle += 1
        self.fleet.hand_back()
        self.look()

    def _look_due(self) -> None:
        if self.clock.now >= self._looks_at:
            self._looks_at = math.inf
            self.look()

    def _changed(self) -> None:
        held_s = self.pace.held_s
        state = "ready" if held_s is None else "rate_limited"
        until = self.clock.now + (held_s or 0.0)
        if self.alive and (state != self.state or (held_s is not None and until > self._limited_until + 0.5)):
            self.state, self._limited_until = state, until
            self._say()
        self.look()

    def _say(self) -> None:
        learnt = self.pace.learnt()
        said = CredentialPresence(
            node=self.name,
            state=self.state if self.condition.trouble is None else self.condition.trouble,
            sent_ms=self.fleet.unix_ms(),
            credential=learnt.credential,
            requests_per_min=learnt.requests_per_min,
            tokens_per_min=learnt.tokens_per_min,
            limited_until_ms=learnt.limited_until_ms,
        )
        for node in self.fleet.living():
            self.clock.after(self.seed.uniform(0.003, 0.05), partial(node.pace.heard, said))

    def _beat(self) -> None:
        if self.alive:
            self._say()
            self.clock.after(PRESENCE_EVERY_S, self._beat)

    def _tick(self) -> None:
        if self.alive:
            if (news := self.pace.tick()) is not None:
                self.fleet.events.append((self.clock.now, self.name, news))
            self._changed()
            self.clock.after(1.0, self._tick)


class PacedFleet:
    """``headers``: what the provider says of its limit: ``stated``, ``retry-after`` where it refuses, or ``none``."""

    def __init__(
        self,
        limiter: Limiter,
        *,
        nodes: int,
        limits: Limits,
        headers: str = "stated",
        slots: int = 128,
        seed: int = 1,
    ) -> None:
        self.clock = Clock()
        self.seed = random.Random(seed)
        self.limiter, self.headers, self.down = limiter, headers, False
        self.calls = self.refused = 0
        self.admitted: list[float] = []
        self.requests = self.backlog = self.answered = 0
        self.permits: deque[tuple[SimulatedNode, bool]] = deque()
        self.events: list[tuple[float, str, str]] = []
        self.nodes: list[SimulatedNode] = []
        self._limits, self._slots = limits, slots
        for number in range(nodes):
            self.start(f"node-{number:03}")

    def start(self, name: str) -> None:
        """One more node."""
        self.nodes.append(SimulatedNode(self, name, self._limits, self._slots))

    def living(self) -> Iterable[SimulatedNode]:
        """Those that can hear."""
        return (node for node in self.nodes if node.alive)

    def ask(self, requests: int) -> None:
        """So many requests come."""
        self.requests += requests
        self.backlog += requests
        self.dispatch()

    def run(self, *, at_least_s: float = 0.0, at_most_s: float = 100_000.0) -> None:
        """Until all are answered."""
        self.clock.run(lambda: self.clock.now >= at_least_s and self.answered >= self.requests, at_most_s=at_most_s)

    def dispatch(self) -> None:
        """Hand requests to permits, in order."""
        while self.backlog and self.permits:
            node, trying = self.permits.popleft()
            if node.alive:
                self.backlog -= 1
                self.clock.after(0.005, partial(node.take, trying=trying))

    def hand_back(self) -> None:
        """A request comes again a little later."""
        self.clock.after(self.seed.uniform(0.15, 0.35), self._come_again)

    def _come_again(self) -> None:
        self.backlog += 1
        self.dispatch()

    def call(self) -> tuple[Verdict, dict[str, str]]:
        """The provider counts a call, or refuses it."""
        self.calls += 1
        verdict = self.limiter.call(self.clock.now)
        if verdict.admitted:
            self.admitted.append(self.clock.now)
        else:
            self.refused += 1
        said = {}
        if self.headers == "stated":
            said = {
                "x-ratelimit-limit-requests": str(self.limiter.limit),
                "x-ratelimit-remaining-requests": str(verdict.remaining),
                "x-ratelimit-reset-requests": f"{verdict.reset_s:.3f}s",
            }
        if not verdict.admitted and self.headers != "none":
            said["retry-after-ms"] = str(round(verdict.wait_s * 1000))
        return verdict, said

    def unix_ms(self) -> int:
        """The wall clock of all."""
        return EPOCH_MS + round(self.clock.now * 1000)

    @property
    def used(self) -> float:
        """The part of the allowance that was used until the last request was admitted."""
        return len(self.admitted) / (self.limiter.limit * self.admitted[-1] / 60)

    @property
    def told(self) -> Counter[str]:
        """Events by kind."""
        return Counter(kind for _, _, kind in self.events)


def later(code: str) -> Later:
    """What a failed call leads to."""
    return Later(ErrorBody(code=code, message="Not now."))
