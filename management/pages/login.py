"""The way in and out: a key for a cookie. Wrong keys are counted, and too many of them have to wait."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter
from starlette.responses import RedirectResponse, Response

from management.pages.door import COOKIE, check_host, check_origin, own_path, read_form
from management.pages.session import SESSION_S
from process.logging import Log

if TYPE_CHECKING:
    from starlette.requests import Request

    from management.pages.frame import Frame
    from management.pages.session import Sessions
    from management.pages.site import Visit

WRONG_KEYS_PER_MIN = 10
"""From one address, or one network of IPv6."""

log = Log("management")


class Login:
    """The page that asks for a key."""

    def __init__(self, sessions: Sessions, frame: Frame) -> None:
        self._sessions = sessions
        self._frame = frame
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._limit = RateLimitItemPerMinute(WRONG_KEYS_PER_MIN)

    async def show(self, request: Request) -> Response:
        """The form, or the first page for whoever needs none."""
        check_host(request, asks=self._sessions.asks)
        wanted = own_path(request.query_params.get("next", "/"))
        if self._sessions.viewer(request.cookies.get(COOKIE)) is not None:
            return RedirectResponse(wanted, 303)
        return self._form(request, wanted)

    async def enter(self, request: Request) -> Response:
        """Set the cookie, or show the form again."""
        check_origin(request)
        form = await read_form(request)
        wanted, place = own_path(form.get("next", "/")), _place(request)
        if not await self._limiter.test(self._limit, place):
            log.warning("Too many wrong management keys.", action="login_refused", address=place)
            sentence = "Too many wrong keys came from your address. Wait a minute."
            return self._form(request, wanted, sentence, 429)
        cookie = self._sessions.begin(form.get("key", ""))
        if cookie is None:
            await self._limiter.hit(self._limit, place)
            log.warning("A wrong management key was shown.", action="login_failed", address=place)
            return self._form(request, wanted, "This is no management key.", 401)
        answer = RedirectResponse(wanted, 303)
        answer.set_cookie(
            COOKIE, cookie, max_age=SESSION_S, httponly=True, samesite="lax", secure=is_secure(request), path="/"
        )
        return answer

    async def leave(self, visit: Visit) -> Response:
        """Take the cookie away."""
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="lax", secure=is_secure(visit.request), path="/")
        return answer

    def _form(self, request: Request, wanted: str, sentence: str | None = None, status: int = 200) -> Response:
        return self._frame.page(request, None, "login.html", status=status, wanted=wanted, sentence=sentence, told=None)


def is_secure(request: Request) -> bool:
    """Whether the browser speaks TLS, to us or to a proxy before us: whoever claims that harms only themselves."""
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))


def _place(request: Request) -> str:
    host = request.client.host if request.client else "unknown"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # a socket for both shows all of IPv4 in one network
    return str(address) if address.version == 4 else str(ipaddress.ip_network(f"{address}/64", strict=False))
