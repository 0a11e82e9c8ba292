"""A provider that gives one choice per call, and refuses what a test tells it to. Every call gets another answer.

The answer to the call with seed ``s``, or else to the ``s``-th call, is ``a<s> end``; each costs 10 tokens and 2.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

USAGE = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}


class NarrowProvider:
    """``refusal`` says of a body with which status and error it is refused, if it is.

    ``together``: so many streams must have begun before any goes on. ``failing``: this call, counted from 0, breaks
    off, a stream after its first token, or before it if ``mute``. ``hanging``: no call ends.
    """

    def __init__(
        self,
        refusal: Callable[[dict[str, Any]], tuple[int, Any] | None] = lambda body: None,
        *,
        together: int = 0,
        failing: int | None = None,
        mute: bool = False,
        hanging: bool = False,
    ) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str] = []
        """Of idempotency, in the order of the calls."""
        self.running = 0
        self.peak = 0
        self._refusal = refusal
        self._together = together
        self._failing = failing
        self._mute = mute
        self._hanging = hanging
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> NarrowProvider:
        app = web.Application()
        app.add_routes([web.post("/v1/chat/completions", self._serve), web.post("/v1/completions", self._serve)])
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def until(self, running: int) -> None:
        """Wait until so many calls are under way. Raises :class:`TimeoutError`."""
        async with asyncio.timeout(5), self._changed:
            await self._changed.wait_for(lambda: self.running == running)

    async def _count(self, more: int) -> None:
        self.running += more
        self.peak = max(self.peak, self.running)
        async with self._changed:
            self._changed.notify_all()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        number = len(self.bodies)
        self.keys.append(request.headers["idempotency-key"])
        self.bodies.append(body)
        if (refusal := self._refusal(body)) is not None:
            return web.json_response(refusal[1], status=refusal[0])
        await self._count(1)
        try:
            return await self._answer(request, body, number)
        finally:
            await asyncio.shield(self._count(-1))

    async def _answer(self, request: web.Request, body: dict[str, Any], number: int) -> web.StreamResponse:
        text = f"a{body.get('seed', number)}"
        if body.get("stream"):
            return await self._stream(request, body, text, number)
        if self._hanging:
            await asyncio.Event().wait()
        if number == self._failing:
            return web.json_response({"error": {"message": "No.", "type": "server_error"}}, status=500)
        await asyncio.sleep(0.01)  # so that calls at once are seen together
        said: dict[str, Any] = {"message": {"role": "assistant", "content": f"{text} end"}}
        if "prompt" in body:
            asked = body.get("logprobs") is not None
            told = {"tokens": ["x"], "token_logprobs": [None, -1.0 / (number + 1)]} if asked else None
            said = {"text": f"{body['prompt']}: {text} end", "logprobs": told}
        choice = {"index": 0, **said, "finish_reason": "stop"}
        return web.json_response({"id": "t", "created": 1, "model": "t", "choices": [choice], "usage": USAGE})

    async def _stream(self, request: web.Request, body: dict[str, Any], text: str, number: int) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        if number != self._failing or not self._mute:
            await response.write(_event({"role": "assistant", "content": text}))
        if self._together:
            async with self._changed:
                await self._changed.wait_for(lambda: self.peak >= self._together)
        if self._hanging:
            await asyncio.Event().wait()
        if number == self._failing:
            await asyncio.sleep(0.05)  # so that what was written is read as data and not lost in the reset
            assert request.transport is not None
            request.transport.abort()
            return response
        await response.write(_event({"content": " end"}) + _event({}, "stop"))
        if body.get("stream_options"):
            await response.write(b"data: " + json.dumps({"choices": [], "usage": USAGE}).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response


def _event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "t", "created": 1, "model": "t", "choices": [choice]}).encode() + b"\n\n"
