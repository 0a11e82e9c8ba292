"""Trying again until it works, with one log line per episode and a sentence in ``/readyz`` meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.exc import DBAPIError

from process.logging import Log
from store.database import UnusableDatabase

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from management.readiness import Part, Readiness

T = TypeVar("T")
RETRY_S_MIN = 0.05
SLOW_S = 10.0
"""An attempt that takes longer is told like one that failed: what hangs may hang for ever."""
REOPEN_S = 1.0
"""The pause after a consumer that was closed under us, so that two things at odds do not spin."""

log = Log("management")


class Stopping(Exception):
    """We were asked to stop before it worked."""


class Persistence:
    """Tries what depends on other machines, at doubling intervals up to ``retry_s_max``, until ``stop`` is set."""

    def __init__(self, readiness: Readiness, stop: asyncio.Event, *, retry_s_max: float) -> None:
        self._readiness = readiness
        self._stop = stop
        self._retry_s_max = retry_s_max

    async def until_done(self, part: Part, sentence: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """What ``attempt`` returns, once it does. It is made at least once, even while stopping.

        Any exception counts as "not now": whatever went wrong, giving up would lose what is in hand, and a person
        sees it in the log and in ``/readyz``. An attempt that takes longer than :data:`SLOW_S` goes on, but ends when
        we shall stop. Raises :class:`Stopping`, and :class:`store.database.UnusableDatabase`, which no waiting changes.
        """
        pause_s = RETRY_S_MIN
        failed = False

        def fails(reason: str) -> None:
            nonlocal failed
            if not failed:
                log.warning(sentence, action=f"{part}_unavailable", reason=reason)
            failed = True
            self._readiness.lacks(part, sentence)

        while True:
            try:
                result = await self._patiently(attempt, fails)
            except (UnusableDatabase, Stopping):
                raise
            except Exception as error:
                fails(_reason(error))
            else:
                if failed:
                    log.info("It works again.", action=f"{part}_recovered")
                self._readiness.has(part)
                return result
            await self.pause(pause_s)
            pause_s = min(2 * pause_s, self._retry_s_max)

    async def _patiently(self, attempt: Callable[[], Awaitable[T]], fails: Callable[[str], None]) -> T:
        working, stopping = asyncio.ensure_future(attempt()), asyncio.ensure_future(self._stop.wait())
        either: set[asyncio.Future[Any]] = {working, stopping}
        try:
            await asyncio.wait({working}, timeout=SLOW_S)
            if not working.done():
                fails(f"It takes longer than {SLOW_S:g} s.")
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise Stopping
            return working.result()
        finally:
            for each in either:
                each.cancel()
            await asyncio.gather(*either, return_exceptions=True)

    async def pause(self, seconds: float) -> None:
        """Wait. Raises :class:`Stopping` as soon as we shall stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        if self._stop.is_set():
            raise Stopping


def _reason(error: Exception) -> str:
    # The driver's own words, without the statement.
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return f"{type(cause).__name__}: {cause}"[:500]
