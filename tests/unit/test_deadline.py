"""How long a client waits: the shortest of what it says, what its library says, and the setting."""

from __future__ import annotations

import pytest

from gateway.http.deadline import timeout_ms
from wire.errors import InvalidRequest

OWN, LIBRARY, CALL = b"x-request-timeout-ms", b"x-stainless-read-timeout", b"x-stainless-timeout"


@pytest.mark.parametrize(
    ("headers", "whole_ms", "stream_ms"),
    [
        ({}, 600_000, 600_000),
        ({OWN: b"1500"}, 1500, 1500),
        ({OWN: b"999999999999"}, 600_000, 600_000),
        ({LIBRARY: b"20"}, 20_000, 600_000),
        ({LIBRARY: b"0.25"}, 250, 600_000),
        ({LIBRARY: b"900.0"}, 600_000, 600_000),
        ({OWN: b"30000 \t", LIBRARY: b"20 "}, 20_000, 30_000),
        ({OWN: b"1"}, 1, 1),
        ({OWN: b"10000", LIBRARY: b"20"}, 10_000, 10_000),
        ({CALL: b"20"}, 21_000, 600_000),
        ({CALL: b"600"}, 600_000, 600_000),
        ({CALL: b"20", LIBRARY: b"30"}, 21_000, 600_000),
    ],
)
def test_the_shortest_counts_and_a_library_is_heard_for_whole_answers(
    headers: dict[bytes, bytes], whole_ms: int, stream_ms: int
) -> None:
    assert timeout_ms(headers, 600.0, stream=False) == whole_ms
    assert timeout_ms(headers, 600.0, stream=True) == stream_ms


@pytest.mark.parametrize("said", [b"", b"None", b"-1", b"nan", b"inf", b"1e-9", b"0", b"0.0", b"9" * 400, b"1.5.2"])
def test_what_a_library_says_in_another_form_is_no_fault_of_the_client(said: bytes) -> None:
    assert timeout_ms({LIBRARY: said}, 600.0, stream=False) == 600_000
    assert timeout_ms({CALL: said}, 600.0, stream=False) == 600_000


@pytest.mark.parametrize("asked", [b"", b"0", b"-1", b"1.5", b"1e3", b"1000000000000", b"soon"])
def test_what_a_client_asks_for_in_another_form_is_refused(asked: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        timeout_ms({OWN: asked}, 600.0, stream=False)
    assert refused.value.param == "x-request-timeout-ms"
