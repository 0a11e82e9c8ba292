"""The hot path alone, the same in every run: a gateway, a remote node and the memory broker in one process, on a loop
without a kernel, with clients and a provider that cost next to nothing.

``python -m bench.hot_path`` reads lines such as ``stream 16`` and answers each with ``done`` when that many requests
are answered. :mod:`bench.instructions` counts what that takes; PYTHONHASHSEED is its business.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import os
import random
import secrets
import sys
import time
from typing import cast

from bench.memory_loop import MemoryLoop

EPOCH_S = 1_750_000_000
CHUNKS = 50
TOGETHER = 8
"""So many clients ask at once, as under load: what is gathered is gathered."""
REST_S = 1.0
"""After its last answer everybody has this long to settle, by the loop's clock."""
UPSTREAM_PORT = 9
KEY = "sk-bench-0123456789abcdef0123456789abcdef"

_HEAD = '{"id":"chatcmpl-bench","object":"chat.completion%s","created":1700000000,"model":"bench",'
_USAGE = '"usage":{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150}'
_WORDS = [f"token-{number:02d} " for number in range(CHUNKS)]
_LAST = b"\r\n0\r\n\r\n"


def stand_still(loop: MemoryLoop) -> None:
    """Make clocks and dice the loop's own, before anybody has read them."""
    dice = random.Random(7)
    time.time = lambda: EPOCH_S + loop.now
    time.time_ns = lambda: round((EPOCH_S + loop.now) * 1e9)
    time.perf_counter = time.monotonic = lambda: loop.now
    secrets.token_hex = lambda nbytes=None: dice.randbytes(nbytes or 32).hex()


class Upstream(asyncio.Protocol):
    """A provider that knows one answer of fifty tokens, whole or as a stream whose events come in one piece."""

    def __init__(self) -> None:
        message = {"role": "assistant", "content": "".join(_WORDS)}
        choices = json.dumps([{"index": 0, "message": message, "finish_reason": "stop"}])
        body = f'{_HEAD % ""}"choices":{choices},{_USAGE}}}'.encode()
        self._whole = (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )
        deltas = [json.dumps([{"index": 0, "delta": {"content": word}, "finish_reason": None}]) for word in _WORDS]
        deltas.append(json.dumps([{"index": 0, "delta": {}, "finish_reason": "stop"}]))
        chunks = [f'{_HEAD % ".chunk"}"choices":{each},"usage":null}}' for each in deltas]
        chunks.append(f'{_HEAD % ".chunk"}"choices":[],{_USAGE}}}')
        events = [f"data: {each}\n\n".encode() for each in [*chunks, "[DONE]"]]
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        self._stream = head + b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events)[:-2] + _LAST

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"}"):  # the body, which comes with the head or after it
            self._transport.write(self._stream if b'"stream":true' in data else self._whole)


class Client(asyncio.Protocol):
    """One connection that asks one request after the other."""

    def __init__(self, loop: MemoryLoop, port: int) -> None:
        self._loop = loop
        self._received = b""
        self._answered: asyncio.Future[bytes]
        self._transport = loop.connect(port, self)

    async def ask(self, *, stream: bool) -> None:
        """Ask, and check that the answer is complete."""
        self._received, self._answered = b"", self._loop.create_future()
        self._transport.write(_request(stream=stream))
        answer = await self._answered
        if not answer.startswith(b"HTTP/1.1 200") or answer.count(b"token-") != CHUNKS:
            raise RuntimeError(f"no complete answer: {answer[:1000]!r}")

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith((_LAST, b"}")) and not self._answered.done():
            self._answered.set_result(self._received)


def _request(*, stream: bool) -> bytes:
    body = b'{"model":"bench","messages":[{"role":"user","content":"%b"}],"max_tokens":50' % b" ".join([b"word"] * 100)
    body += b',"stream":true,"stream_options":{"include_usage":true}}' if stream else b"}"
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer %b\r\nuser-agent: bench\r\naccept: */*\r\ncontent-length: %d\r\n\r\n%b"
        % (KEY.encode(), len(body), body)
    )


async def start(loop: MemoryLoop) -> list[Client]:
    """Start the roles, for ever, and connect the clients."""
    import gateway.role
    import workernode.role
    from broker.memory import MemoryBroker, MemoryServer
    from gateway.settings import GatewaySettings
    from process.settings import load
    from workernode.settings import NodeSettings

    loop.servers[UPSTREAM_PORT] = Upstream
    common = {
        "PULSAR_URL": "memory:",
        "MODEL_NAME": "bench",
        "NODE_NAME": "node-1",
        "MAX_PROCESS_NUM": str(2 * TOGETHER),
    }
    own = {
        "PORT": "0",
        "NODE_PORT": "0",
        "API_KEYS": f"bench:{KEY}",
        "NODE_TYPE": "remote",
        "API_URL": f"http://127.0.0.1:{UPSTREAM_PORT}/v1",
        "API_KEY": KEY,
    }
    server = MemoryServer()
    for run, settings in ((gateway.role.run, GatewaySettings), (workernode.role.run, NodeSettings)):
        ready = asyncio.Event()
        role = run(load(settings, common | own), MemoryBroker(server), asyncio.Event(), ready=ready.set)  # type: ignore[arg-type]
        _running.append(asyncio.ensure_future(role))
        await ready.wait()
    port = next(port for port in loop.servers if port != UPSTREAM_PORT)
    await asyncio.sleep(REST_S)
    return [Client(loop, port) for _ in range(TOGETHER)]


_running: list[asyncio.Future[None]] = []


async def answered(clients: list[Client], count: int, *, stream: bool) -> None:
    """Ask so many requests, each client its share, and let everybody settle."""

    async def share(client: Client) -> None:
        for _ in range(count // len(clients)):
            await client.ask(stream=stream)

    await asyncio.gather(*(share(client) for client in clients))
    await asyncio.sleep(REST_S)


def calibrate(count: int) -> None:
    """Work that no change of ours changes: it tells how many instructions this interpreter and its libraries take."""
    for number in range(count):
        kept = {f"name-{each}": (each, str(each)) for each in range(100)}
        text = json.dumps({name: [value * number, shown] for name, (value, shown) in kept.items()})
        assert sorted(json.loads(text))[0] == "name-0"
        assert hashlib.sha256(b"".join([text.encode()] * 4)).digest()


def main() -> None:
    """Do what is asked until nobody asks."""
    loop = MemoryLoop()
    stand_still(loop)
    asyncio.set_event_loop(loop)
    clients = loop.run_until_complete(start(loop))
    gc.disable()  # what it does depends on what was there before
    for line in sys.stdin:
        kind, count = line.split()
        if kind == "calibration":
            calibrate(int(count))
        else:
            loop.run_until_complete(answered(clients, int(count), stream=kind == "stream"))
        print("done", flush=True)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
