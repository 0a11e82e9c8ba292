"""The HTTP application: the API behind its key, the probes before it, and errors in one shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from management.api.requests import api
from management.guesses import PLACES_MAX, place_of
from process import __version__
from process.http import NO_SPANS
from process.http_errors import error_json
from process.logging import Log
from wire.errors import BodyTooLarge, FleetError, InvalidRequest, MethodNotAllowed, NotFound, Unauthorized

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from management.access import Access, Person
    from management.fleet.actions import Actions
    from management.fleet.view import FleetView
    from management.guesses import Guesses
    from management.ledger.books import Books
    from management.metrics import Metrics
    from management.readiness import Readiness

BODY_BYTES_MAX = 16 * 1024
OPEN_PATHS = frozenset(("/livez", "/readyz"))

_REFUSALS: dict[int, type[FleetError]] = {400: InvalidRequest, 405: MethodNotAllowed, 413: BodyTooLarge}

log = Log("management")


class DatabaseAway(FleetError):
    """The database cannot be read at the moment. Try again shortly."""

    code, http_status, type, retryable = "database_unavailable", 503, "server_error", True


def application(
    engine: AsyncEngine,
    view: FleetView,
    actions: Actions,
    readiness: Readiness,
    metrics: Metrics,
    access: Access,
    guesses: Guesses,
    books: Books,
) -> FastAPI:
    """Everything that management serves. Its document is at ``/openapi.json``."""
    # No page that would load scripts from elsewhere.
    app = Documented(
        title="WorkerNode management", version=__version__, docs_url=None, redoc_url=None, telemetry=NO_SPANS
    )
    app.state.asks_for_key = access.asks_for_key
    app.include_router(api(engine, view, actions, access, books))
    _add_errors(app)

    @app.get("/livez", include_in_schema=False)
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> JSONResponse:
        sentences = readiness.sentences
        if sentences:
            return JSONResponse({"status": "not ready", "reasons": sentences}, status_code=503)
        return JSONResponse({"status": "ok"})

    @app.get("/metrics", include_in_schema=False)
    async def scrape() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    app.add_middleware(BodyLimit)
    app.add_middleware(KeyCheck, access=access, guesses=guesses)
    return app


class Documented(FastAPI):
    """FastAPI announces a 422 answer of its own for every parameter; ours is a 400 in the shape of all errors."""

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
        if self.state.asks_for_key:
            document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            document["security"] = [{"key": []}]
        return document


class BodyLimit:
    """Takes no more of a body than :data:`BODY_BYTES_MAX`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        left = BODY_BYTES_MAX

        async def limited() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413)  # FastAPI lets it through, and makes a 400 of everything else
            return message

        await self._app(scope, limited, send)


class KeyCheck:
    """Lets nobody in without ``Authorization: Bearer <key>``, except to :data:`OPEN_PATHS`.

    Whose key it is stands in ``request.state.person``.
    """

    def __init__(self, app: ASGIApp, access: Access, guesses: Guesses) -> None:
        self._app = app
        self._access = access
        self._guesses = guesses
        self._known: dict[tuple[str, Person], None] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        try:
            person = self._recognised(headers.get(b"authorization", b""), place_of(scope.get("client")))
            self._access.check_host(headers.get(b"host", b"").decode("latin-1"))
        except FleetError as error:
            await _answer(error)(scope, receive, send)
            return
        scope.setdefault("state", {})["person"] = person
        await self._app(scope, receive, send)

    def _recognised(self, authorization: bytes, place: str) -> Person:
        """Who shows this header. Raises :class:`wire.errors.Unauthorized`, and
        :class:`management.guesses.TooManyWrongKeys`, but for a key that was right there before: behind a proxy all
        have one address, and whoever guesses must not lock out the others."""
        person = self._access.person(authorization)
        if person is not None and (place, person) in self._known:
            return person
        if authorization:  # nothing shown is nothing guessed
            self._guesses.check(place)
        if person is None:
            if authorization:
                self._guesses.add(place)
            raise Unauthorized
        if len(self._known) >= PLACES_MAX:
            del self._known[next(iter(self._known))]
        self._known[place, person] = None
        return person


def _answer(error: FleetError) -> Response:
    headers = {"www-authenticate": "Bearer"} if error.http_status == 401 else {}
    if error.retry_after_ms is not None:
        headers["retry-after"] = str(-(-error.retry_after_ms // 1000))
    body = error_json(error.body())
    return Response(body, status_code=error.http_status, headers=headers, media_type="application/json")


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(FleetError)
    async def ours(_: Request, error: FleetError) -> Response:
        return _answer(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        # The location ends with an index where a parameter was repeated.
        param = next((part for part in reversed(first["loc"]) if isinstance(part, str)), None)
        message = str(first["msg"]).removeprefix("Value error, ")
        return _answer(InvalidRequest(f"{param}: {message[:1].lower()}{message[1:]}.", param=param))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        answer = _answer(_REFUSALS.get(error.status_code, NotFound)())
        answer.headers.update(error.headers or {})
        if error.status_code == 405 and (path := app.openapi()["paths"].get(request.url.path)):
            # A path with a route for each method: the error names those of the first one only.
            answer.headers["allow"] = ", ".join(sorted(method.upper() for method in path))
        return answer

    @app.exception_handler(SQLAlchemyError)
    @app.exception_handler(OSError)
    async def away(_: Request, error: Exception) -> Response:
        log.warning("The API could not read the database.", action="read_failed", error=type(error).__name__)
        return _answer(DatabaseAway())

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, error: Exception) -> Response:
        log.error("The API failed.", error=error, action="api_failed")
        return _answer(FleetError())
