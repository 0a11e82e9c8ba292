"""The limits of keys on a clock of the test's own: who is let in, what is told, and what is counted."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from gateway.keys.key import Key
from gateway.keys.limit_memory import Memory
from gateway.keys.quota import Quota, estimate
from process.lifecycle import Tasks
from process.logging import Log
from tests.waiting import until
from wire.errors import RateLimited
from wire.request import Request

if TYPE_CHECKING:
    from gateway.keys.permits import Permit, Places

REQUEST = Request(
    request_id="req_1", model="m", endpoint="chat/completions", body=b"{}", gateway="g", received_ms=1, deadline_ms=2
)
MINUTE = 1_700_000_040.0
"""A moment at which one of the minutes begins by which memory counts tokens."""


def request(**fields: Any) -> Request:
    return msgspec.structs.replace(REQUEST, **fields)


class Door:
    """A quota in memory, and the time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, places: Places | None = None) -> None:
        self.now = MINUTE
        clock = SimpleNamespace(time=lambda: self.now, monotonic=lambda: self.now)
        monkeypatch.setattr("gateway.keys.quota.time", clock)
        monkeypatch.setattr("limits.aio.storage.memory.time", clock)
        self.tasks, self.registry = Tasks(Log("gateway")), CollectorRegistry()
        self.quota = Quota("async+memory://", self.tasks, self.registry, places)

    async def end(self, permit: Permit, tokens: int = 0) -> None:
        """The request has ended and is counted."""
        self.quota.end(permit, tokens)
        await until(lambda: not len(self.tasks))

    async def use(self, key: Key, tokens: int = 0) -> None:
        """A request that begins and ends."""
        await self.end(await self.quota.admit(key, REQUEST), tokens)

    async def told(self, key: Key) -> dict[str, str]:
        """The headers, by what follows ``x-ratelimit-``."""
        found = await self.quota.headers(key)
        return {name.decode().removeprefix("x-ratelimit-"): value.decode() for name, value in found}

    async def waits_ms(self, key: Key, asked: Request = REQUEST) -> int:
        """For how long a request is refused."""
        with pytest.raises(RateLimited) as refused:
            await self.quota.admit(key, asked)
        assert refused.value.retry_after_ms is not None
        return refused.value.retry_after_ms

    def refused(self, limit: str) -> float | None:
        return self.registry.get_sample_value("gateway_limited_requests_total", {"limit": limit})

    @property
    def open(self) -> float | None:
        return self.registry.get_sample_value("gateway_limited_requests_open")


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    return Door(monkeypatch)


@pytest.mark.parametrize(
    ("fields", "limit", "held"),
    [
        ({"body": b"x" * 40}, 10_000, 10 + 256),
        ({"body": b"x" * 41}, 10_000, 11 + 256),
        ({"body": b"x" * 40}, 400, 100),  # a guess takes no more than a quarter
        ({"body": b"x" * 800}, 400, 200),  # but what was sent is no guess
        ({"body": b"x" * 8000}, 400, 400),
        ({"body": b"x" * 40, "n": 3}, 10_000, 10 + 3 * 256),
        ({"body": b"x" * 40, "max_tokens": 5}, 10_000, 15),
        ({"body": b"x" * 40, "max_tokens": 5, "n": 3}, 10_000, 25),
        ({"body": b"x" * 40, "max_tokens": 5, "n": 3, "answers": 6}, 10_000, 40),
        ({"body": b"x" * 40, "max_tokens": 5_000}, 400, 400),
        ({"body": b"x" * 40, "images": 2, "max_tokens": 1}, 10_000, 10 + 3_200 + 1),
        ({"body": b"x" * 40, "endpoint": "embeddings"}, 10_000, 10),
    ],
)
def test_what_is_held_is_a_quarter_of_the_bytes_and_what_the_answer_may_have(
    fields: dict[str, Any], limit: int, held: int
) -> None:
    assert estimate(request(**fields), limit) == held


