"""Timers of which thousands run at once and nearly all are cancelled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

SHARED_FROM_S, GRAIN_S = 6.25, 0.0625
"""Timers of at least so long end with others, at the next whole multiple of the second: a fraction that floats hold."""
LONG_FROM_S, LONG_GRAIN_S = 50.0, 0.5


class Timer(Protocol):
    """A call to come."""

    def cancel(self) -> None:
        """It shall not come. Harmless once it has, or twice."""


class Timers:
    """Long ones are late by a hundredth at most, and those of one moment share a timer of the loop.

    One of the loop's own for each would cost several times as much to begin and to cancel, and 0.7 KiB while it runs.
    """

    def __init__(self) -> None:
        self._moments: dict[float, dict[_Shared, None]] = {}

    def __repr__(self) -> str:
        return f"<Timers moments={len(self._moments)}>"

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Have ``call()`` run so much later, in the running loop."""
        loop = asyncio.get_running_loop()
        if seconds < SHARED_FROM_S:
            return loop.call_later(seconds, call)
        grain_s = GRAIN_S if seconds < LONG_FROM_S else LONG_GRAIN_S
        moment = -((loop.time() + seconds) // -grain_s) * grain_s
        sharing = self._moments.get(moment)
        if sharing is None:
            sharing = self._moments[moment] = {}
            loop.call_at(moment, self._ring, moment)
        timer = _Shared(sharing, call)
        sharing[timer] = None
        return timer

    def _ring(self, moment: float) -> None:
        for timer in list(self._moments.pop(moment)):
            timer.ring()


class _Shared:
    __slots__ = ("_call", "_sharing")

    def __init__(self, sharing: dict[_Shared, None], call: Callable[[], None]) -> None:
        self._sharing = sharing
        self._call = call

    def cancel(self) -> None:
        self._sharing.pop(self, None)

    def ring(self) -> None:
        # One that rang before may have cancelled this one.
        if self in self._sharing:
            self._call()
