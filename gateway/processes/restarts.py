"""When a process of a gateway that ended is started again, and when that is hopeless. No I/O, no clock."""

from __future__ import annotations

from collections import defaultdict

from process.lifecycle import EXIT_PORT_IN_USE, GivenUp
from process.restarts import Backoff, how
from process.settings import EXIT_WRONG_SETTING

STARTS_MAX = 5
"""How many may end before they take requests, one after the other, while there is no process that does."""
EXIT_HOPELESS = 1
_TELLING_CODES = (EXIT_WRONG_SETTING, EXIT_PORT_IN_USE)
"""The process itself has said what is wrong, and the next one would say it again."""


class Restarts:
    """The ends of all processes of one gateway."""

    def __init__(self) -> None:
        self.count = 0
        """How often one was started again."""
        self._pauses: defaultdict[int, Backoff] = defaultdict(Backoff)
        self._never_ready = 0

    def ready(self) -> None:
        """A process takes requests."""
        self._never_ready = 0

    def ended(self, number: int, code: int | None, ready_s: float | None, *, others_ready: bool) -> float:
        """The seconds to wait before ``number`` is started again; ``ready_s`` is how long it took requests, if ever.
        No ``code``: it could not even be started.

        Raises :class:`process.lifecycle.GivenUp` with the exit code that says why.
        """
        if ready_s is None and not others_ready:
            self._never_ready += 1
            if code in _TELLING_CODES:
                raise GivenUp("The gateway ends, for its processes cannot start.", code)
            if self._never_ready >= STARTS_MAX:
                sentence = f"The gateway ends: {STARTS_MAX} of its processes have ended before they took requests"
                last = "could not be started" if code is None else how(code)
                raise GivenUp(f"{sentence}, the last one {last}.", EXIT_HOPELESS)
        self.count += 1
        return self._pauses[number].ended(ready_s)
