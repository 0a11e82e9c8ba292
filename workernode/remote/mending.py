"""What is almost JSON, or almost no error, as some providers write it."""

from __future__ import annotations

import json
import math
import re

import msgspec

NO_ERROR = tuple(msgspec.Raw(each) for each in (b"null", b'""', b"false", b"{}"))
"""An ``error`` beside an answer that is none."""
_SUSPICIOUS = re.compile(rb"\\u[dD][89a-fA-F]|\bNaN\b|\bInfinity\b")
"""Halves of characters, which JavaScript cuts apart, and numbers that Python writes and JSON does not have."""


def mended(data: bytes | bytearray) -> bytes | None:
    """What could not be read, with U+FFFD for halves of characters and null for numbers that are none; None if there
    is nothing of this kind, or nothing that can be mended."""
    if _SUSPICIOUS.search(data) is None:
        return None
    try:
        value = json.loads(data, parse_constant=lambda _: None, parse_float=_finite)
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (ValueError, RecursionError):
        return None
    # By way of UTF-16: both halves of a character that is whole come together.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None
