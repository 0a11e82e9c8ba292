"""When an engine that ended is started again, and when that is given up. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from process.restarts import STEADY_S, Backoff

if TYPE_CHECKING:
    from workernode.local.deaths import Death

TRIES_MAX = 5
HOPELESS_TRIES_MAX = 2
"""A second look at what would end the same way: a disk may just have been mounted."""
PAUSE_S_MIN = 0.5
PAUSE_S_MAX = 60.0
GIVEN_UP_S = 600.0
"""One that was given up is tried once more so often: someone may have acted."""


@dataclass(frozen=True)
class Again:
    """Start it after ``pause_s``. ``given_up``: until then the node counts as out of order."""

    pause_s: float
    given_up: bool = False


class Restarts:
    """The lives of one node's engine."""

    def __init__(self) -> None:
        self.count = 0
        """How often it was started again."""
        self._pauses = Backoff(PAUSE_S_MIN, PAUSE_S_MAX)
        self._hopeless = 0

    def ended(self, death: Death, ready_s: float | None) -> Again:
        """``ready_s`` is how long it took requests, None if it never did."""
        self.count += 1
        steady = ready_s is not None and ready_s >= STEADY_S
        self._hopeless = self._hopeless + 1 if death.hopeless and not steady else 0
        pause_s = self._pauses.ended(ready_s)
        if self._hopeless >= HOPELESS_TRIES_MAX or self._pauses.short_lived >= TRIES_MAX:
            return Again(GIVEN_UP_S, given_up=True)
        return Again(pause_s)
