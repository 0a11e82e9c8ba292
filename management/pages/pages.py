"""All pages as one application, and which addresses are theirs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from management.app import DatabaseAway
from management.pages import (
    actions,
    dead_letters,
    errors,
    health,
    keys,
    models,
    nodes,
    overview,
    request,
    requests,
    usage,
)
from management.pages.door import COOKIE, Door, own_page
from management.pages.frame import Frame
from management.pages.live import Live
from management.pages.login import Login
from management.pages.session import Sessions
from management.pages.static_files import StaticFiles
from process.logging import Log
from wire.errors import FleetError, MethodNotAllowed, NotFound

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from management.access import Access
    from management.guesses import Guesses
    from management.pages.door import Show
    from management.pages.site import Sources

SHOWN: dict[str, Show] = {
    "/": overview.show,
    "/models": models.show,
    "/nodes": nodes.show,
    "/requests": requests.show,
    "/requests/{request_id}": request.show,
    "/requests/{request_id}/prompt": request.show_prompt,
    "/errors": errors.show,
    "/usage": usage.show,
    "/usage.csv": usage.download,
    "/keys": keys.show,
    "/dead-letters": dead_letters.show,
    "/actions": actions.show,
    "/health": health.show,
}
_FIRST = frozenset(
    (*(path.split("/")[1] for path in SHOWN if path != "/"), "login", "logout", "do", "live", "static", "favicon.ico")
)

log = Log("management")


class Front:
    """Management's two faces: pages for people, and ``api`` for everything else."""

    def __init__(self, api: ASGIApp, sources: Sources, access: Access, guesses: Guesses) -> None:
        """``guesses`` are those of the login."""
        self._api = api
        self._pages = _pages(sources, access, guesses)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        is_page = scope["type"] == "http" and (scope["path"] == "/" or scope["path"][1:].partition("/")[0] in _FIRST)
        if scope["type"] == "http" and scope["method"] == "HEAD" and not is_page:
            scope = {**scope, "method": "GET"}  # of which the server leaves the body out
        await (self._pages if is_page else self._api)(scope, receive, send)


def _pages(sources: Sources, access: Access, guesses: Guesses) -> Starlette:
    static = StaticFiles()
    frame = Frame(sources.books.time_zone, static)
    sessions = Sessions(access, time.time)
    door, login, live = Door(sessions, sources, frame), Login(sessions, frame, guesses), Live(sources)
    routes = [
        *(Route(path, door.shows(show), methods=["GET"], name=path) for path, show in SHOWN.items()),
        Route("/live", door.shows(live.stream), methods=["GET"]),
        Route("/login", login.show, methods=["GET"]),
        Route("/login", login.enter, methods=["POST"]),
        Route("/do", door.does(actions.do), methods=["POST"]),
        Route("/logout", door.does(login.leave, by_readers=True), methods=["POST"]),
        *static.routes(),
    ]

    def failed(request: Request, error: FleetError) -> Response:
        viewer = sessions.viewer(request.cookies.get(COOKIE))
        back = own_page(request.headers.get("referer", "")) if request.method == "POST" else "/"
        told = {"sentence": error.message, "back": back, "is_for_now": error.retryable and request.method == "GET"}
        return frame.page(request, viewer, "failed.html", status=error.http_status, told=None, **told)

    async def ours(request: Request, error: Exception) -> Response:
        return failed(request, error if isinstance(error, FleetError) else FleetError())

    async def refused(request: Request, error: Exception) -> Response:
        is_method = isinstance(error, HTTPException) and error.status_code == 405
        return failed(request, MethodNotAllowed() if is_method else NotFound("There is no such page."))

    async def away(request: Request, error: Exception) -> Response:
        log.warning("A page could not read the database.", action="read_failed", error=type(error).__name__)
        return failed(request, DatabaseAway())

    async def unforeseen(request: Request, error: Exception) -> Response:
        log.error("A page failed.", error=error, action="page_failed")
        return failed(request, FleetError())

    handlers: dict[Any, Any] = {
        FleetError: ours,
        HTTPException: refused,
        SQLAlchemyError: away,
        OSError: away,
        Exception: unforeseen,
    }
    return Starlette(routes=routes, exception_handlers=handlers)
