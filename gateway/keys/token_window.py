"""How many tokens a key has used, as two counters that slide: the arithmetic, and Go's way to write a time.

A window that remembers each token would cost a list entry for every one of a million tokens a minute. Two counters,
this minute's and the last one's weighted by the part of it that is still within sixty seconds, cost nothing, and err by
no more than how unevenly the last minute was used. The library ``limits`` counts; here it is computed what that means.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

WINDOW_S = 60.0


@dataclass(frozen=True)
class TokenWindow:
    """What the counters said at one moment. Times are seconds from then."""

    previous: int
    previous_s: float
    """Until nothing of ``previous`` counts any more; its weight is this part of a minute."""
    current: int
    current_s: float
    """Until nothing of ``current`` would count any more: a whole minute after its own."""

    @property
    def used(self) -> int:
        """Tokens that count now."""
        return math.floor(self.used_in(0.0))

    def used_in(self, seconds: float) -> float:
        """Tokens that will count after this time, if no more are used."""
        if seconds < self.current_s - WINDOW_S or not self.current:
            return self.previous * max(0.0, self.previous_s - seconds) / WINDOW_S + self.current
        return self.current * max(0.0, self.current_s - seconds) / WINDOW_S

    def wait_s(self, room: int) -> float:
        """The shortest time after which at most ``room`` tokens count, if no more are used."""
        if self.used_in(0.0) <= room:
            return 0.0
        if self.current > room:
            return self.current_s - room * WINDOW_S / self.current
        return self.previous_s - (room - self.current) * WINDOW_S / self.previous

    def reset_s(self, held: int) -> float:
        """The time until nothing counts any more. What is ``held`` counts as used at this moment."""
        if held or self.current:
            return self.current_s or 2 * WINDOW_S
        return self.previous_s if self.previous else 0.0


def go_duration(ms: int) -> str:
    """A time as Go's ``Duration.String`` writes it, which OpenAI's headers do: ``0s``, ``12ms``, ``1.5s``, ``6m0s``."""
    if ms <= 0:
        return "0s"
    if ms < 1000:
        return f"{ms}ms"
    minutes, ms = divmod(ms, 60_000)
    seconds = f"{ms / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds
