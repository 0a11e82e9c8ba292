"""Scripts, styles and the font. They hold nothing secret and need no key; their addresses change with their content."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

PREFIX = "/static/"
FILES = {
    "app.css": "text/css; charset=utf-8",
    "parts.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "charts.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "vendor/htmx.min.js": "text/javascript; charset=utf-8",
    "vendor/uplot.min.js": "text/javascript; charset=utf-8",
    "vendor/uplot.min.css": "text/css; charset=utf-8",
    "vendor/inter.woff2": "font/woff2",
}
_HEADERS = {
    "cache-control": "public, max-age=31536000, immutable",
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
}


class StaticFiles:
    """All of them, read now."""

    def __init__(self) -> None:
        folder = files("management.pages") / "static"
        self._contents = {name: (folder / name).read_bytes() for name in FILES}
        self._digests = {name: hashlib.sha256(data).hexdigest()[:12] for name, data in self._contents.items()}

    def address(self, name: str) -> str:
        """Where it is. Raises KeyError for what is not there."""
        return f"{PREFIX}{name}?v={self._digests[name]}"

    def routes(self) -> list[Route]:
        """A GET for each."""
        return [self._route(name, media_type) for name, media_type in FILES.items()]

    def _route(self, name: str, media_type: str) -> Route:
        content = self._contents[name]

        async def served(_: Request) -> Response:
            return Response(content, media_type=media_type, headers=_HEADERS)

        return Route(PREFIX + name, served, methods=["GET"])
