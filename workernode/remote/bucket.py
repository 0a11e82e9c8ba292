"""A bucket that drains at an even rate (GCRA): when the next amount may be taken. Pure: times in, times out."""

from __future__ import annotations

import math

SOON_S = 0.001
"""A shorter wait is none: timers are no finer."""
OWED_S_MAX = 60.0
"""What was taken before the rate became slower delays nothing for longer: limits are per minute."""


class Bucket:
    """At most ``burst`` at once, and ``per_s`` from then on. What is taken beyond that is waited for afterwards."""

    __slots__ = ("_free_at", "burst", "per_s")

    def __init__(self, per_s: float, burst: float, now: float, *, owed: float = 0.0) -> None:
        self.per_s = per_s
        self.burst = burst
        self._free_at = now + min(owed / per_s, OWED_S_MAX)

    def __repr__(self) -> str:
        return f"<Bucket per_s={self.per_s:g} burst={self.burst:g}>"

    def available(self, now: float) -> float:
        """What may be taken at once; below 0 if more was taken than there was."""
        return self.burst - max(0.0, self._free_at - now) * self.per_s

    def wait_s(self, amount: float, now: float, *, held: float = 0.0) -> float:
        """Seconds until ``amount`` may be taken, or the whole burst if that is less. Infinite if what is ``held`` for
        others leaves no room at all."""
        need = min(amount, self.burst) + held
        if held and need > self.burst:
            return math.inf
        wait_s = (need - self.available(now)) / self.per_s
        return wait_s if wait_s > SOON_S else 0.0

    def take(self, amount: float, now: float) -> None:
        """Take it, or give it back if it is negative."""
        self._free_at = max(self._free_at, now) + amount / self.per_s

    def change(self, per_s: float, burst: float, now: float) -> None:
        """Go on at another rate, with what is owed."""
        owed_s = max(0.0, self._free_at - now)
        if owed_s:
            self._free_at = now + min(owed_s * self.per_s / per_s, max(owed_s, OWED_S_MAX))
        self.per_s, self.burst = per_s, burst
