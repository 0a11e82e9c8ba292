"""What stands beside an error in the head of a response. Its JSON is :mod:`process.http_errors`'."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wire.errors import ErrorBody

SECONDS_BETWEEN_RETRIES_MAX = 120
"""OpenAI's clients give up at once above this, so a longer wait is said as this one."""


def error_headers(error: ErrorBody) -> list[tuple[bytes, bytes]]:
    """Headers beside an error: whether and when a client should try again, and what authentication is wanted."""
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    if error.http_status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if error.http_status in (408, 409, 429) or error.http_status >= 500:
        headers.append((b"x-should-retry", b"true" if error.retryable else b"false"))
    if error.retry_after_ms is not None:
        seconds = min(-(-error.retry_after_ms // 1000), SECONDS_BETWEEN_RETRIES_MAX)
        headers.append((b"retry-after", b"%d" % seconds))
        headers.append((b"retry-after-ms", b"%d" % min(error.retry_after_ms, SECONDS_BETWEEN_RETRIES_MAX * 1000)))
    return headers
