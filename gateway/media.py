"""Images in a request's body, which are many bytes and few tokens."""

from __future__ import annotations

import re

_IMAGE = re.compile(rb"data:image\\?/[\w.+-]{1,40};base64,(?:[A-Za-z0-9+/=]|\\/)*")
"""As data URLs; JSON may write a stroke with a backslash before it."""


def text_bytes(body: bytes) -> int:
    """How many bytes of a body are something else."""
    if b";base64," not in body:
        return len(body)
    return len(body) - sum(found.end() - found.start() for found in _IMAGE.finditer(body))
