"""A tab of a browser, driven through the DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import itertools
from typing import TYPE_CHECKING, Any, Self

from tests.waiting import until

if TYPE_CHECKING:
    import aiohttp

_ANSWER_S = 20.0
_LEFT = "Inspected target navigated or closed"


class DevTools:
    """A conversation with a browser or with one of its tabs."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def __aenter__(self) -> Self:
        self._socket = await self._session.ws_connect(self._url, max_msg_size=0)
        self._reader = asyncio.get_running_loop().create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._socket.close()

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask the browser. Raises AssertionError with what it said if that was an error."""
        number = next(self._ids)
        answered = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        answer = await asyncio.wait_for(answered, _ANSWER_S)
        assert "error" not in answer, (method, answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    async def _read(self) -> None:
        async for message in self._socket:
            said = message.json()
            if "id" in said:
                self._waiting.pop(said["id"]).set_result(said)
            else:
                self._heard(said["method"], said["params"])

    def _heard(self, event: str, params: dict[str, Any]) -> None:
        """What it says without being asked."""


class Tab(DevTools):
    """Everything that it complained of and asked for is kept."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        super().__init__(session, url)
        self.complaints: list[str] = []
        """Errors and warnings in the console, and what was thrown."""
        self.requested: list[str] = []
        """The URL of each request."""

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        return self

    async def open(self, url: str) -> None:
        """Go to a page."""
        await self.call("Page.navigate", url=url)

    async def value(self, expression: str) -> Any:
        """What a JavaScript expression is in the page. One that is left meanwhile leaves it to the next."""
        while True:
            try:
                answer = await self.call(
                    "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
                )
            except AssertionError as refused:
                if _LEFT not in str(refused):
                    raise
                continue
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
