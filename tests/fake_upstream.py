"""A provider that speaks the OpenAI API over real HTTP, knows its answers in advance and misbehaves on request.

The answer to a prompt is a pure function of it (:mod:`tests.fake_chat`, :mod:`tests.fake_texts`), so a gap, a
repetition or a mixture shows byte by byte. What goes wrong is chosen by words in the last user message
(``r17 tokens=50 hang-after=3``) or, once per entry, by :attr:`FakeUpstream.script`. Words are listed at :class:`Chaos`.

In a test: ``async with FakeUpstream() as upstream: … upstream.url …``.
As a process: ``python -m tests.fake_upstream --port 8099``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import json
import time
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.fake_chaos import Chaos
from tests.fake_chat import chunks, completion, oracle_text, oracle_usage, prompt_of
from tests.fake_texts import text_chunks, vectors, whole_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from tests.simulation.provider_limits import Limiter

__all__ = ["Chaos", "FakeUpstream", "oracle_text", "oracle_usage"]

_HEADERS: web.RequestKey[dict[str, str]] = web.RequestKey("headers")
"""Where a request keeps what its response shall have."""
HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


@dataclass
class Received:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes
    at_s: float = field(default_factory=time.monotonic)

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


class FakeUpstream:
    """The provider. ``url`` is what a node would have as ``API_URL``."""

    def __init__(
        self, *, port: int = 0, api_key: str | None = None, models: tuple[str, ...] = ("upstream-model",)
    ) -> None:
        self.api_key = api_key
        self.models = models
        self.script: list[Chaos | str] = []
        """For the next requests, one entry each, instead of the words in their prompts."""
        self.limiters: dict[str, Limiter] = {}
        """By key: how often it may be used."""
        self.may_answer = asyncio.Event()
        """While it is not set, requests are taken and wait for it before their status line."""
        self.may_answer.set()
        self.refused = 0
        """Requests that a limiter refused."""
        self.requests: list[Received] = []
        self.running = 0
        self.peak = 0
        self.aborted = 0
        """Answers that ended because the client closed the connection."""
        self.answered = 0
        self.connections = 0
        """Connections that brought at least one request."""
        self._transports: weakref.WeakSet[asyncio.BaseTransport] = weakref.WeakSet()
        self.port = port
        self._changed = asyncio.Condition()
        self._stopping = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """The base URL, with ``/v1``."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> FakeUpstream:
        app = web.Application(client_max_size=2**30)
        app.add_routes(
            [
                web.post("/v1/chat/completions", self._chat),
                web.post("/v1/completions", self._chat),
                web.post("/v1/embeddings", self._chat),
                web.get("/v1/models", self._models),
                # Azure's form of the same
                web.post("/openai/deployments/{deployment}/chat/completions", self._chat),
            ]
        )
        app.on_response_prepare.append(_add_headers)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=1024)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def until(self, condition: Callable[[FakeUpstream], bool], *, within_s: float = 5.0) -> None:
        """Wait for a condition on the counters. Raises :class:`TimeoutError`."""
        async with asyncio.timeout(within_s), self._changed:
            await self._changed.wait_for(lambda: condition(self))

    async def _models(self, request: web.Request) -> web.StreamResponse:
        if refusal := self._refusal(request):
            return refusal
        models = [{"id": model, "object": "model", "created": 0, "owned_by": "fake"} for model in self.models]
        return web.json_response({"object": "list", "data": models})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        received = Received(request.path_qs, {k.lower(): v for k, v in request.headers.items()}, await request.read())
        self.requests.append(received)
        if request.transport is not None and request.transport not in self._transports:
            self._transports.add(request.transport)
            self.connections += 1
        await self._count(running=1)
        try:
            response = await self._answer(request, received)
        except _Broken:
            await self._count(running=-1)
            # The connection is gone; any other exception would make aiohttp log a traceback.
            raise asyncio.CancelledError from None
        except (asyncio.CancelledError, ConnectionError):
            await asyncio.shield(self._count(running=-1, aborted=1))
            raise asyncio.CancelledError from None
        except BaseException:
            await self._count(running=-1)
            raise
        await self._count(running=-1, answered=1)
        return response

    async def _count(self, *, running: int, aborted: int = 0, answered: int = 0) -> None:
        self.running += running
        self.peak = max(self.peak, self.running)
        self.aborted += aborted
        self.answered += answered
        async with self._changed:
            self._changed.notify_all()

    def _refusal(self, request: web.Request) -> web.Response | None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self.api_key is None or given == self.api_key:
            return None
        message = f"Incorrect API key provided: {given[:8]}****{given[-4:]}. You can find your API key at https://x."
        return _error(401, message, kind="invalid_request_error", code="invalid_api_key")

    def _limited(self, request: web.Request) -> web.Response | None:
        limiter = self.limiters.get(request.headers.get("authorization", "").removeprefix("Bearer "))
        if limiter is None:
            return None
        verdict = limiter.call(time.monotonic())
        request[_HEADERS] |= {
            "x-ratelimit-limit-requests": str(limiter.limit),
            "x-ratelimit-remaining-requests": str(verdict.remaining),
            "x-ratelimit-reset-requests": f"{verdict.reset_s:.3f}s",
        }
        if verdict.admitted:
            return None
        self.refused += 1
        request[_HEADERS]["retry-after-ms"] = str(round(verdict.wait_s * 1000))
        return _error(429, "Rate limit reached.", kind="requests", code="rate_limit_exceeded")

    async def _answer(self, request: web.Request, received: Received) -> web.StreamResponse:
        if refusal := self._refusal(request):
            return refusal
        try:
            body = received.json
            prompt = prompt_of(body)
        except (ValueError, KeyError, TypeError, IndexError):
            return _error(400, "We could not parse the JSON body of your request.", kind="invalid_request_error")
        chaos = self.script.pop(0) if self.script else prompt
        chaos = Chaos.of(chaos) if isinstance(chaos, str) else chaos
        request[_HEADERS] = dict(chaos.headers)
        if limited := self._limited(request):
            return limited
        await self.may_answer.wait()
        if chaos.delay_headers:
            await asyncio.sleep(chaos.delay_headers)
        if chaos.hang:
            await self._hang()
        if chaos.reset:
            _break(request)
        if (failure := _failure(chaos)) is not None:
            return failure
        if body.get("stream") and "input" not in body:
            return await self._stream(request, body, chaos)
        return await self._whole(request, body, chaos)

    async def _hang(self) -> None:
        await self._stopping.wait()
        raise ConnectionResetError

    async def _whole(self, request: web.Request, body: dict[str, Any], chaos: Chaos) -> web.StreamResponse:
        if chaos.delay_first:
            await asyncio.sleep(chaos.delay_first)
        if chaos.empty:
            return web.Response(body=b"", content_type="application/json")
        data = _encode(_whole_answer(body, chaos))
        headers = {"content-type": "application/json"}
        if chaos.gzip:
            data, headers["content-encoding"] = gzip.compress(data), "gzip"
        if chaos.spaces:
            response = web.StreamResponse(headers=headers)
            await response.prepare(request)
            for _ in range(chaos.spaces):
                await response.write(b"\n")
                await asyncio.sleep(chaos.delay_between)
            await response.write(data)
            return response
        if chaos.close_after is None and chaos.hang_after is None:
            return web.Response(body=data, headers=headers)
        response = web.StreamResponse(headers={**headers, "content-length": str(len(data))})
        await response.prepare(request)
        await response.write(data[: len(data) // 2])
        if chaos.hang_after is not None:
            await self._hang()
        _break(request)
        return response

    async def _stream(self, request: web.Request, body: dict[str, Any], chaos: Chaos) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        if chaos.gzip:
            response.enable_compression(web.ContentCoding.gzip)
        await response.prepare(request)
        if chaos.delay_first:
            await asyncio.sleep(chaos.delay_first)
        events = [] if chaos.empty else _events(body, chaos)
        pending: list[bytes] = []
        for number, event in enumerate(events):
            if number == chaos.hang_after:
                await response.write(b"".join(pending))
                while chaos.pings:
                    await response.write(b": keep-alive\n\n")
                    await asyncio.sleep(chaos.pings)
                await self._hang()
            if number == chaos.close_after:
                await response.write(b"".join(pending))
                await asyncio.sleep(0.05)  # so that what was written is read as data and not lost in the reset
                _break(request)
            if number and chaos.delay_between:
                await asyncio.sleep(chaos.delay_between)
            pending.append(event)
            if len(pending) >= chaos.burst:
                await response.write(b"".join(pending))
                pending.clear()
        if pending:
            await response.write(b"".join(pending))
        if chaos.delay_end:
            await asyncio.sleep(chaos.delay_end)
        await response.write_eof()
        return response


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(request.get(_HEADERS, {}))


def _events(body: dict[str, Any], chaos: Chaos) -> list[bytes]:
    newline = b"\r\n" if chaos.crlf else b"\n"
    before = b": keep-alive" + newline * 2 if chaos.comments else b""
    made = text_chunks(body, without_finish=chaos.no_finish) if "prompt" in body else chunks(body, chaos)
    for limit in (chaos.end_after, chaos.error_after, chaos.garbage_after):
        if limit is not None:
            made = made[:limit]
    payloads = [_encode(chunk) for chunk in made]
    if chaos.error_after is not None:
        payloads.append(_encode({"error": {"message": "The server had an error", "type": "server_error"}}))
    if chaos.garbage_after is not None:
        payloads.append(b'{"choices": [{"delta"')
    if not chaos.no_done and chaos.end_after is None and chaos.error_after is None:
        payloads.append(b"[DONE]")
    return [before + b"data: " + payload + newline * 2 for payload in payloads]


def _whole_answer(body: dict[str, Any], chaos: Chaos) -> dict[str, Any]:
    answer = completion(body, chaos) if "messages" in body else whole_text(body) if "prompt" in body else vectors(body)
    if chaos.no_usage:
        del answer["usage"]
    return answer


def _failure(chaos: Chaos) -> web.Response | None:
    headers = dict(chaos.headers) | ({"retry-after": chaos.retry_after} if chaos.retry_after else {})
    if chaos.body is not None:
        return web.Response(status=chaos.status, body=chaos.body, headers=headers)
    if chaos.html:
        return web.Response(status=chaos.status, body=HTML, headers={"content-type": "text/html", **headers})
    if chaos.error_inside:
        return _error(200, "The model is overloaded", headers=headers)
    if chaos.quota:
        message = "You exceeded your current quota."
        return _error(chaos.status, message, kind="insufficient_quota", code="insufficient_quota", headers=headers)
    if chaos.status != 200:
        kind = "invalid_request_error" if chaos.status < 500 else "server_error"
        return _error(chaos.status, f"This is a scripted {chaos.status}.", kind=kind, headers=headers)
    return None


def _error(
    status: int,
    message: str,
    *,
    kind: str = "server_error",
    code: str | None = None,
    headers: dict[str, str] | None = None,
) -> web.Response:
    error = {"message": message, "type": kind, "param": None, "code": code}
    return web.json_response({"error": error}, status=status, headers=headers)


def _break(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
    raise _Broken


class _Broken(Exception):
    """The connection was broken on purpose."""


def _encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


async def _serve(port: int, api_key: str | None, models: tuple[str, ...]) -> None:
    async with FakeUpstream(port=port, api_key=api_key, models=models) as upstream:
        print(upstream.url, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Serve until interrupted; the first line of the output is the URL."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--api-key")
    parser.add_argument("--models", default="upstream-model")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(arguments.port, arguments.api_key, tuple(arguments.models.split(","))))


if __name__ == "__main__":
    main()
