"""Who looks at the pages: a key is shown once, and a signed cookie stands for it from then on.

A cookie is signed with a secret that follows from its key: it needs no store, is good at every management that knows
the key, and ends with the key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from management.access import LOCAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from management.access import Access, Person

SESSION_S = 12 * 3600
"""How long a cookie is good: a working day. Then the key is asked for again."""
COOKIE_CHARS_MAX = 2048


@dataclass(frozen=True)
class Viewer:
    """Somebody who may see the pages. ``csrf`` stands in every form of theirs; ``leaves``: whether they can log out."""

    person: Person
    csrf: str
    leaves: bool = True

    @property
    def operates(self) -> bool:
        """Whether they may change anything."""
        return self.person.role == "operator"


class Sessions:
    """Makes cookies and reads them. ``clock`` is Unix time in seconds."""

    def __init__(self, access: Access, clock: Callable[[], float]) -> None:
        self._access = access
        self._clock = clock
        self._own = secrets.token_bytes(32)

    @property
    def asks(self) -> bool:
        """Whether a key is needed at all."""
        return self._access.asks_for_key

    def begin(self, secret: str) -> str | None:
        """The cookie for whoever knows this secret, or None."""
        person = self._access.holder(secret)
        digest = self._access.digest_of(person.name) if person is not None else None
        if person is None or digest is None:
            return None
        name = base64.urlsafe_b64encode(person.name.encode()).decode()
        content = f"{int(self._clock()) + SESSION_S}.{secrets.token_hex(16)}.{name}"
        return f"{content}.{_sign(digest, 'session', content)}"

    def viewer(self, cookie: str | None) -> Viewer | None:
        """Who shows this cookie; None for one that is wrong or too old."""
        if not self.asks:
            return Viewer(LOCAL, _sign(self._own, "csrf", LOCAL.name), leaves=False)
        if not cookie or len(cookie) > COOKIE_CHARS_MAX or not cookie.isascii():
            return None
        content, _, signature = cookie.rpartition(".")
        parts = content.split(".")
        name = _name(parts[2]) if len(parts) == 3 else ""
        digest = self._access.digest_of(name)
        if digest is None or not hmac.compare_digest(_sign(digest, "session", content), signature):
            return None
        person = self._access.named(name)
        if person is None or int(parts[0]) <= self._clock():
            return None
        return Viewer(person, _sign(digest, "csrf", content))


def _sign(digest: bytes, purpose: str, content: str) -> str:
    return hmac.new(digest, f"workernode {purpose} {content}".encode(), hashlib.sha256).hexdigest()


def _name(encoded: str) -> str:
    try:
        return base64.urlsafe_b64decode(encoded).decode()
    except (binascii.Error, ValueError):
        return ""
