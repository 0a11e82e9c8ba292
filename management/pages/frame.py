"""What is around every page: the templates, what each of them may use, and the headers that keep strangers out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from management.pages import formats, words
from management.pages.navigation import NAVIGATION
from process import __version__
from process.identity import now_ms

if TYPE_CHECKING:
    import datetime

    from starlette.requests import Request
    from starlette.responses import Response

    from management.pages.session import Viewer
    from management.pages.static_files import StaticFiles

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "font-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""No script, style or picture but our files: what stands in an event can be shown, and do nothing."""

HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
THEMES = ("auto", "light", "dark")
THEME_COOKIE = "theme"


class Frame:
    """Makes pages. ``zone`` is where the ledger's days begin, and the zone of every time that is shown."""

    def __init__(self, zone: datetime.tzinfo, files: StaticFiles) -> None:
        self._files = files
        self._zone = zone
        self._templates = Environment(
            loader=PackageLoader("management.pages"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(formats.filters(zone))
        self._templates.globals.update(
            navigation=NAVIGATION, static=files.address, version=__version__, zone_name=str(zone), **words.WORDS
        )

    def page(
        self, request: Request, viewer: Viewer | None, template: str, *, status: int = 200, **values: Any
    ) -> Response:
        """One page as HTML."""
        theme = request.cookies.get(THEME_COOKIE, "auto")
        html = self._templates.get_template(template).render(
            viewer=viewer,
            path=request.url.path,
            query=request.url.query,
            theme=theme if theme in THEMES else "auto",
            now=now_ms(),
            **values,
        )
        return HTMLResponse(html, status, HEADERS)
