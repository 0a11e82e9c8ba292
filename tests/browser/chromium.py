"""A real browser without a window, for as many tabs as are wanted, each a person of its own."""

from __future__ import annotations

import shutil
import subprocess
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

import aiohttp

from tests.browser.tab import DevTools, Tab

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_START_S = 30.0
_LOOK_S = 0.02
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)


class ChromiumMissing(Exception):
    """There is no Chromium on this machine."""


class Chromium:
    """``with Chromium(tmp_path) as browser``, and in it ``async with browser.tab() as tab``."""

    def __init__(self, home: Path) -> None:
        """Raises :class:`ChromiumMissing`. The browser's profile is a new directory under ``home``."""
        program = shutil.which("chromium")
        if program is None:
            raise ChromiumMissing
        self._program = program
        self._profile = home / "chromium"
        self._address = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [self._program, *_FLAGS, f"--user-data-dir={self._profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._wait_until_ready()
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()

    @asynccontextmanager
    async def tab(self) -> AsyncIterator[Tab]:
        """One that shares no cookie, no storage and no cache with any other."""
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://{self._address}/json/version") as response:
                url = (await response.json())["webSocketDebuggerUrl"]
            async with DevTools(session, url) as tools:
                context = (await tools.call("Target.createBrowserContext"))["browserContextId"]
                target = await tools.call("Target.createTarget", url="about:blank", browserContextId=context)
                async with Tab(session, f"ws://{self._address}/devtools/page/{target['targetId']}") as tab:
                    yield tab
                await tools.call("Target.disposeBrowserContext", browserContextId=context)

    def _wait_until_ready(self) -> None:
        told = self._profile / "DevToolsActivePort"
        deadline = time.monotonic() + _START_S
        while not (told.exists() and "\n" in told.read_text()):
            assert self._process.poll() is None, "the browser ended"
            assert time.monotonic() < deadline, "the browser did not start"
            time.sleep(_LOOK_S)
        self._address = f"127.0.0.1:{told.read_text().split()[0]}"

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()
