"""The front door: every request gets an id and is let in or not before anything else looks at it; every error leaves
in OpenAI's shape."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.http.errors import error_headers
from gateway.http.visit import Visit
from gateway.page import routes as page
from process.connection import CONNECTION
from process.host import host_of, is_loopback, is_public_name
from process.http_errors import error_json
from process.identity import new_request_id
from process.logging import Log
from wire.errors import FleetError, ForeignPage, InvalidRequest, MethodNotAllowed, NotFound, ShuttingDown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from gateway.http.cors import Cors
    from gateway.keys.api_keys import ApiKeys
    from gateway.keys.quota import Quota
    from gateway.metrics import GatewayMetrics
    from process.connection import Connection
    from wire.errors import ErrorBody

log = Log("gateway")

HEALTH_PATHS = frozenset(("/livez", "/readyz"))
_CLOSE = (b"connection", b"close")
OPEN_PATHS = HEALTH_PATHS | page.PATHS
"""What needs no key: health and the page for people, whose files hold nothing secret; and only those."""


class Front:
    """Pure ASGI around the application. ``scope["state"]`` gets ``request_id``, ``key_id`` and ``visit``."""

    def __init__(
        self,
        app: ASGIApp,
        windows: Mapping[str, ASGIApp],
        keys: ApiKeys,
        metrics: GatewayMetrics,
        quota: Quota | None = None,
        cors: Cors | None = None,
        *,
        is_local: bool = False,
        leaving: Callable[[], bool] = lambda: False,
    ) -> None:
        """``windows``, by path, are what most requests are for: a POST reaches them without the router's ado.
        ``is_local``: whether who needs no key is somebody at this machine, and no page from elsewhere.
        ``leaving``: whether clients shall go to another gateway with what they ask next."""
        self._app = app
        self._windows = windows
        self._keys = keys
        self._metrics = metrics
        self._quota = quota
        self._cors = cors
        self._is_local = is_local
        self._leaving = leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request; other protocols are not spoken here."""
        if scope["type"] != "http":
            return
        request_id = new_request_id()
        cors = self._cors
        if cors is not None and (leave := cors.preflight(scope)) is not None:
            # Browsers send no key with the question whether they may send one.
            headers = [*leave, (b"x-request-id", request_id.encode())]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        started = ended = False
        visit = Visit()

        async def send_with_id(message: Message) -> None:
            nonlocal started, ended
            if message["type"] == "http.response.start":
                started = True
                message["headers"].append((b"x-request-id", request_id.encode()))
                message["headers"] += await visit.headers()
                if self._leaving() and _CLOSE not in message["headers"]:
                    message["headers"].append(_CLOSE)
                if cors is not None:
                    message["headers"] += cors.headers(scope)
            else:
                ended = not message.get("more_body")
                if ended:
                    visit.end()  # before the client can know: its next request finds the place free
            await send(message)

        try:
            if scope["path"] not in OPEN_PATHS:
                key = self._keys.identify(_authorization(scope))
                if key is None and self._is_local:
                    _check_page(scope)
                visit = Visit(key, self._quota)
            scope["state"] = {"request_id": request_id, "key_id": visit.key_id, "visit": visit}
            app = self._app
            if scope["method"] == "POST":
                app = self._windows.get(scope["path"], app)
            elif scope["method"] == "HEAD":
                scope = {**scope, "method": "GET"}  # of which the server leaves the body out
            await app(scope, receive, send_with_id)
        except FleetError as error:
            await self._refuse(error.body(), send_with_id, started=started)
        except asyncio.CancelledError:
            # By the server, which is leaving and has given all their time: to one whose body does not come, for one.
            await self._refuse(ShuttingDown(retry_after_ms=1000).body(), send_with_id, started=started)
        except Exception as error:
            span = scope["state"].get("span")
            log.error(
                "A request failed in a way it should not.",
                error=error,
                action="fault",
                request_id=request_id,
                trace_id=None if span is None else span.trace_id,
            )
            await self._refuse(FleetError().body(), send_with_id, started=started)
        finally:
            visit.end()
        if started and not ended:
            # The server alone would close it once everything is written, which a client that reads nothing never lets
            # happen.
            connection: Connection = scope[CONNECTION]
            connection.cut()

    async def _refuse(self, error: ErrorBody, send: Send, *, started: bool) -> None:
        if started:
            return  # the response is on its way: all that is left is to cut the connection
        self._metrics.refuse(error.http_status, error.code)
        body = error_json(error)
        headers = [*error_headers(error), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": error.http_status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _check_page(scope: Scope) -> None:
    """Raises :class:`ForeignPage` for a page whose own host is this machine by a name that somebody else has made: its
    browser takes our answers for that page's own."""
    headers = dict(scope["headers"])
    told = b"origin" in headers
    if not told and scope["method"] == "POST":
        return  # no page: a browser tells its origin with whatever it sends
    host = host_of(headers.get(b"host", b"").decode("latin-1"))
    # With what it reads from its own host it tells none, and a program looks the same.
    if is_public_name(host) or (told and not is_loopback(host)):
        raise ForeignPage


def _authorization(scope: Scope) -> bytes | None:
    found = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(found) > 1:
        raise InvalidRequest("Send one Authorization header.")
    return found[0] if found else None


SERVED = "POST /v1/chat/completions, /v1/completions and /v1/embeddings, and GET /v1/models"
UNSERVED = (
    "assistants",
    "audio",
    "batches",
    "conversations",
    "files",
    "fine_tuning",
    "images",
    "messages",
    "moderations",
    "realtime",
    "rerank",
    "responses",
    "threads",
    "uploads",
    "vector_stores",
    "videos",
)
"""What OpenAI's clients, or those of its imitators and others, ask for below ``/v1/`` and do not find here."""


def http_error(status: int, path: str = "", allow: str | None = None) -> FleetError:
    """The error for what the router refuses. ``allow``: the methods that the path takes, if it is one."""
    if status == 404:
        family = path.removeprefix("/v1/").partition("/")[0]
        if path.startswith("/v1/") and family in UNSERVED:
            hint = " Set your client to chat completions." if family == "responses" else ""
            return NotFound(f"This gateway does not serve /v1/{family}. It serves {SERVED}.{hint}")
        # Most who come here have left /v1 out of their base URL, or have the whole address in it.
        return NotFound(f"There is nothing at this address. This gateway serves {SERVED}.")
    if status == 405:
        return MethodNotAllowed(f"This address takes {allow} and no other HTTP method." if allow else None)
    return InvalidRequest("The request cannot be served.")
