"""A real browser without a window, driven through the DevTools protocol. One browser and one tab for each of these."""

from __future__ import annotations

import asyncio
import base64
import itertools
import shutil
from typing import TYPE_CHECKING, Any, Self

import aiohttp

from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

_START_S = 30.0
_ANSWER_S = 20.0
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
    """``async with Chromium(tmp_path) as tab``. Everything the tab complained of and asked for is kept."""

    def __init__(self, home: Path) -> None:
        """Raises :class:`ChromiumMissing`. The browser's profile is a new directory under ``home``."""
        self.complaints: list[str] = []
        """Errors and warnings in the console, and what was thrown."""
        self.requested: list[str] = []
        """The URL of each request."""
        program = shutil.which("chromium")
        if program is None:
            raise ChromiumMissing
        self._program = program
        self._profile = home / "chromium"
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            self._program,
            *_FLAGS,
            f"--user-data-dir={self._profile}",
            "about:blank",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            await self._connect()
        except BaseException:
            await self._kill()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._socket.close()
        await self._session.close()
        await self._kill()

    async def open(self, url: str) -> None:
        """Go to a page."""
        await self.call("Page.navigate", url=url)

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask the browser. Raises AssertionError with what it said if that was an error."""
        number = next(self._ids)
        answered = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        answer = await asyncio.wait_for(answered, _ANSWER_S)
        assert "error" not in answer, (method, answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    async def value(self, expression: str) -> Any:
        """What a JavaScript expression is in the page."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, (expression, answer)
        return answer["result"].get("value")

    async def settled(self) -> None:
        """Wait until the page that was asked for is there, with its fonts and what its scripts draw at once."""

        async def is_there() -> bool:
            return bool(await self.value("document.readyState === 'complete' && document.fonts.status === 'loaded'"))

        await until(is_there)
        await self.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    async def text(self, selector: str) -> str:
        """What a person reads there: nothing where it is hidden or not there yet."""
        found = f"document.querySelector({selector!r})"
        return str(await self.value(f"{found}?.checkVisibility() ? {found}.innerText : ''"))

    async def reads(self, selector: str, text: str) -> None:
        """Wait until that text stands there."""

        async def stands() -> bool:
            return text in await self.text(selector)

        await until(stands)

    async def click(self, selector: str) -> None:
        """Press the mouse's button on it, as a person would."""
        where = await self.value(
            f"(() => {{ const it = document.querySelector({selector!r}); it.scrollIntoView({{block: 'center'}});"
            " const {x, y, width, height} = it.getBoundingClientRect();"
            " return {x: x + width / 2, y: y + height / 2} })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **where)

    async def write(self, selector: str, text: str) -> None:
        """Click into a field and type."""
        await self.click(selector)
        await self.call("Input.insertText", text=text)

    async def press(self, *keys: str) -> None:
        """Press keys, one after the other: letters, or names such as ``Tab``."""
        for key in keys:
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            down = {"type": "keyDown" if text else "rawKeyDown", "key": key, "code": key, "text": text}
            codes = {"Tab": 9, "Enter": 13, "Escape": 27}
            await self.call("Input.dispatchKeyEvent", **down, windowsVirtualKeyCode=codes.get(key, 0))
            await self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key)

    async def looks(self, *, width: int, height: int, scheme: str = "light") -> None:
        """The size of the window, and whether the person likes it dark."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        await self.call("Emulation.setScrollbarsHidden", hidden=True)
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def grows(self, *, width: int) -> None:
        """Make the window as high as its page."""
        height = await self.value("document.documentElement.scrollHeight")
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    async def picture(self, *, whole: bool = True) -> bytes:
        """The whole page as PNG, or what the window shows of it."""
        answer = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(answer["data"])

    async def _connect(self) -> None:
        told = self._profile / "DevToolsActivePort"
        await until(lambda: told.exists() and "\n" in told.read_text(), within_s=_START_S)
        port = told.read_text().split()[0]
        self._session = aiohttp.ClientSession()
        try:
            async with self._session.get(f"http://127.0.0.1:{port}/json/list") as response:
                (tab,) = [each for each in await response.json() if each["type"] == "page"]
            self._socket = await self._session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0)
        except BaseException:
            await self._session.close()
            raise
        self._reader = asyncio.get_running_loop().create_task(self._read())
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")

    async def _read(self) -> None:
        async for message in self._socket:
            said = message.json()
            if "id" in said:
                self._waiting.pop(said["id"]).set_result(said)
            else:
                self._heard(said["method"], said["params"])

    def _heard(self, event: str, params: dict[str, Any]) -> None:
        match event:
            case "Network.requestWillBeSent":
                self.requested.append(params["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(str(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.complaints.append(str(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.complaints.append(str(params["entry"]))

    async def _kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
