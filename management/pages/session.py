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
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import SecretStr

Role = Literal["reader", "operator"]
SESSION_S = 12 * 3600
"""How long a cookie is good: a working day. Then the key is asked for again."""
COOKIE_CHARS_MAX = 2048


@dataclass(frozen=True)
class KeyHolder:
    """A management key, as far as the pages know it. ``digest`` is the SHA-256 of its secret."""

    name: str
    role: Role
    digest: bytes


class KeyHolders(Protocol):
    """The management keys."""

    def __bool__(self) -> bool:
        """Whether there are any: without one, whoever reaches management may do everything."""

    def of_secret(self, secret: str) -> KeyHolder | None:
        """Whose secret this is."""

    def named(self, name: str) -> KeyHolder | None:
        """The key of this name."""


class OneKey:
    """The one key of ``MANAGEMENT_KEY``, which may do everything, or none."""

    def __init__(self, key: SecretStr | None) -> None:
        secret = key.get_secret_value() if key is not None else None
        self._holder = KeyHolder("management", "operator", _digest(secret)) if secret else None

    def __bool__(self) -> bool:
        return self._holder is not None

    def of_secret(self, secret: str) -> KeyHolder | None:
        """See :class:`KeyHolders`."""
        holder = self._holder
        return holder if holder is not None and hmac.compare_digest(_digest(secret), holder.digest) else None

    def named(self, name: str) -> KeyHolder | None:
        """See :class:`KeyHolders`."""
        return self._holder if self._holder is not None and self._holder.name == name else None


@dataclass(frozen=True)
class Viewer:
    """Somebody who may see the pages. ``csrf`` stands in every form of theirs; ``leaves``: whether they can log out."""

    name: str
    role: Role
    csrf: str
    leaves: bool = True

    @property
    def operates(self) -> bool:
        """Whether they may change anything."""
        return self.role == "operator"


class Sessions:
    """Makes cookies and reads them. ``clock`` is Unix time in seconds."""

    def __init__(self, holders: KeyHolders, clock: Callable[[], float]) -> None:
        self._holders = holders
        self._clock = clock
        self._own = secrets.token_bytes(32)

    @property
    def asks(self) -> bool:
        """Whether a key is needed at all."""
        return bool(self._holders)

    def begin(self, secret: str) -> str | None:
        """The cookie for whoever knows this secret, or None."""
        holder = self._holders.of_secret(secret.strip())
        if holder is None:
            return None
        name = base64.urlsafe_b64encode(holder.name.encode()).decode()
        content = f"{int(self._clock()) + SESSION_S}.{secrets.token_hex(16)}.{name}"
        return f"{content}.{_sign(holder.digest, 'session', content)}"

    def viewer(self, cookie: str | None) -> Viewer | None:
        """Who shows this cookie; None for one that is wrong or too old."""
        if not self.asks:
            return Viewer("everyone", "operator", _sign(self._own, "csrf", "everyone"), leaves=False)
        if not cookie or len(cookie) > COOKIE_CHARS_MAX or not cookie.isascii():
            return None
        content, _, signature = cookie.rpartition(".")
        parts = content.split(".")
        holder = self._holders.named(_name(parts[2])) if len(parts) == 3 else None
        if holder is None or not hmac.compare_digest(_sign(holder.digest, "session", content), signature):
            return None
        if int(parts[0]) <= self._clock():
            return None
        return Viewer(holder.name, holder.role, _sign(holder.digest, "csrf", content))


def _sign(digest: bytes, purpose: str, content: str) -> str:
    return hmac.new(digest, f"workernode {purpose} {content}".encode(), hashlib.sha256).hexdigest()


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _name(encoded: str) -> str:
    try:
        return base64.urlsafe_b64decode(encoded).decode()
    except (binascii.Error, ValueError):
        return ""
