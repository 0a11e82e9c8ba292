"""How long a client waits for its answer: what it says itself, or its library for it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from wire.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_HEADER = b"x-request-timeout-ms"
READ_HEADER = b"x-stainless-read-timeout"
"""OpenAI's Python client says here for how many seconds it waits for the next byte: of an answer that comes in one
piece, for all of it. A stream says something every ``KEEP_ALIVE_S``, so that there it means less."""
CALL_HEADER = b"x-stainless-timeout"
"""OpenAI's clients in other languages say here for how many seconds they wait for the head, of which the fraction is
left out. That of a stream comes early."""
_SECONDS = re.compile(rb"[0-9]{1,9}(\.[0-9]{1,9})?")


def timeout_ms(headers: Mapping[bytes, bytes], limit_s: float, *, stream: bool) -> int:
    """Milliseconds until nobody waits any more: the shortest of what is said, for then somebody has gone.

    What a library says in a form that is not known is no fault of the client. Raises
    :class:`wire.errors.InvalidRequest` for what a client asks for itself.
    """
    limits = [round(limit_s * 1000)]
    # Blanks behind a header's value are not part of it, which the parser of HTTP leaves to us.
    if (asked := headers.get(TIMEOUT_HEADER)) is not None:
        asked = asked.rstrip()
        if not asked.isdigit() or len(asked) > 12 or int(asked) < 1:
            raise InvalidRequest(
                "x-request-timeout-ms must be a number of milliseconds, 1 or more.", param="x-request-timeout-ms"
            )
        limits.append(int(asked))
    if not stream:
        if read_ms := _milliseconds(headers.get(READ_HEADER, b"")):
            limits.append(read_ms)
        if call_ms := _milliseconds(headers.get(CALL_HEADER, b"")):
            limits.append(call_ms + 1000)
    return min(limits)


def _milliseconds(seconds: bytes) -> int:
    return round(float(seconds) * 1000) if _SECONDS.fullmatch(seconds.rstrip()) else 0
