"""Whether and when a client is told to come again."""

from __future__ import annotations

import pytest

from gateway.http.errors import error_headers
from wire.errors import (
    BodyTooLarge,
    FleetError,
    InsufficientQuota,
    InvalidRequest,
    Overloaded,
    RateLimited,
    RequestTooSlow,
)


@pytest.mark.parametrize(("wait_ms", "seconds"), [(1, 1), (1000, 1), (1001, 2), (119_001, 120), (3_600_000, 120)])
def test_a_wait_is_told_in_whole_seconds_that_are_not_too_few_and_none_that_clients_would_not_wait(
    wait_ms: int, seconds: int
) -> None:
    headers = dict(error_headers(Overloaded(retry_after_ms=wait_ms).body()))
    assert int(headers[b"retry-after"]) == seconds
    assert int(headers[b"retry-after-ms"]) == min(wait_ms, 120_000)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RateLimited(), b"true"),
        (InsufficientQuota(), b"false"),
        (RequestTooSlow(), b"true"),
        (FleetError(), b"true"),
        (InvalidRequest(), None),
        (BodyTooLarge(), None),
    ],
    ids=lambda each: getattr(each, "code", str(each)),
)
def test_whether_to_try_again_is_told_where_clients_would_do_so_by_themselves(
    error: FleetError, told: bytes | None
) -> None:
    headers = dict(error_headers(error.body()))
    assert headers.get(b"x-should-retry") == told
    assert b"retry-after" not in headers
