"""The browser, and the tab that tests open pages in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.chromium import Chromium, ChromiumMissing
from tests.missing import missing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.browser.tab import Tab


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """One for all tests: to start it takes longer than most of them."""
    try:
        chromium = Chromium(tmp_path_factory.mktemp("browser"))
    except ChromiumMissing:
        missing("There is no Chromium on this machine.")
    with chromium as started:
        yield started


@pytest.fixture
async def tab(browser: Chromium) -> AsyncIterator[Tab]:
    """A person's only tab, of 900 by 1200."""
    async with browser.tab() as opened:
        await opened.looks(width=900, height=1200)
        yield opened
