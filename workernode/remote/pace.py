"""How fast this node may ask its provider: what it may use itself, and what all nodes of the credential know together.

Pure but for the clocks, which are given. The gate asks it for permits, the engine tells it of every call, the heartbeat
says what it has learnt, and other nodes' heartbeats come in here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wire.number import INTEGER_MAX
from workernode.remote.allowance import Allowance
from workernode.remote.credential import Credential

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wire.presence import CredentialPresence
    from workernode.remote.allowance import Limits
    from workernode.remote.credential import News
    from workernode.remote.rate import Rate
    from workernode.remote.stated import Kind, Stated


@dataclass(frozen=True)
class Learnt:
    """What a heartbeat says of the credential: see :class:`wire.presence.Presence`. ``per_s`` is this node's own pace,
    ``at_once`` how many calls it may make at once; None where nothing is known."""

    credential: str
    requests_per_min: int | None
    tokens_per_min: int | None
    limited_until_ms: int | None
    per_s: float | None = None
    at_once: int | None = None

    def slots(self, slots: int, service_ms: float | None) -> int:
        """How many of so many slots have work at this pace, if each request holds one for ``service_ms``."""
        bounds = [slots] if self.at_once is None else [slots, self.at_once]
        if self.per_s is not None and service_ms is not None:
            bounds.append(max(1, math.ceil(self.per_s * service_ms / 1000)))
        return min(bounds)

    def service_ms(self, slots: int, service_ms: float | None) -> float | None:
        """How long a request holds one of so many slots on average, the waiting of slots for the pace included: by
        that gateways know how long a queue takes."""
        if self.per_s is None or service_ms is None:
            return service_ms
        return min(max(service_ms, slots * 1000 / self.per_s), INTEGER_MAX)  # or nobody could read the heartbeat


class CredentialPace:
    """``name`` gives the credential (:func:`workernode.remote.credential.credential_of`) and is asked again at each
    :meth:`renew`, for a key may be replaced. ``clock`` is monotonic, in seconds; ``unix_ms`` is for heartbeats."""

    def __init__(
        self,
        name: Callable[[], str],
        node: str,
        limits: Limits,
        *,
        clock: Callable[[], float],
        unix_ms: Callable[[], int],
    ) -> None:
        self.accepted_at = -math.inf
        """When the provider last took a call, by the clock."""
        self.changed: Callable[[], None] = lambda: None
        """Called whenever permits may go out at another time than was said."""
        self._name, self._node, self._clock, self._unix_ms = name, node, clock, unix_ms
        self._refused_until_ms = 0
        self._allowance = Allowance(limits, clock())
        self._credential = Credential(name(), node, clock())

    def __repr__(self) -> str:
        return f"<Pace {self._allowance!r} {self._credential!r}>"

    @property
    def now(self) -> float:
        """The clock's time."""
        return self._clock()

    @property
    def credential(self) -> str:
        """The credential's name."""
        return self._credential.name

    @property
    def nodes(self) -> int:
        """How many nodes share the credential."""
        return self._credential.nodes

    def rate(self, kind: Kind) -> Rate:
        """What is known of one limit."""
        return self._allowance.rates[kind]

    # For the gate: see :class:`workernode.gate.Pace`

    def wait_s(self) -> float:
        """Seconds until one more permit may go out: 0 now, infinite not before :attr:`changed`."""
        now = self._clock()
        per_s = self._allowance.rates["requests"].per_s(now)
        wait_s = self._credential.wait_s(now, 1 / per_s if per_s else 0.0)
        return wait_s if wait_s or self._credential.holds(now) else self._allowance.wait_s(now)

    def permit(self) -> bool:
        """A permit goes out. Returns whether it is the one that tries while all others wait."""
        now = self._clock()
        self._allowance.permit(now)
        return self._credential.probes(now)

    def withdraw(self) -> None:
        """It is back, without a request."""
        self._allowance.withdraw()
        self.changed()

    def begin(self) -> None:
        """There is a request for it, which goes to the provider next."""
        self._allowance.withdraw()
        self.resume()

    def resume(self) -> None:
        """A request that waited for another node goes to the provider after all."""
        self._allowance.begin(self._clock())
        self.changed()

    def end(self, *, called: bool) -> None:
        """The request is done with, or waits for another node."""
        self._allowance.end(self._clock(), called=called)
        self.changed()

    # For the engine

    def limited_s(self) -> float:
        """For how long the provider must not be asked; 0 if it may be."""
        return max(0.0, self._credential.until - self._clock())

    def counts(self, kind: Kind) -> bool:
        """Whether a limit is known."""
        return self._allowance.rates[kind].limit(self._clock()) is not None

    def reserve(self, prompt_tokens: float, max_tokens: float | None) -> float:
        """Keep what a call may use; returns how much that is. Without ``max_tokens``, what calls used lately."""
        expected = self._allowance.tokens_expected
        tokens = prompt_tokens + max_tokens if max_tokens is not None else max(expected, prompt_tokens)
        return self._allowance.reserve(tokens, self._clock())

    def settle(self, reserved: float, used: float) -> None:
        """The call has used this."""
        self._allowance.settle(reserved, used, self._clock())
        self.changed()

    def again(self) -> None:
        """The same call goes out once more."""
        self._allowance.again(self._clock())

    def learn(self, said: Iterable[Stated]) -> None:
        """What the headers of an answer state. Followed by :meth:`accepted`, :meth:`refused` or :attr:`changed`: who is
        refused may learn of a great limit by it, and must not use that first."""
        self._allowance.learn(said, self._clock())

    def accepted(self, sent_at: float) -> None:
        """The provider took a call of ``sent_at``."""
        self.accepted_at = self._clock()
        self._allowance.accepted()
        self._credential.accepted(sent_at)
        self.changed()

    def refused(self, wait_s: float | None, sent_at: float) -> None:
        """The provider refused a call of ``sent_at`` for the rate; what it said of when to come back."""
        now, before = self._clock(), self._credential.refused_until
        if wait_s is None:
            wait_s = self._allowance.rest_s(now) or None  # as the headers beside the refusal tell
        news = self._credential.refused(wait_s, sent_at, now)
        if self._credential.refused_until > before:
            self._refused_until_ms = self._unix_ms() + round((self._credential.refused_until - now) * 1000)
        self._after_refusal(now, news=news)

    # For the node: heartbeats, other nodes', and an operator's word

    @property
    def held_s(self) -> float | None:
        """For how long the credential is left alone; None if it is not. At 0 one node tries."""
        now = self._clock()
        return max(0.0, self._credential.until - now) if self._credential.holds(now) else None

    def learnt(self) -> Learnt:
        """What to say in a heartbeat."""
        now = self._clock()
        known = {kind: rate.known(now) for kind, rate in self._allowance.rates.items()}
        return Learnt(
            self._credential.name,
            _whole(known["requests"]),
            _whole(known["tokens"]),
            self._refused_until_ms if self._credential.refused_until > now else None,
            self._allowance.per_s(now),
            self._allowance.at_once,
        )

    def heard(self, said: CredentialPresence) -> None:
        """A heartbeat of any node of the credential."""
        now, nodes = self._clock(), self._credential.nodes
        news = self._credential.heard(said, now)
        self._share()
        if news:
            self._after_refusal(now, news=True)
        elif nodes != self._credential.nodes:
            self.changed()

    def warned(self, credential: str, until_ms: int) -> None:
        """An operator says that a credential is limited until then."""
        if credential == self._credential.name:
            now = self._clock()
            self._after_refusal(now, news=self._credential.warned((until_ms - self._unix_ms()) / 1000, now))

    def tick(self) -> News | None:
        """What to tell management. To be asked about every second."""
        return self._credential.tick(self._clock())

    def renew(self) -> bool:
        """Begin anew if the key was replaced: nothing is known of the new credential. Returns whether it was."""
        if (name := self._name()) == self._credential.name:
            return False
        self._allowance.forget()
        self._credential = Credential(name, self._node, self._clock())
        self._share()
        self.changed()
        return True

    def _share(self) -> None:
        self._allowance.share(self._credential.nodes, self._credential.rank, self._credential.told)

    def _after_refusal(self, now: float, *, news: bool) -> None:
        if news:
            self._allowance.refused(self._credential.until - now, now)
        self.changed()


def _whole(limit: float | None) -> int | None:
    """As a heartbeat may say it, or nobody could read that."""
    return None if limit is None else round(min(max(1, limit), INTEGER_MAX))
