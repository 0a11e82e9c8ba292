"""How many requests a node with a local model takes at once: more while all goes well, fewer under pressure. Pure.

Additive increase, multiplicative decrease, as TCP does it, and for the same reason: nobody can say in advance how much
a model on a machine can do, and what it can do depends on the requests. Until the first pressure the number doubles.
"""

from __future__ import annotations

from dataclasses import dataclass

DECREASE = 0.7
SETTLE_TICKS = 5
"""After a decrease so many ticks pass before the next: what was under way goes on meanwhile."""
WAITING_TICKS = 3
"""Requests that wait in the engine count as pressure when they do so for so many ticks: each does for a moment."""
KV_CACHE_USE_MAX = 0.95
"""Above it nothing grows: engines let requests wait, or begin them anew, when their cache is full."""
GPU_MEMORY_USE_MAX = 0.97
"""Engines take nine tenths of a GPU on purpose, and all at once."""
HOST_MEMORY_USE_MAX = 0.9
HOST_MEMORY_USE_SAFE = 0.8
"""Above it nothing grows: a request takes its memory only after it has begun."""


@dataclass(frozen=True)
class Load:
    """What was seen since the last tick; None where nobody can tell. Uses are 0 to 1."""

    busy: int
    waiting: int | None = None
    """Requests that the engine has and does not work on yet."""
    kv_cache_use: float | None = None
    first_token_s: float | None = None
    gpu_memory_use: float | None = None
    host_memory_use: float | None = None


class Slots:
    """``count`` is between 1 and ``count_max``, whatever is seen."""

    def __init__(self, count_max: int, first_token_target_s: float) -> None:
        self.count = 1
        self.why = ""
        """What the last decrease was for."""
        self._max = count_max
        self._target_s = first_token_target_s
        self._doubling = True
        self._settling = 0
        self._waiting = 0

    def __repr__(self) -> str:
        return f"<Slots {self.count} of {self._max} settling={self._settling} {self.why}>"

    def tick(self, load: Load) -> int:
        """How many there shall be now; to be called about every second."""
        self._settling = max(0, self._settling - 1)
        self._waiting = self._waiting + 1 if load.waiting else 0
        pressure = self._pressure(load)
        if pressure:
            if self._settling == 0 and self.count > 1:
                # From what is really under way: slots that nobody used cannot have been the trouble.
                self.count = max(1, int(min(self.count, max(load.busy, 1)) * DECREASE))
                self.why, self._doubling, self._settling = pressure, False, SETTLE_TICKS
        elif self._settling == 0 and load.busy >= self.count and not _full(load):
            self.count = min(self._max, self.count * 2 if self._doubling else self.count + 1)
        return self.count

    def _pressure(self, load: Load) -> str:
        if (load.host_memory_use or 0) > HOST_MEMORY_USE_MAX:
            return "host memory"
        if (load.gpu_memory_use or 0) > GPU_MEMORY_USE_MAX:
            return "GPU memory"
        if self._waiting >= WAITING_TICKS:
            return "requests wait in the engine"
        if (load.first_token_s or 0) > self._target_s:
            return "time to the first token"
        return ""


def _full(load: Load) -> bool:
    return (load.kv_cache_use or 0) > KV_CACHE_USE_MAX or (load.host_memory_use or 0) > HOST_MEMORY_USE_SAFE
