"""How providers limit the rate of requests: the usual kinds, and what their headers say. On a virtual clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

WINDOW_S = 60.0


@dataclass(frozen=True)
class Verdict:
    """``remaining`` and ``reset_s`` as headers say them; ``wait_s`` is after how long a refused one would be taken."""

    admitted: bool
    remaining: int
    reset_s: float
    wait_s: float = 0.0


class Limiter(Protocol):
    """Counts a call, or refuses it."""

    @property
    def limit(self) -> int: ...

    def call(self, now: float) -> Verdict: ...


@dataclass
class SlidingWindow:
    """No 60 seconds have more than ``limit``."""

    limit: int
    _taken: deque[float] = field(default_factory=deque)

    def call(self, now: float) -> Verdict:
        while self._taken and self._taken[0] <= now - WINDOW_S:
            self._taken.popleft()
        admitted = len(self._taken) < self.limit
        if admitted:
            self._taken.append(now)
        frees_s = self._taken[0] + WINDOW_S - now
        return Verdict(admitted, self.limit - len(self._taken), frees_s, 0.0 if admitted else frees_s)


@dataclass
class FixedWindow:
    """No minute of the provider's clock has more than ``limit``."""

    limit: int
    offset_s: float = 23.0
    _window: int = -1
    _taken: int = 0

    def call(self, now: float) -> Verdict:
        window = int((now + self.offset_s) // WINDOW_S)
        if window != self._window:
            self._window, self._taken = window, 0
        reset_s = (window + 1) * WINDOW_S - self.offset_s - now
        admitted = self._taken < self.limit
        self._taken += admitted
        return Verdict(admitted, self.limit - self._taken, reset_s, 0.0 if admitted else reset_s)


@dataclass
class TokenBucket:
    """Holds ``size`` calls (by default a minute's), and is refilled evenly."""

    limit: int
    size: float = 0.0
    _held: float = -1.0
    _at: float = 0.0

    def call(self, now: float) -> Verdict:
        per_s, size = self.limit / WINDOW_S, self.size or float(self.limit)
        self._held = size if self._held < 0 else min(size, self._held + (now - self._at) * per_s)
        self._at = now
        admitted = self._held >= 1
        self._held -= admitted
        wait_s = 0.0 if admitted else (1 - self._held) / per_s
        return Verdict(admitted, int(self._held), (size - self._held) / per_s, wait_s)


@dataclass
class UsedByOthers:
    """At the given times somebody else uses all of it; it says to come back after ``wait_s``."""

    within: Limiter
    spans: tuple[tuple[float, float], ...]
    wait_s: float = 30.0

    @property
    def limit(self) -> int:
        return self.within.limit

    def call(self, now: float) -> Verdict:
        if any(start <= now < end for start, end in self.spans):
            return Verdict(admitted=False, remaining=0, reset_s=self.wait_s, wait_s=self.wait_s)
        return self.within.call(now)
