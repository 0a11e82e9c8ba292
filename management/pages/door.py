"""Who may come in: every page asks here first, and every form twice."""

from __future__ import annotations

import asyncio
import hmac
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote

from starlette.requests import ClientDisconnect
from starlette.responses import RedirectResponse, Response

from management.pages.site import TOLD, Visit
from process.host import is_loopback
from wire.errors import Forbidden, InvalidRequest, RequestTooSlow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from management.pages.frame import Frame
    from management.pages.session import Sessions
    from management.pages.site import Sources

    Show = Callable[[Visit], Awaitable[Response]]

COOKIE = "workernode_session"
FORM_BYTES_MAX = 16 * 1024
FORM_FIELDS_MAX = 50
FORM_WAIT_S = 30.0
TOO_LATE = "You were logged out before this came, and nothing was done. Log in, and do it again."


class Door:
    """Lets viewers in: ``sessions`` says who they are."""

    def __init__(self, sessions: Sessions, sources: Sources, frame: Frame) -> None:
        self._sessions = sessions
        self._sources = sources
        self._frame = frame

    def shows(self, show: Show) -> Callable[[Request], Awaitable[Response]]:
        """A page that every viewer may see."""

        async def endpoint(request: Request) -> Response:
            check_host(request, asks=self._sessions.asks)
            viewer = self._sessions.viewer(request.cookies.get(COOKIE))
            if viewer is None:
                return to_login(request)
            told = request.query_params.get(TOLD, "")
            is_number = told.isascii() and told.isdigit() and len(told) < 19
            action = await self._sources.actions.one(int(told)) if is_number else None
            return await show(Visit(request, viewer, self._sources, self._frame, {}, action))

        return endpoint

    def does(self, act: Show, *, by_readers: bool = False) -> Callable[[Request], Awaitable[Response]]:
        """What a form of ours asks for, and nobody else's: of operators only, unless ``by_readers``."""

        async def endpoint(request: Request) -> Response:
            check_host(request, asks=self._sessions.asks)
            check_origin(request)
            viewer = self._sessions.viewer(request.cookies.get(COOKIE))
            if viewer is None:
                return RedirectResponse("/login", 303) if by_readers else self._too_late(request)
            form = await read_form(request)
            if not hmac.compare_digest(form.get("csrf", "").encode(), viewer.csrf.encode()):
                raise Forbidden("This form is out of date. Go back, reload the page and try again.")
            if not (by_readers or viewer.operates):
                raise Forbidden("Your key may look at everything and change nothing: this needs an operator's key.")
            return await act(Visit(request, viewer, self._sources, self._frame, form))

        return endpoint

    def _too_late(self, request: Request) -> Response:
        wanted = own_page(request.headers.get("referer", ""))
        return self._frame.page(request, None, "login.html", status=401, wanted=wanted, sentence=TOO_LATE, told=None)


def to_login(request: Request) -> Response:
    """Where a stranger is sent, and from there back."""
    if request.headers.get("hx-request") or request.headers.get("accept") == "text/event-stream":
        # A part of a page, or a stream: the whole page must go.
        login = _login(own_page(request.headers.get("hx-current-url", "")))
        return Response(status_code=401, headers={"hx-redirect": login, "cache-control": "no-store"})
    address = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(_login(address), 303, {"cache-control": "no-store"})


def _login(wanted: str) -> str:
    return "/login" + (f"?next={quote(wanted)}" if wanted != "/" else "")


def own_page(url: str) -> str:
    """The page here that a whole URL names, without what was told there of an action; else the first page."""
    address = own_path("/" + url.partition("://")[2].partition("#")[0].partition("/")[2])
    path, _, query = address.partition("?")
    kept = [each for each in query.split("&") if each and not each.startswith(f"{TOLD}=")]
    return f"{path}?{'&'.join(kept)}" if kept else path


def own_path(address: str) -> str:
    """The address itself if it leads to a page here, else the first page."""
    is_ours = address.startswith("/") and not address.startswith("//")
    return address if is_ours and address.isprintable() and "\\" not in address else "/"


def check_origin(request: Request) -> None:
    """Raises :class:`Forbidden` for what another site's page sent."""
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site", "same-origin")
    host = request.headers.get("host", "")
    if site != "same-origin" or origin is None or origin.partition("://")[2].lower() != host.lower():
        raise Forbidden("This form was not sent from a page of this address.")


def check_host(request: Request, *, asks: bool) -> None:
    """Raises :class:`Forbidden` if no key is asked for and the browser believes to be elsewhere: a page of another
    site whose name was made to point here would else be taken for one of ours."""
    if not asks and not is_loopback(request.url.hostname or ""):
        raise Forbidden("Without MANAGEMENT_KEY these pages are shown at 127.0.0.1 and localhost only.")


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form. Raises :class:`InvalidRequest`, also where its sender has gone, and
    :class:`wire.errors.RequestTooSlow`: who shows no key yet must not hold a connection for ever."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise InvalidRequest("This is no form.")
    body = bytearray()
    try:
        async with asyncio.timeout(FORM_WAIT_S):
            async for part in request.stream():
                body += part
                if len(body) > FORM_BYTES_MAX:
                    raise InvalidRequest(f"A form may have {FORM_BYTES_MAX} bytes.")
    except TimeoutError:
        raise RequestTooSlow from None
    except ClientDisconnect:
        raise InvalidRequest("This form is not whole.") from None
    try:
        text = body.decode()
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=FORM_FIELDS_MAX, strict_parsing=True))
    except ValueError:
        raise InvalidRequest("This form cannot be read.") from None
