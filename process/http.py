"""Serving HTTP inside a role: uvicorn without its own signal handling, and a small health server for nodes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

from process.host import at_fault
from process.lifecycle import PortInUse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    import uvicorn
    from fastapi.telemetry import TelemetryConfig
    from prometheus_client import CollectorRegistry

    from process.http_protocol import RefusalHeaders

NO_SPANS: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
"""For FastAPI: what it would tell by itself holds addresses and the words of errors."""
HEAD_BYTES_MAX = 64 * 1024
HEAD_WAIT_S = 30.0


def bind(host: str, port: int, setting: str) -> socket.socket:
    """A listening TCP socket. Raises :class:`PortInUse` with a sentence that names ``setting`` or the host's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = None
    try:
        # The protocol is named, for asyncio sends small packets at once (TCP_NODELAY) on such sockets only.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        if listener is not None:
            listener.close()
        wrong = at_fault(error, setting)
        raise PortInUse(f"{host}:{port} cannot be listened on ({error.strerror}): set {wrong} to another.") from None
    listener.setblocking(False)
    return listener


@contextlib.asynccontextmanager
async def serving(
    app: Any,
    listener: socket.socket,
    *,
    stop_grace_s: float,
    head_bytes_max: int = HEAD_BYTES_MAX,
    head_wait_s: float = HEAD_WAIT_S,
    trusted_proxies: Sequence[str] = (),
    refusal_headers: RefusalHeaders = lambda _: [],
    **options: Any,
) -> AsyncIterator[None]:
    """Serve an ASGI app on a bound socket while the block runs; then finish what is open within ``stop_grace_s``.

    A request's head may have ``head_bytes_max`` bytes, and ``head_wait_s`` to arrive. Who the client is and whether it
    came over TLS is believed of ``trusted_proxies`` (addresses and networks), and of nobody else. ``refusal_headers``
    are those of an answer to what the application never sees.
    """
    import uvicorn  # a node that serves only its health must not pay for it

    from process.http_protocol import limited

    started = asyncio.Event()

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield  # signals are the role's business: several servers may share one process

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started.set()

    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=max(1, round(stop_grace_s)),
        server_header=False,
        http=limited(head_bytes_max, head_wait_s, refusal_headers),
        ws="none",
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies),
        **options,
    )
    server: uvicorn.Server = Server(config)
    task = asyncio.get_running_loop().create_task(server.serve(sockets=[listener]), name="http")
    task.add_done_callback(lambda _: started.set())
    with contextlib.closing(listener):
        try:
            await started.wait()
            if task.done():
                task.result()  # it could not even begin: its files may have changed since the settings were read
            yield
        finally:
            server.should_exit = True
            await task


@contextlib.asynccontextmanager
async def health_server(
    listener: socket.socket, registry: CollectorRegistry, ready: Callable[[], tuple[bool, dict[str, Any]]]
) -> AsyncIterator[None]:
    """``/livez``, ``/readyz`` and ``/metrics``, and nothing else, while the block runs."""
    from aiohttp import web
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    async def livez(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_: web.Request) -> web.Response:
        is_ready, details = ready()
        return web.json_response(details, status=200 if is_ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        yield
    finally:
        await runner.cleanup()
