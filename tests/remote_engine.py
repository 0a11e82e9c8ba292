"""A remote engine in a test: jobs for it, where it writes, and what stands in for waiting."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.fake_upstream import oracle_usage
from wire.request import Request
from wire.usage import Usage
from workernode.engine import Job
from workernode.remote.engine import RemoteEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEY = "sk-canary-0123456789abcdef"


@dataclass
class Recorder:
    """Where the engine writes: keeps everything."""

    parts: list[bytes] = field(default_factory=list)
    text_chars: int = 0
    written: asyncio.Event = field(default_factory=asyncio.Event)
    delay_s: float = 0.0

    async def write(self, data: bytes, *, text_chars: int = 0) -> None:
        self.parts.append(data)
        self.text_chars += text_chars
        self.written.set()
        await asyncio.sleep(self.delay_s)

    @property
    def chunks(self) -> list[dict[str, Any]]:
        assert all(part.endswith(b"\n") for part in self.parts)
        return [json.loads(line) for line in b"".join(self.parts).splitlines()]

    @property
    def text(self) -> str:
        return "".join(c["delta"].get("content", "") for chunk in self.chunks for c in chunk["choices"])

    @property
    def whole(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(b"".join(self.parts))
        return parsed


@dataclass
class Waits:
    """Takes the place of sleeping between tries."""

    seconds: list[float] = field(default_factory=list)

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def job(
    prompt: str,
    *,
    stream: bool = False,
    usage_asked: bool = False,
    remaining_s: float = 20.0,
    prefix: str | None = None,
    **fields: Any,
) -> Job:
    body = {"model": "ours", "messages": [{"role": "user", "content": prompt}], "x_unknown": [1.5], **fields}
    if stream:
        body["stream"] = True
    request = Request(
        request_id="req_0123",
        model="ours",
        endpoint="chat/completions",
        body=json.dumps(body).encode(),
        gateway="gateway-0123",
        received_ms=0,
        deadline_ms=0,
        stream=stream,
        usage_asked=usage_asked,
        n=fields.get("n"),
    )
    return Job(request, answer_id="chatcmpl-ours", created_s=7, remaining_s=remaining_s, prefix=prefix)


def completion_job(prompt: str | list[str], **fields: Any) -> Job:
    """A whole completion of one text, or of several."""
    request = Request(
        request_id="req_0123",
        model="ours",
        endpoint="completions",
        body=json.dumps({"model": "ours", "prompt": prompt, **fields}).encode(),
        gateway="gateway-0123",
        received_ms=0,
        deadline_ms=0,
        n=fields.get("n"),
    )
    return Job(request, answer_id="cmpl-ours", created_s=7, remaining_s=20.0)


def expected_usage(a_job: Job) -> Usage:
    given = oracle_usage(a_job.request.body)
    return Usage(
        prompt_tokens=given["prompt_tokens"],
        completion_tokens=given["completion_tokens"],
        cached_tokens=given["prompt_tokens_details"]["cached_tokens"],
    )


@contextlib.asynccontextmanager
async def started(api_url: str, waits: Waits | None = None, **options: Any) -> AsyncIterator[RemoteEngine]:
    settings: dict[str, Any] = {"api_key": lambda: KEY, "upstream_model": "theirs", "slots": 8, **options}
    engine = RemoteEngine(api_url=api_url, sleep=waits or Waits(), **settings)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.aclose()


@contextlib.asynccontextmanager
async def raw_server(reply: bytes, then: bytes = b"", *, after: asyncio.Event | None = None) -> AsyncIterator[str]:
    """A server that sends the same bytes to whoever speaks to it, the second part after that event."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        if after is not None:
            await after.wait()
            writer.write(then)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
