"""A provider that speaks the OpenAI API over real HTTP, knows its answers in advance and misbehaves on request.

The answer to a prompt is a pure function of it (:func:`oracle_text`, :func:`oracle_usage`), so a gap, a repetition or a
mixture shows byte by byte. What goes wrong is chosen by words in the last user message (``r17 tokens=50 hang-after=3``)
or, once per entry, by :attr:`FakeUpstream.script`. Words are listed at :class:`Chaos`.

In a test: ``async with FakeUpstream() as upstream: … upstream.url …``.
As a process: ``python -m tests.fake_upstream --port 8099``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import gzip
import json
import time
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.fake_texts import prompts_of, text_chunks, vectors, whole_text, words_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

DEFAULT_TOKENS = 8
UPSTREAM_ID = "chatcmpl-upstream"
UPSTREAM_CREATED_S = 1_700_000_000
HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


@dataclass(frozen=True)
class Chaos:
    """How one answer goes wrong. In a prompt, ``no_done`` is written ``no-done`` and ``status`` ``status=503``."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    """Sent in addition; not available as a word."""
    body: bytes | None = None
    """Sent instead of any answer, with ``status``; not available as a word."""
    retry_after: str | None = None
    quota: bool = False
    """With ``status=429``: the error's code is ``insufficient_quota``."""
    delay_headers: float = 0.0
    """Seconds before the status line."""
    delay_first: float = 0.0
    """Seconds between the status line and the first token."""
    delay_between: float = 0.0
    """Seconds between two chunks."""
    delay_end: float = 0.0
    """Seconds between the last event and the end of the response."""
    close_after: int | None = None
    """The connection breaks after that many chunks; of a whole answer, after half of its bytes."""
    end_after: int | None = None
    """The stream ends properly after that many chunks, without ``[DONE]`` and finish reason."""
    error_after: int | None = None
    """After that many chunks comes an error event, and the stream ends."""
    garbage_after: int | None = None
    """After that many chunks comes one that is no JSON."""
    hang_after: int | None = None
    """After that many chunks nothing more comes."""
    reset: bool = False
    """The connection breaks before the status line."""
    no_done: bool = False
    no_finish: bool = False
    no_usage: bool = False
    usage_on_finish: bool = False
    """The usage stands in the chunk with the finish reason, as some providers do."""
    empty: bool = False
    """A stream without any chunk; a whole answer without a body."""
    html: bool = False
    """A proxy's error page, with status 200 unless ``status`` says otherwise."""
    error_inside: bool = False
    """Status 200, and an error as body or as first event."""
    gzip: bool = False
    crlf: bool = False
    comments: bool = False
    """A keep-alive comment before every chunk."""
    pings: float = 0.0
    """With ``hang_after``, of a stream: seconds between the keep-alive comments that still come."""
    hang: bool = False
    """Never answers: not even a status line."""
    huge: int = 0
    """MiB of text."""
    burst: int = 1
    """Chunks of a stream per write."""

    @classmethod
    def of(cls, words: str) -> Chaos:
        """Read the words of a prompt; those that name no field are text."""
        known = {f.name: f for f in dataclasses.fields(cls)}
        chosen: dict[str, Any] = {}
        for word in words.split():
            name, equals, value = word.partition("=")
            name = name.replace("-", "_")
            found = known.get(name)
            if found is None or name in ("headers", "body"):
                continue
            if found.type == "bool":
                chosen[name] = True
            elif equals:
                kind = float if found.type == "float" else str if found.type.startswith("str") else int
                chosen[name] = kind(value)
        return cls(**chosen)


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


def oracle_text(body: bytes | dict[str, Any]) -> str:
    """The answer to a request: the prompt's first word and ``tokens=N`` words after it: ``r17 t0 t1 … t(N-1)``."""
    prompt = _prompt(body)
    words = prompt.split()
    name = words[0] if words and "=" not in words[0] else "r"
    return " ".join([name, *(f"t{i}" for i in range(_tokens(words)))])


def oracle_usage(body: bytes | dict[str, Any]) -> dict[str, Any]:
    """What an answer costs: a token per word. A third of the prompt counts as cached."""
    parsed = json.loads(body) if isinstance(body, bytes) else body
    prompt = sum(len(_text(message).split()) for message in parsed["messages"])
    completion = len(oracle_text(parsed).split()) * int(parsed.get("n") or 1)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": prompt // 3},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


