"""Whether bytes are text: a JSON decoder that skips a value does not look at it."""

from __future__ import annotations

import codecs

_SLICE_BYTES = 64 * 1024


def is_utf8(data: bytes | bytearray) -> bool:
    """Whether ``data`` is valid UTF-8, without a decoded copy of all of it at once."""
    if data.isascii():
        return True
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(data), _SLICE_BYTES):
            decoder.decode(data[start : start + _SLICE_BYTES], final=start + _SLICE_BYTES >= len(data))
    except UnicodeDecodeError:
        return False
    return True
