"""How many requests a node with a local model takes at once: more while all goes well, fewer under pressure. Pure.

Additive increase, multiplicative decrease, as TCP does it, and for the same reason: nobody can say in advance how much
a model on a machine can do, and what it can do depends on the requests. Until the first pressure the number doubles.
"""

from __future__ import annotations

from dataclasses import dataclass

DECREASE = 0.7
SETTLE_TICKS = 5
"""So many ticks pass after a decrease before the next, as what was under way goes on meanwhile; and after any change
before an increase, as a request takes its memory only after it has begun."""
WAITING_TICKS = 3
"""Requests that wait in the engine count as pressure when they do so for so many ticks: each does for a moment."""
KV_CACHE_USE_MAX = 0.95
"""Above it nothing grows: engines let requests wait, or begin them anew, when their cache is full."""
GPU_MEMORY_USE_MAX = 0.97
"""Of engines that take memory as requests come. One that tells of its KV cache has taken that in advance, all that it
found beside large weights, and fewer requests would give nothing back."""
HOST_MEMORY_USE_MAX = 0.9
HOST_MEMORY_USE_SAFE = 0.8
"""Nothing grows beyond it, nor where it would be reached if new requests take as much as those that are here."""
USE_MIN = 0.001
"""Less tells nothing of how much a request takes."""
UNBOUNDED = 1_000_000


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
        self._since_change = self._since_decrease = SETTLE_TICKS
        self._waiting = 0
        self._host_base = 1.0  # the least that was seen: what is there without any request

    def __repr__(self) -> str:
        return f"<Slots {self.count} of {self._max} doubling={self._doubling} {self.why}>"

    def begin_anew(self) -> None:
        """Another engine is there: what the one before took of the memory says nothing of this one."""
        self._host_base = 1.0

    def tick(self, load: Load) -> int:
        """How many there shall be now; to be called about every second."""
        self._see(load)
        pressure, before = self._pressure(load), self.count
        if pressure and self._since_decrease >= SETTLE_TICKS:
            # From what is really under way: slots that nobody used cannot have been the trouble.
            self.count = max(1, min(self.count, int(max(load.busy, 1) * DECREASE)))
            self._doubling = False
            if self.count < before:
                self.why, self._since_decrease = pressure, 0
        elif not pressure and self._since_change >= SETTLE_TICKS and load.busy >= self.count:
            grown = self.count * 2 if self._doubling else self.count + 1
            room = min(_room(load.kv_cache_use, 0.0, KV_CACHE_USE_MAX, load.busy), self._host_room(load))
            self.count = max(self.count, min(self._max, grown, room))
        if self.count != before:
            self._since_change = 0
        return self.count

    def _see(self, load: Load) -> None:
        self._since_change += 1
        self._since_decrease += 1
        self._waiting = self._waiting + 1 if load.waiting else 0
        if load.host_memory_use is not None:
            self._host_base = min(self._host_base, load.host_memory_use)

    def _host_room(self, load: Load) -> int:
        """How many would fit into the host's memory, if each of them takes what those that are here take."""
        if load.host_memory_use is None:
            return self._max
        return _room(load.host_memory_use, self._host_base, HOST_MEMORY_USE_SAFE, load.busy)

    def _pressure(self, load: Load) -> str:
        if (load.host_memory_use or 0) > HOST_MEMORY_USE_MAX:
            return "host memory"
        if load.kv_cache_use is None and (load.gpu_memory_use or 0) > GPU_MEMORY_USE_MAX:
            return "GPU memory"
        if self._waiting >= WAITING_TICKS:
            return "requests wait in the engine"
        if (load.first_token_s or 0) > self._target_s:
            return "time to the first token"
        return ""


def _room(use: float | None, base: float, bound: float, busy: int) -> int:
    """So many requests take the use from ``base`` to ``bound``, if ``busy`` of them have taken it to ``use``."""
    if use is None or use - base < USE_MIN or busy == 0:
        return UNBOUNDED
    return max(0, int((bound - base) * busy / (use - base)))