class FakeUpstream:
    """The provider. ``url`` is what a node would have as ``API_URL``."""

    def __init__(
        self, *, port: int = 0, api_key: str | None = None, models: tuple[str, ...] = ("upstream-model",)
    ) -> None:
        self.api_key = api_key
        self.models = models
        self.script: list[Chaos | str] = []
        """For the next requests, one entry each, instead of the words in their prompts."""
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

    async def _answer(self, request: web.Request, received: Received) -> web.StreamResponse:
        if refusal := self._refusal(request):
            return refusal
        try:
            body = received.json
            prompt = _prompt(body)
        except (ValueError, KeyError, TypeError, IndexError):
            return _error(400, "We could not parse the JSON body of your request.", kind="invalid_request_error")
        chaos = self.script.pop(0) if self.script else prompt
        chaos = Chaos.of(chaos) if isinstance(chaos, str) else chaos
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


def _events(body: dict[str, Any], chaos: Chaos) -> list[bytes]:
    newline = b"\r\n" if chaos.crlf else b"\n"
    before = b": keep-alive" + newline * 2 if chaos.comments else b""
    chunks = text_chunks(body, without_finish=chaos.no_finish) if "prompt" in body else _chunks(body, chaos)
    for limit in (chaos.end_after, chaos.error_after, chaos.garbage_after):
        if limit is not None:
            chunks = chunks[:limit]
    payloads = [_encode(chunk) for chunk in chunks]
    if chaos.error_after is not None:
        payloads.append(_encode({"error": {"message": "The server had an error", "type": "server_error"}}))
    if chaos.garbage_after is not None:
        payloads.append(b'{"choices": [{"delta"')
    if not chaos.no_done and chaos.end_after is None and chaos.error_after is None:
        payloads.append(b"[DONE]")
    return [before + b"data: " + payload + newline * 2 for payload in payloads]


def _chunks(body: dict[str, Any], chaos: Chaos) -> list[dict[str, Any]]:
    head = {
        "id": UPSTREAM_ID,
        "object": "chat.completion.chunk",
        "created": UPSTREAM_CREATED_S,
        "model": body.get("model"),
        "system_fingerprint": "fp_fake",
    }
    asked = bool((body.get("stream_options") or {}).get("include_usage"))
    null_usage = {"usage": None} if asked else {}

    def chunk(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**head, "choices": [choice], **null_usage}

    indexes = range(int(body.get("n") or 1))
    chunks = [chunk(i, {"role": "assistant", "content": "", "refusal": None}) for i in indexes]
    for piece in _pieces(_answer_text(body, chaos), chaos):
        chunks += [chunk(i, {"content": piece}) for i in indexes]
    if not chaos.no_finish:
        chunks += [chunk(i, {}, "stop") for i in indexes]
        if chaos.usage_on_finish:
            chunks[-1]["usage"] = oracle_usage(body)
    if asked and not chaos.no_usage and not chaos.usage_on_finish:
        chunks.append({**head, "choices": [], "usage": oracle_usage(body)})
    return chunks


def _pieces(text: str, chaos: Chaos) -> list[str]:
    if chaos.huge:
        return [text[i : i + 65536] for i in range(0, len(text), 65536)]
    first, *others = text.split(" ")
    return [first, *(f" {word}" for word in others)]


def _whole_answer(body: dict[str, Any], chaos: Chaos) -> dict[str, Any]:
    answer = _completion(body, chaos) if "messages" in body else whole_text(body) if "prompt" in body else vectors(body)
    if chaos.no_usage:
        del answer["usage"]
    return answer


def _completion(body: dict[str, Any], chaos: Chaos) -> dict[str, Any]:
    text = _answer_text(body, chaos)
    finish = None if chaos.no_finish else "stop"
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    return {
        "id": UPSTREAM_ID,
        "object": "chat.completion",
        "created": UPSTREAM_CREATED_S,
        "model": body.get("model"),
        "choices": [
            {"index": i, "message": message, "logprobs": None, "finish_reason": finish}
            for i in range(int(body.get("n") or 1))
        ],
        "usage": oracle_usage(body),
        "service_tier": "default",
        "system_fingerprint": "fp_fake",
    }


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


def _answer_text(body: dict[str, Any], chaos: Chaos) -> str:
    return oracle_text(body) + (" " + "x" * (chaos.huge * 2**20) if chaos.huge else "")


def _tokens(words: list[str]) -> int:
    return next((int(word[7:]) for word in words if word.startswith("tokens=")), DEFAULT_TOKENS)


def _prompt(body: bytes | dict[str, Any]) -> str:
    parsed = json.loads(body) if isinstance(body, bytes) else body
    if "messages" not in parsed:
        return words_of(prompts_of(parsed)[0])
    users = [message for message in parsed["messages"] if message.get("role") == "user"]
    return _text(users[-1])


def _text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content)


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
