"""The arithmetic of token limits: waits are true and shortest, and what the library counts is what we compute."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter, SlidingWindowCounterRateLimiter

from gateway.keys.token_window import WINDOW_S, TokenWindow, go_duration

if TYPE_CHECKING:
    from collections.abc import Callable

counts = st.integers(0, 2_000_000)
parts = st.floats(0, WINDOW_S)


@st.composite
def windows(draw: Callable[..., float]) -> TokenWindow:
    """What a store can say: the current minute ends when the last one stops to count."""
    left = draw(parts)
    return TokenWindow(int(draw(counts)), left, int(draw(counts)), left + WINDOW_S)


@given(windows(), counts)
def test_after_the_wait_there_is_room_and_before_it_there_is_none(window: TokenWindow, room: int) -> None:
    wait_s = window.wait_s(room)
    assert 0 <= wait_s <= 2 * WINDOW_S
    assert window.used_in(wait_s + 1e-6) <= room + 1e-6 * max(1, window.previous + window.current)
    if wait_s > 0.01:
        assert window.used_in(wait_s - 0.01) > room


@given(windows(), parts, parts)
def test_use_only_fades(window: TokenWindow, first: float, more: float) -> None:
    assert window.used_in(first + more) <= window.used_in(first) + 1e-6


@given(windows())
def test_at_the_reset_nothing_counts(window: TokenWindow) -> None:
    assert window.used_in(window.reset_s(0) + 1e-9) == 0


@settings(max_examples=60)
@given(st.integers(1, 2000), st.lists(st.tuples(st.floats(0, 90), st.integers(1, 900)), max_size=20))
def test_the_librarys_counters_agree_with_ours(limit: int, uses: list[tuple[float, int]]) -> None:
    async def play() -> None:
        storage = MemoryStorage()
        limiter = SlidingWindowCounterRateLimiter(storage)
        item = RateLimitItemPerMinute(limit)
        now = 1_700_000_000.0
        with patch("limits.aio.storage.memory.time.time", lambda: now):
            for pause, cost in uses:
                now += pause
                told = TokenWindow(*await storage.get_sliding_window(item.key_for("tokens", "k"), 60))
                assert told.used <= limit
                let_in = await limiter.hit(item, "tokens", "k", cost=cost)
                assert let_in == (told.used + cost <= limit)
                if not let_in and cost <= limit:
                    wait_s = told.wait_s(limit - cost) + 0.001
                    now += wait_s
                    assert await limiter.hit(item, "tokens", "k", cost=cost)

    asyncio.run(play())


@settings(max_examples=60)
@given(st.integers(1, 8), st.lists(st.floats(0, 30), max_size=40))
def test_no_minute_holds_more_requests_than_allowed_and_the_wait_is_true(limit: int, pauses: list[float]) -> None:
    async def play() -> None:
        limiter = MovingWindowRateLimiter(MemoryStorage())
        item = RateLimitItemPerMinute(limit)
        now = 1_700_000_000.0
        let_in: list[float] = []
        with patch("limits.aio.storage.memory.time.time", lambda: now):
            for pause in pauses:
                now += pause
                if not await limiter.hit(item, "requests", "k"):
                    now = (await limiter.get_window_stats(item, "requests", "k")).reset_time + 0.001
                    assert await limiter.hit(item, "requests", "k")
                let_in.append(now)
                assert sum(now - at < WINDOW_S for at in let_in) <= limit

    asyncio.run(play())


@given(st.integers(0, 10_000_000))
def test_a_time_in_gos_form_reads_back_as_itself(ms: int) -> None:
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(\d+(?:\.\d+)?)(ms|s)", go_duration(ms))
    assert match is not None
    hours, minutes, rest, unit = match.groups()
    read = float(rest) * (1 if unit == "ms" else 1000) + int(minutes or 0) * 60_000 + int(hours or 0) * 3_600_000
    assert round(read) == ms


def test_times_are_written_as_go_writes_them() -> None:
    written = [go_duration(ms) for ms in (0, 12, 1000, 1500, 60_000, 360_000, 3_600_000, 3_661_001)]
    assert written == ["0s", "12ms", "1s", "1.5s", "1m0s", "6m0s", "1h0m0s", "1h1m1.001s"]


def test_counters_that_a_store_has_not_or_that_end_apart_are_read_as_they_are() -> None:
    nothing = TokenWindow(0, 0.0, 0, 0.0)  # as Redis says it
    assert (nothing.used, nothing.reset_s(0), nothing.reset_s(1)) == (0, 0.0, 120.0)
    assert [TokenWindow(0, 30.0, 0, 90.0).reset_s(held) for held in (0, 1)] == [0.0, 90.0]
    assert TokenWindow(10, 30.0, 0, 90.0).reset_s(0) == 30.0
    assert TokenWindow(10, 30.0, 0, 0.0).used == 5
    assert TokenWindow(10, 5.0, 3, 90.0).used_in(20.0) == 3
