"""The way in and out: a key for a cookie. Wrong keys are counted, and too many of them have to wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse, Response

from management.guesses import TooManyWrongKeys, place_of
from management.pages.door import COOKIE, check_host, check_origin, own_path, read_form
from management.pages.session import SESSION_S

if TYPE_CHECKING:
    from starlette.requests import Request

    from management.guesses import Guesses
    from management.pages.frame import Frame
    from management.pages.session import Sessions
    from management.pages.site import Visit


class Login:
    """The page that asks for a key."""

    def __init__(self, sessions: Sessions, frame: Frame, guesses: Guesses) -> None:
        self._sessions = sessions
        self._frame = frame
        self._guesses = guesses

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
        wanted, place = own_path(form.get("next", "/")), place_of(request.client)
        try:
            self._guesses.check(place)
        except TooManyWrongKeys as error:
            return self._form(request, wanted, error.message, error.http_status)
        cookie = self._sessions.begin(form.get("key", ""))
        if cookie is None:
            self._guesses.add(place)
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
