"""The addresses of the server. It answers from the first moment: what it is doing, until the model is ready."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from workernode.local.server.front import chat, completions, embeddings
from workernode.local.server.front.asked import Tokenize, read
from workernode.local.server.front.problem import Problem
from workernode.local.server.front.sending import Sender

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from workernode.local.server.front.client import StepClient
    from workernode.local.server.front.room import Room

log = logging.getLogger(__name__)

_POSTS: dict[str, Callable[[Room, bytes, Sender], Awaitable[None]]] = {
    "/v1/chat/completions": chat.answer,
    "/v1/completions": completions.answer,
    "/v1/embeddings": embeddings.answer,
}
_GETS = ("/health", "/metrics", "/v1/models")
_METRICS = {
    "model_requests_running": ("gauge", "running"),
    "model_requests_waiting": ("gauge", "waiting"),
    "model_kv_cache_use": ("gauge", "kv_cache_use"),
    "model_tokens_per_second": ("gauge", "tokens_per_second"),
    "model_prompt_tokens_total": ("counter", "prompt_tokens"),
    "model_generated_tokens_total": ("counter", "generated_tokens"),
    "model_steps_total": ("counter", "steps"),
    "model_out_of_memory_total": ("counter", "out_of_memory"),
    "model_busy_seconds_total": ("counter", "busy_seconds"),
}


class App:
    """An ASGI application. ``room`` is set when the model is ready.

    It asks for no key. What a page in a browser of this machine sends, of any site, names that site: it is refused.
    """

    def __init__(self, client: StepClient) -> None:
        self._client = client
        self.room: Room | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See ASGI: one request."""
        sender = Sender(receive, send)
        try:
            if any(name == b"origin" for name, _ in scope["headers"]):
                raise Problem("Pages in browsers are not served.", code="foreign_page", status=403)
            await self._route(scope["method"], scope["path"], sender)
        except Problem as problem:
            await sender.problem(problem)
        except Exception:
            log.exception("A request failed.")
            await sender.problem(Problem("The model server failed.", code="server_error", status=500))

    async def _route(self, method: str, path: str, sender: Sender) -> None:
        posts = path in _POSTS or path == "/tokenize"
        if not posts and path not in _GETS:
            raise Problem("There is nothing at this address.", code="not_found", status=404)
        if method != ("POST" if posts else "GET"):
            raise Problem("This address does not take that HTTP method.", code="method_not_allowed", status=405)
        if path == "/health":
            await self._health(sender)
        elif path == "/metrics":
            await sender.data(self._metrics(), b"text/plain; version=0.0.4; charset=utf-8")
        else:
            if self.room is None:
                raise Problem("The model is not loaded yet.", code="model_loading", status=503)
            if posts:
                await self._answer(self.room, path, sender)
            else:
                await sender.whole({"object": "list", "data": [details(self.room)]})

    async def _answer(self, room: Room, path: str, sender: Sender) -> None:
        """Work on a request until it is answered, or its client goes."""
        body = await sender.body()
        work = _POSTS[path](room, body, sender) if path in _POSTS else _tokenize(room, body, sender)
        answering = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(sender.gone())
        try:
            await asyncio.wait([answering, gone], return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answering.result()
        finally:
            for task in (answering, gone):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task

    async def _health(self, sender: Sender) -> None:
        if self.room is not None and not self._client.is_stuck:
            await sender.whole({"state": "ready"})
            return
        if self.room is not None:
            sentence = "There is work, and nothing was heard of it for longer than --stuck-s."
            await sender.whole({"state": "unwell", "sentence": sentence}, status=503)
            return
        told = self._client.progress
        fields = {"state": told.state, "sentence": told.sentence, "progress": round(told.share, 3)}
        await sender.whole(fields, status=503)

    def _metrics(self) -> bytes:
        lines = []
        for name, (kind, field) in _METRICS.items():
            lines.append(f"# TYPE {name} {kind}\n{name} {getattr(self._client.figures, field)}\n")
        return "".join(lines).encode()


def details(room: Room) -> dict[str, Any]:
    """What is known of the model."""
    ready = room.ready
    endpoints = ["embeddings"]
    if ready.generates:
        endpoints = [*(["chat/completions"] if room.tokens.chats else []), "completions", "embeddings"]
    return {
        "id": room.name,
        "object": "model",
        "created": 0,
        "owned_by": "local",
        "context_length": ready.context_length,
        "endpoints": endpoints,
        "chat_template": room.tokens.chats,
        "architecture": ready.architecture,
        "dtype": ready.dtype,
        "device": ready.device,
        "max_batch": ready.max_batch,
        "embedding_dimensions": ready.embedding_dimensions,
        "tool_format": room.tool_format.name if room.tool_format else None,
        "row_invariant": ready.row_invariant,
    }


async def _tokenize(room: Room, body: bytes, sender: Sender) -> None:
    asked = read(body, Tokenize)
    if asked.messages:
        # Beside the streams: of a megabyte it takes seconds.
        tokens = (await asyncio.to_thread(room.tokens.of_messages, asked.messages, asked.tools)).tokens
    elif asked.prompt is not None:
        tokens = await asyncio.to_thread(room.tokens.of_text, asked.prompt, special=asked.add_special_tokens)
    else:
        raise Problem("Give a prompt or messages.", param="prompt")
    await sender.whole({"count": len(tokens), "tokens": tokens, "context_length": room.ready.context_length})
