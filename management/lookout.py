"""Looking again and again: every so often, and at once when there is reason to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from process.logging import Log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = Log("management")


class Lookout:
    """``look`` may fail, as a database or broker may be away: that is told once, and looked at the next time."""

    def __init__(self, look: Callable[[], Awaitable[None]], every_s: float, *, sentence: str, action: str) -> None:
        """``sentence`` and ``action`` are what is logged when it fails."""
        self._look = look
        self._every_s = every_s
        self._sentence = sentence
        self._action = action
        self._wanted = asyncio.Event()

    def soon(self) -> None:
        """Do not wait for the next time."""
        self._wanted.set()

    async def run(self) -> None:
        """For ever."""
        failed = False
        while True:
            self._wanted.clear()
            try:
                await self._look()
                failed = False
            except Exception as error:
                if not failed:
                    log.warning(self._sentence, action=self._action, error=type(error).__name__)
                failed = True
                await asyncio.sleep(self._every_s)
            try:
                async with asyncio.timeout(self._every_s):
                    await self._wanted.wait()
            except TimeoutError:
                pass
