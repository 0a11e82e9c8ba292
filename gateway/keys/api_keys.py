"""API keys: who may ask. Only hashes are kept and compared; a key is named in events, never shown."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from gateway.keys.key import Key
from process.settings import is_sendable, split_keys
from wire.errors import Unauthorized

if TYPE_CHECKING:
    from gateway.keys.keyring import Keyring

KEY_CHARS_MIN = 8
NAME_CHARS_MAX = 64


class ApiKeys:
    """The keys of ``API_KEYS``, and those of a database beside them."""

    def __init__(self, keys: dict[str, str], stored: Keyring | None = None, *, anonymous: bool = True) -> None:
        """``anonymous``: everyone may come in as long as there is no key anywhere."""
        # Found by their digest. The time that takes tells nothing of use: it depends on the digest of what was shown,
        # which nobody can steer towards another digest without knowing the key behind that one.
        self._own = {digest_of(key.encode()): Key(name=name) for name, key in keys.items()}
        self._stored = stored
        self._anonymous = anonymous

    def __repr__(self) -> str:
        return f"<ApiKeys {len(self._own)} stored={self._stored!r}>"

    def identify(self, authorization: bytes | None) -> Key | None:
        """The key in an ``Authorization`` header; None where no keys are asked for.

        Raises :class:`wire.errors.Unauthorized`, and :class:`wire.errors.KeysUnavailable` where a database should know
        better but cannot be asked.
        """
        if self._anonymous and not self._own and (self._stored is None or self._stored.is_empty):
            return None
        scheme, _, shown = (authorization or b"").partition(b" ")
        if scheme.lower() != b"bearer" or not shown.strip():
            raise Unauthorized
        digest = digest_of(shown.strip())
        key = self._own.get(digest)
        if key is None and self._stored is not None:
            key = self._stored.find(digest)
        if key is None:
            # OpenAI's words: LiteLLM takes any other error of this type for a bad request, whatever its status.
            raise Unauthorized("Incorrect API key provided: it is unknown here, expired or revoked.")
        return key


def digest_of(key: bytes) -> str:
    """What is kept of a key: its SHA-256 in hexadecimal digits."""
    return hashlib.sha256(key).hexdigest()


def parse_keys(setting: str) -> dict[str, str]:
    """Name → key of ``API_KEYS``. A key without a name is named by its position. Raises ValueError with a sentence."""
    keys: dict[str, str] = {}
    for number, part in enumerate(split_keys(setting), 1):
        name, colon, key = part.rpartition(":")
        name = name if colon else f"key-{number}"
        if len(key) < KEY_CHARS_MIN:
            raise ValueError(f"key number {number} has fewer than {KEY_CHARS_MIN} characters")
        if not is_sendable(key):
            raise ValueError(f"key number {number} holds a space or another character that cannot stand in a header")
        if not 0 < len(name) <= NAME_CHARS_MAX or not name.isprintable():
            raise ValueError(f"the name of key number {number} must have 1 to {NAME_CHARS_MAX} printable characters")
        if name in keys or key in keys.values():
            raise ValueError(f"key number {number} repeats a name or a key")
        keys[name] = key
    return keys
