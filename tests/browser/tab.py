"""The tab that tests open pages in."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.browser.chromium import Chromium, ChromiumMissing
from tests.missing import missing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@contextlib.asynccontextmanager
async def opened_tab(home: Path) -> AsyncIterator[Chromium]:
    """A browser of 900 by 1200. Without one on this machine the test is skipped, or fails with ``CI=true``."""
    try:
        browser = Chromium(home)
    except ChromiumMissing:
        missing("There is no Chromium on this machine.")
    async with browser as tab:
        await tab.looks(width=900, height=1200)
        yield tab
