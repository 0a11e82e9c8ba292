"""API keys: who may ask. Only hashes are kept and compared; a key is named in events, never shown."""

from __future__ import annotations

import hashlib
import hmac

from process.settings import is_sendable
from wire.errors import Unauthorized

KEY_CHARS_MIN = 8
NAME_CHARS_MAX = 64


class ApiKeys:
    """The keys of ``API_KEYS``. Without any, everyone is let in: the settings see to it that only loopback can come."""

    def __init__(self, keys: dict[str, str]) -> None:
        self._names = {hashlib.sha256(key.encode()).digest(): name for name, key in keys.items()}

    def __repr__(self) -> str:
        return f"<ApiKeys {len(self._names)}>"

    def identify(self, authorization: bytes | None) -> str | None:
        """The name of the key in an ``Authorization`` header; None where no keys are asked for.

        Raises :class:`wire.errors.Unauthorized`. Takes as long for a wrong key as for a right one.
        """
        if not self._names:
            return None
        scheme, _, key = (authorization or b"").partition(b" ")
        if scheme.lower() != b"bearer" or not key.strip():
            raise Unauthorized
        given = hashlib.sha256(key.strip()).digest()
        found = None
        for known, name in self._names.items():
            if hmac.compare_digest(known, given):
                found = name
        if found is None:
            raise Unauthorized("This API key is not valid here.")
        return found


def parse_keys(setting: str) -> dict[str, str]:
    """Name → key of ``API_KEYS``. A key without a name is named by its position. Raises ValueError with a sentence."""
    keys: dict[str, str] = {}
    for number, part in enumerate((part.strip() for part in setting.split(",")), 1):
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
