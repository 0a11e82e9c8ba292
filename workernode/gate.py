"""Who may take a permit: everyone at the upstream's pace, nobody, or one to try whether the upstream is well again."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import Protocol


class Pace(Protocol):
    """How fast requests may be taken. It hears of each permit that goes out and comes back, and of each request."""

    def wait_s(self) -> float:
        """Seconds until one more permit may go out: 0 now, infinite not before something changes."""

    def permit(self) -> bool:
        """A permit goes out. Returns whether it is the one that tries, while all others wait."""

    def withdraw(self) -> None:
        """It is back, without a request."""

    def begin(self) -> None:
        """There is a request for it, which goes to the engine next."""

    def resume(self) -> None:
        """A request that waited for another node goes to the engine after all."""

    def end(self, *, called: bool) -> None:
        """The request is done with, or waits for another node. ``called``: the engine has seen it."""

    @property
    def held_s(self) -> float | None:
        """For how long none but the one that tries may be taken; None if all may."""


class Unpaced(Pace):
    """Any number at any time."""

    held_s: float | None = None

    def wait_s(self) -> float:
        return 0.0

    def permit(self) -> bool:
        return False

    def withdraw(self) -> None: ...

    def begin(self) -> None: ...

    def resume(self) -> None: ...

    def end(self, *, called: bool) -> None: ...


class Gate:
    """Slots pass before they ask the queue for a request. Closed, it keeps requests in the queue for other nodes."""

    def __init__(self, pace: Pace | None = None) -> None:
        self.pace: Pace = pace or Unpaced()
        self._open = False
        self._admitted = 0
        self._waiters: deque[asyncio.Future[bool]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Gate open={self._open} admitted={self._admitted} waiting={len(self._waiters)}>"

    @property
    def is_open(self) -> bool:
        """Whether all that have passed may take what comes."""
        return self._open and self.pace.held_s is None

    @property
    def waiting(self) -> int:
        """How many slots wait here."""
        return len(self._waiters)

    def open(self) -> None:
        """Let everyone pass, at the pace."""
        self._open, self._admitted = True, 0
        self.look()

    def close(self) -> None:
        """Let nobody pass."""
        self._open, self._admitted = False, 0

    def dissolve(self) -> None:
        """Let everyone pass at once and for ever: they shall see that the node leaves."""
        self.pace = Unpaced()
        self.open()

    def admit_one(self) -> None:
        """Let one pass, now or when it comes."""
        self._admitted = 1
        self.look()

    async def enter(self) -> bool:
        """Wait to pass; True if this is the one that was let in to try."""
        if not self._waiters and (passed := self._pass()) is not None:
            return passed
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self.look()
        return await waiter

    def look(self) -> None:
        """Let in whom the pace allows by now, and look again when it allows the next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiters:
            if self._waiters[0].done():
                self._waiters.popleft()  # it was cancelled
            elif (passed := self._pass()) is not None:
                self._waiters.popleft().set_result(passed)
            else:
                if self._open and (wait_s := self.pace.wait_s()) < math.inf:
                    self._timer = asyncio.get_running_loop().call_later(wait_s, self.look)
                return

    def _pass(self) -> bool | None:
        """One more passes if it may: whether that is one that tries. None if it may not."""
        if self._admitted:
            self._admitted -= 1
            self.pace.permit()
            return True
        return self.pace.permit() if self._open and self.pace.wait_s() <= 0 else None
