"""Timers of which thousands run at once and nearly all are cancelled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

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

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # Kept, for Python 3.11 asks the kernel for the process's id whenever it is asked for the running loop.
        self.loop = loop
        self._moments: dict[float, dict[_Shared, None]] = {}

    def __repr__(self) -> str:
        return f"<Timers moments={len(self._moments)}>"

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Have ``call()`` run in the loop so much later."""
        if seconds < SHARED_FROM_S:
            return self.loop.call_later(seconds, call)
        grain_s = GRAIN_S if seconds < LONG_FROM_S else LONG_GRAIN_S
        moment = -((self.loop.time() + seconds) // -grain_s) * grain_s
        sharing = self._moments.get(moment)
        if sharing is None:
            sharing = self._moments[moment] = {}
            self.loop.call_at(moment, self._ring, moment)
        timer = _Shared(sharing, call)
        sharing[timer] = None
        return timer

    def limit(self, seconds: float) -> Limit:
        """A block that may take so long: see :class:`Limit`."""
        return Limit(self, seconds)

    def _ring(self, moment: float) -> None:
        for timer in self._moments.pop(moment):
            # Each in a turn of its own: an error of one must not silence the others.
            self.loop.call_soon(timer.ring)


class Limit:
    """``with timers.limit(60): await ...`` raises :class:`TimeoutError` when its time is over.

    As :class:`asyncio.Timeout` does, by cancelling its task, and to be nested and cancelled like it.
    """

    __slots__ = ("_cancelling", "_seconds", "_task", "_timer", "_timers", "over")

    _task: asyncio.Task[Any]
    _timer: Timer
    _cancelling: int

    def __init__(self, timers: Timers, seconds: float) -> None:
        self._timers = timers
        self._seconds = seconds
        self.over = False
        """Whether it came to the end of its time."""

    def __enter__(self) -> Limit:
        task = asyncio.current_task(self._timers.loop)
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        self._timer = self._timers.after(self._seconds, self.end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        # If somebody else cancelled the task as well, that goes before.
        if self.over and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def end(self) -> None:
        """Its time is over now. Only while the block runs, and not called by itself; does nothing twice."""
        if not self.over:
            self.over = True
            self._task.cancel()


def _nothing() -> None:
    """What a cancelled timer calls."""


class _Shared:
    __slots__ = ("_call", "_sharing")

    def __init__(self, sharing: dict[_Shared, None], call: Callable[[], None]) -> None:
        self._sharing = sharing
        self._call = call

    def cancel(self) -> None:
        self._sharing.pop(self, None)
        self._call = _nothing  # what it would have called often holds the timer: nobody shall have to look for that

    def ring(self) -> None:
        self._call()  # nothing, where one that rang before has cancelled this one