async def test_requests_leave_the_minute_one_by_one_and_headers_say_so(door: Door) -> None:
    key = Key(name="k", requests_per_min=2)

    async def is_told(remaining: str, reset: str) -> None:
        wanted = {"limit-requests": "2", "remaining-requests": remaining, "reset-requests": reset}
        assert await door.told(key) == wanted

    await is_told("2", "0s")
    await door.use(key)
    await is_told("1", "1m0s")
    door.now += 20
    await is_told("1", "40s")
    await door.use(key)
    assert await door.waits_ms(key) == 40_000
    await is_told("0", "1m0s")
    door.now += 39.9995
    assert await door.waits_ms(key) == 1
    door.now += 0.001
    await door.use(key)
    assert (door.refused("requests"), door.refused("tokens"), door.refused("concurrent")) == (2, 0, 0)
    door.now += 61
    await is_told("2", "0s")


async def test_who_is_refused_as_the_window_moves_on_is_not_told_of_the_next_minute(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = Key(name="k", requests_per_min=1)
    await door.use(key)
    door.now += 59.999
    asked = Memory.get_moving_window

    async def a_little_later(storage: Memory, name: str, limit: int, expiry: int) -> tuple[float, int]:
        door.now += 0.002
        return await asked(storage, name, limit, expiry)

    monkeypatch.setattr(Memory, "get_moving_window", a_little_later)
    assert await door.waits_ms(key) == 1000


async def test_the_reset_of_one_key_says_nothing_of_another(door: Door) -> None:
    first, second = Key(name="first", requests_per_min=2), Key(name="second", requests_per_min=2)
    await door.use(first)
    door.now += 30
    await door.use(second)
    assert [(await door.told(key))["reset-requests"] for key in (first, second)] == ["30s", "1m0s"]
    door.now += 31
    await door.use(second)
    assert [(await door.told(key))["reset-requests"] for key in (first, second)] == ["0s", "1m0s"]


async def test_a_lower_limit_than_before_leaves_nothing_and_not_less(door: Door) -> None:
    key = Key(name="k", tokens_per_min=1000)
    permits = [await door.quota.admit(key, request(max_tokens=400)) for _ in range(2)]
    assert (await door.told(Key(name="k", tokens_per_min=500)))["remaining-tokens"] == "0"
    for permit in permits:
        await door.end(permit)


async def test_tokens_are_held_then_counted_and_fade(door: Door) -> None:
    key = Key(name="k", tokens_per_min=1000)

    async def is_told(remaining: str, reset: str) -> None:
        assert await door.told(key) == {"limit-tokens": "1000", "remaining-tokens": remaining, "reset-tokens": reset}

    await is_told("1000", "0s")
    permit = await door.quota.admit(key, request(max_tokens=399))
    assert door.open == 1
    await is_told("600", "2m0s")
    door.quota.end(permit, 500)
    assert door.open == 0, "the place is free at once"
    await until(lambda: not len(door.tasks))
    await is_told("500", "2m0s")
    assert await door.waits_ms(key, request(max_tokens=749)) == 90_000  # half of them, half a minute after this one
    assert await door.waits_ms(key, request(max_tokens=999)) == 120_000  # nothing may be left of them
    assert door.refused("tokens") == 2
    door.now += 90
    await is_told("750", "30s")
    permit = await door.quota.admit(key, request(max_tokens=749))
    assert await door.waits_ms(key, request(max_tokens=999)) == 1000, "nobody knows when what is held is free"
    await door.end(permit)
    door.now += 30
    await is_told("1000", "0s")


async def test_an_answer_longer_than_the_limit_fills_it_and_no_more(door: Door) -> None:
    key = Key(name="k", tokens_per_min=1000)
    await door.use(key, 300)
    await door.use(key, 5000)
    assert (await door.told(key))["remaining-tokens"] == "0"
    assert await door.waits_ms(key) == 75_000  # 750 may be used where 250 are held
    door.now += 120
    await door.use(key)


async def test_who_has_no_tokens_left_does_not_lose_a_request(door: Door) -> None:
    key = Key(name="k", requests_per_min=5, tokens_per_min=100)
    await door.use(key, 100)
    await door.waits_ms(key)
    assert (await door.told(key))["remaining-requests"] == "4"


async def test_tokens_of_a_key_without_a_limit_of_them_are_not_counted(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    key = Key(name="k", requests_per_min=2)
    await door.use(key, 1000)
    assert list(await door.told(key)) == ["limit-requests", "remaining-requests", "reset-requests"]
    assert caplog.records == []


async def test_requests_at_once_are_those_of_one_key(door: Door) -> None:
    key, other = Key(name="k", concurrent_max=1, tokens_per_min=1000), Key(name="other", concurrent_max=1)
    permit = await door.quota.admit(key, REQUEST)
    assert await door.waits_ms(key) == 1000
    assert door.refused("concurrent") == 1
    await door.quota.admit(other, REQUEST)
    await door.end(permit)
    await door.use(key)
    assert await door.told(other) == {}


class Elsewhere:
    """Other processes of this gateway, which say what they are told to."""

    def __init__(self, *says: bool | None) -> None:
        self.says = list(says)
        self.asked: list[tuple[str, int]] = []
        self.left: list[str] = []

    async def enter(self, name: str, concurrent_max: int) -> bool | None:
        self.asked.append((name, concurrent_max))
        return self.says.pop(0)

    def leave(self, name: str) -> None:
        self.left.append(name)


async def test_a_place_among_all_processes_is_taken_and_left_once(monkeypatch: pytest.MonkeyPatch) -> None:
    places = Elsewhere(True, False, None, True)
    door = Door(monkeypatch, places)
    key = Key(name="k", concurrent_max=3, requests_per_min=2)
    permit = await door.quota.admit(key, REQUEST)
    assert await door.waits_ms(key) == 1000, "there is none"
    assert door.refused("concurrent") == 1
    assert places.left == []
    for _ in range(2):
        await door.end(permit)
        assert places.left == ["k"]
    await door.use(key)  # nobody knows, so nobody is stopped, and nothing is left
    assert places.left == ["k"]
    await door.waits_ms(key)  # two requests were sent this minute
    assert places.left == ["k", "k"], "who is refused for something else leaves its place"
    assert door.open == 0
    await door.use(Key(name="free", requests_per_min=1))
    assert (places.asked, places.left) == ([("k", 3)] * 4, ["k", "k"])


class Afar:
    """A store that is asked for the use of tokens and answers when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting: list[asyncio.Event] = []
        asked = Memory.get_sliding_window

        async def from_afar(storage: Memory, key: str, expiry: int) -> tuple[int, float, int, float]:
            self.waiting.append(asyncio.Event())
            await self.waiting[-1].wait()
            return await asked(storage, key, expiry)

        monkeypatch.setattr(Memory, "get_sliding_window", from_afar)

    def answer(self) -> None:
        while self.waiting:
            self.waiting.pop(0).set()


async def test_of_requests_that_come_at_once_as_many_are_let_in_as_have_room(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, key = Afar(monkeypatch), Key(name="k", tokens_per_min=1000)
    coming = [asyncio.ensure_future(door.quota.admit(key, request(max_tokens=399))) for _ in range(5)]
    await until(lambda: len(store.waiting) == 5)
    store.answer()
    found = await asyncio.gather(*coming, return_exceptions=True)
    assert [isinstance(each, RateLimited) for each in found] == [False, False, True, True, True]
    assert (door.open, door.refused("tokens")) == (2, 3)


async def test_what_was_held_for_a_request_that_has_ended_meanwhile_is_not_in_the_way(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = Key(name="k", tokens_per_min=1000)
    before = await door.quota.admit(key, request(max_tokens=599))
    with monkeypatch.context() as patched:
        store = Afar(patched)
        coming = asyncio.ensure_future(door.quota.admit(key, request(max_tokens=599)))
        await until(lambda: len(store.waiting) == 1)
        await door.end(before, 100)
        store.answer()
        await door.end(await coming, 100)
    assert (await door.told(key))["remaining-tokens"] == "800"
