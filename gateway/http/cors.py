"""Which pages of other origins may read the API from a browser. None may unless ``CORS_ORIGINS`` says so."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Scope

ANY = "*"
METHODS = b"GET, POST"
EXPOSED = (
    b"x-request-id, openai-processing-ms, openai-version, retry-after, retry-after-ms, x-should-retry, "
    b"x-queue-position, x-queue-eta-ms, "
    b"x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, "
    b"x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens"
)
MAX_AGE_S = 600

_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
"""Of a header (RFC 9110, section 5.1)."""
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_UNSENT_PORT = re.compile(r"http:.*:80|https:.*:443")
"""Of its own scheme, which browsers leave out of an origin: one written with it is never met."""


def parse_origins(text: str) -> frozenset[str]:
    """The origins between commas. Raises ValueError with a sentence."""
    origins = frozenset(each.strip() for each in text.split(",") if each.strip())
    for origin in origins - {ANY}:
        if not _ORIGIN.fullmatch(origin) or _UNSENT_PORT.fullmatch(origin):
            raise ValueError(
                "each origin is written as browsers send it, such as https://app.example:8443, or all as *"
            )
    if ANY in origins and len(origins) > 1:
        raise ValueError("it names single origins beside *, which is all of them: keep one of the two")
    return origins


@dataclass(frozen=True)
class Cors:
    """The origins that are let in, and whether their pages may send cookies and other credentials of the browser."""

    origins: frozenset[str]
    credentials: bool = False

    def headers(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """What a response to this request has to say to a browser."""
        allowed = self._allowed(scope)
        # A cache must not give one origin what was said to another, nor to a program that sent none.
        varies = [] if ANY in self.origins else [(b"vary", b"Origin")]
        if not allowed:
            return varies
        return [*varies, *allowed, (b"access-control-expose-headers", EXPOSED)]

    def preflight(self, scope: Scope) -> list[tuple[bytes, bytes]] | None:
        """The answer to a browser that asks before it sends; None for any other request.

        A page of another origin gets an answer without the words that the browser waits for.
        """
        if scope["method"] != "OPTIONS":
            return None
        if not (_value(scope, b"origin") and _value(scope, b"access-control-request-method")):
            return None
        varies = (b"vary", b"Origin, Access-Control-Request-Headers")
        allowed = self._allowed(scope)
        if not allowed:
            return [varies]
        return [
            varies,
            *allowed,
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", _wanted(_value(scope, b"access-control-request-headers"))),
            (b"access-control-max-age", b"%d" % MAX_AGE_S),
        ]

    def _allowed(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        if ANY in self.origins:
            return [(b"access-control-allow-origin", b"*")]
        origin = _value(scope, b"origin")
        if origin.decode("latin-1") not in self.origins:
            return []
        allowed = [(b"access-control-allow-origin", origin)]
        if self.credentials:
            allowed.append((b"access-control-allow-credentials", b"true"))
        return allowed


def _wanted(asked: bytes) -> bytes:
    """All of them: a page that is let in may send what any program may, and each library has headers of its own."""
    names = dict.fromkeys(name.strip().lower() for name in asked.decode("latin-1").split(","))
    return ", ".join(filter(_NAME.fullmatch, names)).encode()


def _value(scope: Scope, wanted: bytes) -> bytes:
    for name, value in scope["headers"]:
        if name == wanted:
            found: bytes = value
            return found
    return b""
