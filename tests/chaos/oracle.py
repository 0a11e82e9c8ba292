"""The provider of a chaos run: its answers are known in advance, and each of its executions leaves a mark.

The text and the usage of an answer are those of :mod:`tests.fake_upstream`, a pure function of the prompt. On top of
them each execution puts its own ``system_fingerprint`` into every chunk, which nodes and gateways pass on: pieces of
two attempts in one answer show even where their texts fit together. With the word ``diverge`` in the prompt the texts
do not fit: every execution has words of its own after the first one, as a model that samples would.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.fake_upstream import Chaos, oracle_text, oracle_usage

if TYPE_CHECKING:
    from types import TracebackType


DIVERGE = "diverge"


def text_of(body: dict[str, Any], execution: int) -> str:
    """The whole answer of one execution."""
    text = oracle_text(body)
    if DIVERGE not in body["messages"][-1]["content"].split():
        return text
    name, *words = text.split()
    return " ".join([name, *(f"{word}e{execution}" for word in words)])


@dataclass
class Execution:
    """One request as it reached the provider."""

    number: int
    """Of the execution, over all requests."""
    life: str
    """Which node sent it: nodes show their names as API keys."""
    began_at: float
    ended_at: float | None = None


@dataclass
class Oracle:
    """Serves ``/v1/chat/completions`` on a free port. Delays stand as words in the prompt (``delay-first=0.2``)."""

    executions: dict[str, list[Execution]] = field(default_factory=lambda: defaultdict(list))
    """By the first word of the prompt, in the order of arrival."""
    url: str = ""
    _count: int = 0
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Oracle:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def running(self) -> int:
        """Executions that have not ended."""
        return sum(each.ended_at is None for executions in self.executions.values() for each in executions)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        prompt: str = body["messages"][-1]["content"]
        loop = asyncio.get_running_loop()
        self._count += 1
        life = request.headers.get("authorization", "").removeprefix("Bearer ")
        execution = Execution(self._count, life, loop.time())
        self.executions[prompt.split()[0]].append(execution)
        try:
            if body.get("stream"):
                return await self._stream(request, body, Chaos.of(prompt), execution)
            await asyncio.sleep(Chaos.of(prompt).delay_first)
            return web.json_response(whole_answer(body, execution.number))
        except ConnectionError:
            raise asyncio.CancelledError from None  # its node is gone: there is nobody to tell
        finally:
            execution.ended_at = loop.time()

    async def _stream(
        self, request: web.Request, body: dict[str, Any], delays: Chaos, execution: Execution
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await asyncio.sleep(delays.delay_first)
        for chunk in chunks(body, execution.number):
            await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
            if delays.delay_between:
                await asyncio.sleep(delays.delay_between)
        await response.write(b"data: [DONE]\n\n")
        return response


_FINISH: dict[str, Any] = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}


def whole_answer(body: dict[str, Any], execution: int) -> dict[str, Any]:
    """The JSON body of an answer."""
    message = {"role": "assistant", "content": text_of(body, execution), "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {**_head("chat.completion", body, execution), "choices": [choice], "usage": oracle_usage(body)}


def chunks(body: dict[str, Any], execution: int) -> list[dict[str, Any]]:
    """The chunks of a streamed answer."""
    head = _head("chat.completion.chunk", body, execution)
    first, *others = text_of(body, execution).split(" ")
    deltas: list[dict[str, str]] = [
        {"role": "assistant", "content": first},
        *({"content": f" {word}"} for word in others),
    ]
    choices: list[dict[str, Any]] = [
        {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None} for delta in deltas
    ]
    choices.append(_FINISH)
    found = [{**head, "choices": [choice]} for choice in choices]
    if (body.get("stream_options") or {}).get("include_usage"):
        found.append({**head, "choices": [], "usage": oracle_usage(body)})
    return found


def _head(kind: str, body: dict[str, Any], execution: int) -> dict[str, Any]:
    fingerprint = f"execution-{execution}"
    return {"id": "x", "object": kind, "created": 1, "model": body["model"], "system_fingerprint": fingerprint}
