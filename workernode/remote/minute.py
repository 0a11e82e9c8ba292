"""What was used within the last minute, to the second. Pure."""

from __future__ import annotations

from collections import deque

from workernode.remote.stated import MINUTE_S

_GRAIN_S = 1.0


class Minute:
    """Never more than a minute's seconds, however much is used."""

    __slots__ = ("_seconds", "_total")

    def __init__(self) -> None:
        self._seconds: deque[list[float]] = deque()
        self._total = 0.0

    def add(self, amount: float, now: float) -> None:
        """So much was used now, or given back if it is negative."""
        if self._seconds and self._seconds[-1][0] > now - _GRAIN_S:
            self._seconds[-1][1] += amount
        else:
            self._forget(now)
            self._seconds.append([now, amount])
        self._total += amount

    def total(self, now: float) -> float:
        """What was used."""
        self._forget(now)
        return self._total

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until no more than that was used."""
        total, wait_s = self.total(now), 0.0
        for at, used in self._seconds:
            if total <= amount:
                break
            total -= used
            wait_s = at + MINUTE_S + _GRAIN_S - now
        return wait_s

    def _forget(self, now: float) -> None:
        while self._seconds and self._seconds[0][0] <= now - MINUTE_S - _GRAIN_S:
            self._total -= self._seconds.popleft()[1]
        if not self._seconds:
            self._total = 0.0  # no rounding is carried on
