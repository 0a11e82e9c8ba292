"""How deep JSON is nested. A reader's own limit is another one in each language and version, Python's is its stack, and
what one process has read the next one must be able to read too."""

from __future__ import annotations

from itertools import accumulate

LEVELS_MAX = 256
"""Of lists and objects in one another: far more than anybody needs, and less than any reader takes."""

_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_REST = bytes(set(range(256)) - _STEPS.keys() - {ord('"')})


def is_too_deep(data: bytes) -> bool:
    """Whether valid JSON in UTF-8 has more than :data:`LEVELS_MAX` levels."""
    if data.count(b"[") + data.count(b"{") <= LEVELS_MAX:
        return False
    parts = data.replace(rb"\\", b"").replace(rb"\"", b"").translate(None, _REST).split(b'"')
    steps = map(_STEPS.__getitem__, b"".join(parts[::2]))  # every second part is a string's
    return any(map(LEVELS_MAX.__lt__, accumulate(steps)))
