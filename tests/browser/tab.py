"""The tab that tests open pages in."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest

from tests.browser.chromium import Chromium, ChromiumMissing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@contextlib.asynccontextmanager
async def opened_tab(home: Path) -> AsyncIterator[Chromium]:
    """A browser of 900 by 1200. Without one on this machine the test is skipped, or fails with ``CI=true``."""
    try:
        browser = Chromium(home)
    except ChromiumMissing:
        sentence = "There is no Chromium on this machine."
        if os.environ.get("CI") == "true":
            pytest.fail(sentence)
        pytest.skip(sentence)
    async with browser as tab:
        await tab.looks(width=900, height=1200)
        yield tab
