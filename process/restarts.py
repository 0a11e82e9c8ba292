"""How long to wait before something that ended is started again, and how to say how it ended. No I/O, no clock."""

from __future__ import annotations

import signal

STEADY_S = 30.0
"""What worked for so long was well: what ended it is taken for something new."""
PAUSE_S_MIN = 0.1
PAUSE_S_MAX = 30.0


class Backoff:
    """The pauses of one thing that is started again and again: doubled after each short life."""

    def __init__(self, pause_s_min: float = PAUSE_S_MIN, pause_s_max: float = PAUSE_S_MAX) -> None:
        self.short_lived = 0
        """How many lives in a row were short."""
        self._pause_s_min = pause_s_min
        self._pause_s_max = pause_s_max

    def ended(self, worked_s: float | None) -> float:
        """The seconds to wait; ``worked_s`` is how long it worked, None if it never did."""
        if worked_s is not None and worked_s >= STEADY_S:
            self.short_lived = 0
            return 0.0
        self.short_lived += 1
        return min(self._pause_s_max, self._pause_s_min * 2.0 ** min(self.short_lived - 1, 20))


def how(code: int) -> str:
    """How a process ended, by the code that Python tells of it."""
    if code >= 0:
        return f"with code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"
