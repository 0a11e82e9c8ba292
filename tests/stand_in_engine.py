"""A model server to be started as a child: small, its answers known in advance, and ill on request.

``python -m tests.stand_in_engine --port N …`` takes any flags. A directory (``STAND_IN_DIR``) says how it is: a file
``stage`` holds what it answers when asked for its health (``loading 0.4``, and a sentence) until it is removed, ``die``
a number and lines: it says the lines and ends with that code at once; ``models`` and ``metrics`` what it tells of
these, metrics in Latin-1. Each start adds a line of JSON to ``starts``.

The answer to ``tokens=5`` is ``t0 t1 t2 t3 t4 ``; ``stall-at=3`` waits before the third as long as a file ``stall``
is there, ``die-at=3`` ends the process there.

Each word is a token, and one more begins a prompt. A file ``tokenize`` makes it a server that tells ``none``, or one so
``old`` that it knows the text alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

POLL_S = 0.02
FAMILIES = {
    "running": ("model_requests_running", "llamacpp:requests_processing", "vllm:num_requests_running"),
    "waiting": ("model_requests_waiting", "llamacpp:requests_deferred", "vllm:num_requests_waiting"),
}


def text_of(tokens: int, begin: int = 0) -> str:
    """What it answers."""
    return "".join(f"t{number} " for number in range(begin, tokens))


class StandIn:
    """``slots`` requests are worked on at once; each has ``mib`` of memory while it is."""

    def __init__(self, directory: Path, slots: int, mib: int, token_s: float) -> None:
        self.directory = directory
        self.running = self.waiting = 0
        self._slots = asyncio.Semaphore(slots)
        self._mib, self._token_s = mib, token_s
        self._key = os.environ.get("LLAMA_API_KEY") or os.environ.get("VLLM_API_KEY")

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.get("/health", self._health),
                web.get("/metrics", self._metrics),
                web.get("/v1/models", self._models),
                web.post("/v1/chat/completions", self._chat),
                web.post("/tokenize", self._tokenize),
            ]
        )
        return app

    async def _health(self, _: web.Request) -> web.Response:
        try:
            stage, progress, *words = (self.directory / "stage").read_text().split()
        except OSError:
            return web.json_response({"state": "ready"})
        told = {"state": stage, "progress": float(progress), "sentence": " ".join(words)}
        return web.json_response(told, status=503)

    async def _metrics(self, _: web.Request) -> web.Response:
        if (odd := self.directory / "metrics").exists():
            return web.Response(body=odd.read_text().encode("latin-1"))
        counts = {"running": self.running, "waiting": self.waiting}
        return web.Response(
            text="".join(f"{name} {counts[kind]}\n" for kind, all_ in FAMILIES.items() for name in all_)
        )

    async def _models(self, _: web.Request) -> web.Response:
        if (odd := self.directory / "models").exists():
            return web.json_response(text=odd.read_text())
        return web.json_response({"object": "list", "data": [{"id": "stand-in", "max_model_len": 4096}]})

    async def _tokenize(self, request: web.Request) -> web.Response:
        kind = path.read_text() if (path := self.directory / "tokenize").exists() else ""
        if kind == "none":
            return web.json_response({}, status=404)
        body = await request.json()
        text, special = (
            ("content", "add_special") if "LLAMA_API_KEY" in os.environ else ("prompt", "add_special_tokens")
        )
        begins = body.get(special, False) and kind != "old"
        tokens: list[Any] = [*([1] if begins else []), *map(len, body[text].split())]
        if body.get("with_pieces") and kind != "old":
            tokens = [{"id": token, "piece": "?"} for token in tokens]
        return self._refusal(request) or web.json_response({"tokens": tokens})

    def _refusal(self, request: web.Request) -> web.Response | None:
        if self._key and request.headers.get("authorization") != f"Bearer {self._key}":
            return web.json_response({"error": {"message": "wrong key", "type": "authentication_error"}}, status=401)
        return None

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        if (refusal := self._refusal(request)) is not None:
            return refusal
        body = await request.json()
        print("asked", flush=True)
        self.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        ballast = bytearray(os.urandom(2**20)) * self._mib
        try:
            return await self._answer(request, body)
        finally:
            del ballast
            self.running -= 1
            self._slots.release()

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        messages = body["messages"]
        begin = len(messages[-1]["content"].split()) if body.get("continue_final_message") else 0
        words = dict(re.findall(r"([a-z-]+)=(\d+)", next(m["content"] for m in messages if m["role"] == "user")))
        tokens = int(words.get("tokens", 5))
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        if body.get("stream"):
            await response.prepare(request)
        for number in range(begin, tokens):
            if str(number) == words.get("die-at"):
                os._exit(137)
            while str(number) == words.get("stall-at") and (self.directory / "stall").exists():  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)
            await asyncio.sleep(self._token_s)
            if body.get("stream"):
                await response.write(_event({"content": f"t{number} "}, None))
        usage = {"prompt_tokens": 1, "completion_tokens": tokens - begin, "total_tokens": 1 + tokens - begin}
        if not body.get("stream"):
            message = {"role": "assistant", "content": text_of(tokens, begin)}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            return web.json_response({"object": "chat.completion", "choices": choices, "usage": usage})
        await response.write(_event({}, "stop"))
        await response.write(_event(None, None, usage) + b"data: [DONE]\n\n")
        return response


def _event(delta: dict[str, str] | None, finish: str | None, usage: dict[str, int] | None = None) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    chunk = {"object": "chat.completion.chunk", "id": "x", "created": 1, "model": "x", "choices": choices}
    return b"data: " + json.dumps(chunk | ({"usage": usage} if usage else {})).encode() + b"\n\n"


def main() -> int:
    """Serve until told to stop."""
    flags = argparse.ArgumentParser()
    flags.add_argument("--port", type=int, required=True)
    flags.add_argument("--slots", "--parallel", "--max-num-seqs", "--max-batch", type=int, default=4)
    flags.add_argument("--mib", type=int, default=0)
    flags.add_argument("--token-s", type=float, default=0.001)
    flags.add_argument("--worker", action="store_true", help="start a process that outlives its parent if it can")
    known, _ = flags.parse_known_args()
    directory = Path(os.environ["STAND_IN_DIR"])
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) if known.worker else None
    start = {"pid": os.getpid(), "argv": sys.argv[1:], "worker": worker.pid if worker else None}
    start["environment"] = sorted(os.environ)
    with (directory / "starts").open("a") as starts:
        starts.write(json.dumps(start) + "\n")
    if (directory / "die").exists():
        code, *lines = (directory / "die").read_text().splitlines()
        print("\n".join(lines), file=sys.stderr, flush=True)
        os._exit(int(code))
    stand_in = StandIn(directory, known.slots, known.mib, known.token_s)
    web.run_app(stand_in.app(), host="127.0.0.1", port=known.port, print=None, handle_signals=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
