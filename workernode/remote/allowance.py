"""What this node may ask of its provider now: requests and tokens per minute, and calls at once. Pure.

A permit is out while a slot waits for a request, and is spent once there is one. Tokens are reserved before a call, by
what calls used lately and then by the request itself, and settled after it by what was really used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workernode.remote.rate import Rate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from workernode.remote.stated import Kind, Stated

AT_ONCE_MIN = 4
"""Calls at once to a provider of whom nothing is known. Each that it takes allows one more: twice as many a round."""
TAKEN_S, MORE_EVERY_S = 1.0, 0.125
"""A refusal comes within a second. Without one, more calls go out one by one, however long the answers take."""
LISTEN_S = 1.0
"""A node that starts does not know yet how many share its limits: so long it makes one call at a time."""
TOKENS_EXPECTED = 500.0
SMOOTHING = 0.1
"""Weight of the newest call in the tokens that one is expected to use."""


@dataclass(frozen=True)
class Limits:
    """What the settings say of the credential: per minute, and calls at once. None: nothing."""

    requests_per_min: float | None = None
    tokens_per_min: float | None = None
    concurrency: int | None = None


class Allowance:
    """Limits are the whole credential's; this node has its share of them."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._listens_until = now + LISTEN_S
        self._out = 0
        self._running = 0
        self.tokens_expected = TOKENS_EXPECTED
        self.forget()

    def __repr__(self) -> str:
        return f"<Allowance out={self._out} running={self._running} {self._requests} {self._tokens}>"

    def forget(self) -> None:
        """Of another credential nothing is known. What is out and running stays."""
        limits = self._limits
        self.rates: dict[Kind, Rate] = {
            "requests": Rate(limits.requests_per_min),
            "tokens": Rate(limits.tokens_per_min),
        }
        self._requests, self._tokens = self.rates["requests"], self.rates["tokens"]
        self._nodes = 1
        self._trusted = AT_ONCE_MIN
        self._more_at = 0.0

    def share(self, nodes: int, rank: int, told: Mapping[Kind, float | None]) -> None:
        """So many nodes have the credential, so many come before this one, and they say this of its limits."""
        self._nodes = nodes
        for kind, rate in self.rates.items():
            rate.nodes, rate.rank, rate.told = nodes, rank, told.get(kind)

    def per_s(self, now: float) -> float | None:
        """How many calls a second the limits leave this node, if each uses as many tokens as those lately."""
        requests, tokens = self._requests.per_s(now), self._tokens.per_s(now)
        paces = [requests, None if tokens is None else tokens / max(1.0, self.tokens_expected)]
        return min((pace for pace in paces if pace), default=None)

    @property
    def at_once(self) -> int | None:
        """How many calls this node may make at once by the settings."""
        concurrency = self._limits.concurrency
        return None if concurrency is None else max(1, concurrency // self._nodes)

    def wait_s(self, now: float) -> float:
        """Seconds until one more permit may go out: 0 now, infinite not before something else happens."""
        busy = self._out + self._running
        if self.at_once is not None and busy >= self.at_once:
            return math.inf
        if busy and now < self._listens_until and any(rate.limit(now) is not None for rate in self.rates.values()):
            return self._listens_until - now
        if self._tries_out(now, busy):
            return max(0.0, self._more_at - now) if self._running else math.inf
        expected = self.tokens_expected
        return max(
            self._requests.wait_s(1, now, held=self._out), self._tokens.wait_s(expected, now, held=self._out * expected)
        )

    def permit(self, now: float) -> None:
        """A permit goes out."""
        if self._tries_out(now, self._out + self._running):
            self._trusted += 1
            self._more_at = now + MORE_EVERY_S
        self._out += 1

    def withdraw(self) -> None:
        """It is back: there is a request for it, or it came to nothing."""
        self._out -= 1

    def begin(self, now: float) -> None:
        """A request is there, and goes to the provider next."""
        if not self._running:
            self._more_at = now + TAKEN_S
        self._running += 1
        self._requests.take(1, now)
        self._tokens.take(self.tokens_expected, now)

    def end(self, now: float, *, called: bool) -> None:
        """It is done with. What was never ``called`` has used nothing."""
        self._running -= 1
        if not called:
            self._requests.take(-1, now)
            self._tokens.take(-self.tokens_expected, now)

    def again(self, now: float) -> None:
        """It goes to the provider once more."""
        self._requests.take(1, now)

    def reserve(self, tokens: float, now: float) -> float:
        """Keep what this request may use, rather than what one is expected to; returns how much is kept.

        No more than a minute has: a client may ask for any number of tokens, and a provider say any number of them.
        """
        limit = self._tokens.limit(now)
        kept = tokens if limit is None else min(tokens, limit)
        self._tokens.take(kept - self.tokens_expected, now)
        return kept

    def settle(self, reserved: float, used: float, now: float) -> None:
        """It has used this, of what was reserved. More than a minute has counts as that."""
        limit = self._tokens.limit(now)
        if limit is not None:
            used = min(used, limit)
            if used > 0:
                self.tokens_expected += SMOOTHING * (used - self.tokens_expected)
        self._tokens.take(used - reserved, now)

    def accepted(self) -> None:
        """The provider took a call."""
        self._trusted += 1

    def learn(self, said: Iterable[Stated], now: float) -> None:
        """Take what the provider states."""
        for each in said:
            self.rates[each.kind].learn(each, now)

    def rest_s(self, now: float) -> float:
        """For how long nothing is left, by what the provider states."""
        return max(rate.rest_s(now) for rate in self.rates.values())

    def refused(self, wait_s: float, now: float) -> None:
        """The provider refused for the rate, and wants to be left alone for so long."""
        self._requests.refused(wait_s, now)

    def _tries_out(self, now: float, busy: int) -> bool:
        """Whether one more call is one more than a provider of unknown limits has shown to take."""
        return busy >= self._trusted and self._requests.limit(now) is None
