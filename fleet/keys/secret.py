"""Making a key: 256 random bits that are shown once, and what is stored of them."""

from __future__ import annotations

import secrets

from gateway.keys.api_keys import digest_of
from store.keys import NewSecret

SECRET_BYTES = 32
PREFIX_CHARS = 10
"""Shown by ``list``, so that people know a key when they see it: 42 of its 256 bits."""


def new_secret() -> tuple[str, NewSecret]:
    """A key for its owner, and the digest and prefix of it for the database."""
    key = f"sk-{secrets.token_urlsafe(SECRET_BYTES)}"
    return key, NewSecret(digest_of(key.encode()), key[:PREFIX_CHARS])
