"""A client's HTTP connection as the gateway's application sees it, and the network between the two."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from process.connection import CONNECTION
from tests.simulation.virtual_loop import WORLD

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from starlette.types import ASGIApp, Message

    from tests.simulation.life import Life
    from tests.simulation.virtual_loop import VirtualLoop

WAY_S = 0.003
SLOW_S = 1.0
"""The longest that a slow reader lets a part wait."""
BROKEN: dict[str, Any] = {"type": "broken"}


class Connection:
    """One request and its response. What the application sends comes out of :meth:`next`, later and in order."""

    def __init__(
        self,
        loop: VirtualLoop,
        random: Random,
        life: Life,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        *,
        slow: bool,
    ) -> None:
        self._loop, self._random, self._life, self._slow = loop, random, life, slow
        self._headers = headers
        self._question: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        self._arrived: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._last_at = 0.0
        self._ended = False
        self.gone = False
        self.unsent = 0
        self.on_gone: Callable[[], None] | None = None
        self._client_gone = asyncio.Event()
        life.on_death.append(self._died)

    @property
    def life(self) -> Life:
        """The gateway at its other end."""
        return self._life

    def begin(self, app: ASGIApp) -> asyncio.Task[None]:
        """Hand the request to the application."""
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/chat/completions",
            "raw_path": b"/v1/chat/completions",
            "query_string": b"",
            "root_path": "",
            "http_version": "1.1",
            "scheme": "http",
            "headers": self._headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 1),
            CONNECTION: self,
        }
        return self._life.start(_serve(app, scope, self), "request")

    async def next(self) -> dict[str, Any]:
        """What comes next: a start, a part of the body, or that the connection broke."""
        return await self._arrived.get()

    def leave(self) -> None:
        """The client hangs up."""
        self._loop.call_later(self._random.random() * WAY_S, self._part, context=WORLD)

    async def receive(self) -> Message:
        """ASGI's."""
        if self._question:
            return self._question.pop()
        await self._client_gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """ASGI's."""
        if not self._life.alive:
            await self._life.silence()
        if self._client_gone.is_set():
            return
        self._put(dict(message))
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self._ended = True
            self._client_gone.set()
        elif self._slow:
            await asyncio.sleep(self._random.random() * SLOW_S)

    def cut(self) -> None:
        """See :class:`process.connection.Connection`."""
        if not self._ended and self._life.alive:
            self._ended = True
            self._put(BROKEN)
            self._part()

    def _died(self) -> None:
        if not self._ended:
            self._ended = True
            self._put(BROKEN)

    def _put(self, message: dict[str, Any]) -> None:
        self._last_at = max(self._last_at + 1e-6, self._loop.now + self._random.random() * WAY_S)
        self._loop.call_at(self._last_at, self._arrived.put_nowait, message, context=WORLD)

    def _part(self) -> None:
        self.gone = True
        self._client_gone.set()
        if self.on_gone is not None:
            self.on_gone()


async def _serve(app: ASGIApp, scope: dict[str, Any], connection: Connection) -> None:
    try:
        await app(scope, connection.receive, connection.send)
    finally:
        connection.cut()
