"""What providers state of their limits, in the headers that they really send."""

from __future__ import annotations

import pytest

from workernode.remote.stated import Stated, seconds_until, stated

NOW_S = 1_760_000_000.0


def test_openai_states_requests_and_tokens_with_resets_as_durations() -> None:
    headers = {
        "x-ratelimit-limit-requests": "5000",
        "x-ratelimit-limit-tokens": "160000",
        "x-ratelimit-limit-tokens_usage_based": "1",
        "x-ratelimit-remaining-requests": "4999",
        "x-ratelimit-remaining-tokens": "159976",
        "x-ratelimit-reset-requests": "12ms",
        "x-ratelimit-reset-tokens": "8ms",
        "x-request-id": "req_1",
    }
    assert stated(headers, NOW_S) == [
        Stated("requests", None, 5000, 4999, 0.012),
        Stated("tokens", None, 160_000, 159_976, 0.008),
    ]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        # Groq's requests are per day, and its reset tells that
        (
            {
                "x-ratelimit-limit-requests": "14400",
                "x-ratelimit-remaining-requests": "14370",
                "x-ratelimit-reset-requests": "2m59.56s",
            },
            Stated("requests", None, 14_400, 14_370, 179.56),
        ),
        (
            {
                "anthropic-ratelimit-requests-limit": "50",
                "anthropic-ratelimit-requests-remaining": "49",
                "anthropic-ratelimit-requests-reset": "2025-10-09T08:53:50Z",
                "anthropic-ratelimit-input-tokens-limit": "40000",
            },
            Stated("requests", None, 50, 49, 30.0),
        ),
        (
            {"x-ratelimit-limit-req-minute": "60", "x-ratelimit-remaining-req-minute": "59"},
            Stated("requests", 60.0, 60, 59),
        ),
        (
            {"ratelimitbysize-limit": "500000", "ratelimitbysize-remaining": "499000", "ratelimitbysize-reset": "38"},
            Stated("tokens", None, 500_000, 499_000, 38.0),
        ),
        (
            {"x-ratelimit-limit-tokens-minute": "60000", "x-ratelimit-reset-tokens-minute": "11.4"},
            Stated("tokens", 60.0, 60_000, None, 11.4),
        ),
        ({"X-RateLimit-Minute-Limit": "20"}, Stated("requests", 60.0, 20)),
        ({"x-rate-limit-limit-requests": "20"}, Stated("requests", None, 20)),
        # Nothing says what a bare limit is per, so that no pace is taken from it.
        (
            {"X-RateLimit-Limit": "10", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1760000060000"},
            Stated("requests", None, None, 0, 60.0),
        ),
        ({"RateLimit-Remaining": "5, 5;w=60", "RateLimit-Reset": "30"}, Stated("requests", None, None, 5, 30.0)),
    ],
)
def test_other_spellings_are_read_as_well(headers: dict[str, str], expected: Stated) -> None:
    assert stated(headers, NOW_S) == [expected]


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/json"},
        {"x-ratelimit-limit-requests": "many"},
        {"x-ratelimit-limit-requests": "nan"},
        {"x-ratelimit-limit-requests": "-1"},
        {"x-ratelimit-reset-requests": "soon"},
        {"x-ratelimit-over-limit": "no"},
        {"x-ratelimit-limit-audio-seconds": "7200"},
        {"x-ratelimit-policy": "100;w=60"},
    ],
)
def test_what_cannot_be_read_is_left_out(headers: dict[str, str]) -> None:
    assert stated(headers, NOW_S) == []


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("1h2m3.5s", 3723.5),
        ("12ms", 0.012),
        ("30", 30.0),
        ("0", 0.0),
        ("1760000030", 30.0),
        ("1760000030000", 30.0),
        ("1750000000", 0.0),
        ("2025-10-09T08:53:50+00:00", 30.0),
        ("9999-99-99", None),
        ("1 s", None),
        ("", None),
        ("inf", None),
    ],
)
def test_a_reset_is_read_in_every_form(value: str, seconds: float | None) -> None:
    assert seconds_until(value, NOW_S) == seconds


@pytest.mark.parametrize(
    ("said", "per_min"),
    [
        (Stated("requests", None, 600, 599, 0.1), 600),
        (Stated("requests", 60.0, 600), 600),
        (Stated("requests", 1.0, 10), 600),
        (Stated("requests", 3600.0, 600), None),
        (Stated("requests", 86_400.0, 14_400), None),
        (Stated("requests", None, 200, 199, 432.0), None),
        # Groq's of the first requests of a day: 6 s bring one back.
        (Stated("requests", None, 14_400, 14_399, 6.0), None),
        (Stated("requests", None, 14_400, 14_398, 9.0), None),
        (Stated("requests", None, 14_400, 14_390, 59.7), None),
        (Stated("requests", 60.0, 14_400, 14_399, 6.0), 14_400),
        (Stated("requests", None, 14_400, 14_399, 0.004), 14_400),
        (Stated("requests", None, 14_400, 14_300, 6.0), 14_400),
        (Stated("requests", None, 600, 598, 30.0), 600),
        (Stated("requests", None, 600, 600, 1.0), None),
        (Stated("requests", None, 600, None, 1.0), 600),
        (Stated("requests", None, 600, 300, 3000.0), None),
        (Stated("requests", 60.0, 600, 300, 3000.0), None),
        (Stated("requests", None, 0, 0, 1.0), None),
        (Stated("requests", None, None, 5, 1.0), None),
    ],
)
def test_only_a_limit_per_minute_or_second_is_a_pace(said: Stated, per_min: float | None) -> None:
    assert said.per_min == per_min
