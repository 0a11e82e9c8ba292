"""Limits while their store is away, and what an idle gateway does not load."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, NoReturn

import pytest
from prometheus_client import CollectorRegistry

from gateway.keys.key import Key
from gateway.keys.limit_memory import Memory
from gateway.keys.quota import Quota
from process.lifecycle import Tasks
from process.logging import Log
from tests.waiting import until
from wire.errors import RateLimited
from wire.request import Request

if TYPE_CHECKING:
    from collections.abc import Callable

QUESTIONS = ("acquire_entry", "get_moving_window", "get_sliding_window", "acquire_sliding_window_entry")
LIMITED = Key(name="k", requests_per_min=1, tokens_per_min=1000)
REQUEST = Request(
    request_id="req_1", model="m", endpoint="chat/completions", body=b"{}", gateway="g", received_ms=1, deadline_ms=2
)


async def test_a_store_that_is_away_stops_nobody_and_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gateway.keys.quota.AWAY_S", 0.0)
    registry, tasks = CollectorRegistry(), Tasks(Log("gateway"))
    quota = Quota("async+memory://", tasks, registry)

    async def away(*_: object) -> NoReturn:
        raise ConnectionError("redis://:hunter2@host")

    for name in QUESTIONS:
        monkeypatch.setattr(f"gateway.keys.limit_memory.Memory.{name}", away)
    with caplog.at_level(logging.INFO, "gateway"):
        for _ in range(3):
            quota.end(await quota.admit(LIMITED, REQUEST), 10)
        await until(lambda: not len(tasks))
        assert await quota.headers(LIMITED) == []
        monkeypatch.undo()
        caplog.set_level(logging.INFO, "gateway")
        assert len(await quota.headers(LIMITED)) == 6
        await quota.admit(LIMITED, REQUEST)
    told = [record.message for record in caplog.records]
    assert ["limits_unavailable" in each for each in told] == [True, False], told
    assert "hunter2" not in str(told)
    assert (registry.get_sample_value("gateway_limits_unchecked_total") or 0) >= 9


async def test_a_store_that_says_nothing_is_waited_for_once_and_not_by_each_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.keys.quota.STORAGE_WAIT_S", 0.01)
    tasks, asked = Tasks(Log("gateway")), 0
    quota = Quota("async+memory://", tasks, CollectorRegistry())

    async def silent(*_: object, **__: object) -> NoReturn:
        nonlocal asked
        asked += 1
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    for name in QUESTIONS:
        monkeypatch.setattr(f"gateway.keys.limit_memory.Memory.{name}", silent)
    for _ in range(2):
        permit = await quota.admit(LIMITED, REQUEST)
        assert await quota.headers(LIMITED) == []
        quota.end(permit, 10)
        await until(lambda: not len(tasks))
    assert asked == 1

    async def is_asked_again() -> bool:
        await quota.headers(LIMITED)
        return asked > 1

    await until(is_asked_again)


class Silent:
    """A store of limits that is asked for the use of tokens and says nothing, until told to fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gateway.keys.quota.STORAGE_WAIT_S", 60.0)
        monkeypatch.setattr("gateway.keys.limit_memory.Memory.get_sliding_window", self._ask)
        self.waiting: list[asyncio.Future[None]] = []
        self.asked = 0

    async def _ask(self, *_: object) -> NoReturn:
        self.asked += 1
        self.waiting.append(asyncio.get_running_loop().create_future())
        await self.waiting[-1]
        raise AssertionError

    def fail(self) -> None:
        for each in self.waiting:
            each.set_exception(ConnectionError())
        self.waiting = []


BY_TOKENS = Key(name="t", tokens_per_min=1000)


async def test_of_a_burst_fifty_questions_are_asked_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = CollectorRegistry()
    store, quota = Silent(monkeypatch), Quota("async+memory://", Tasks(Log("gateway")), registry)
    asking = [asyncio.ensure_future(quota.headers(BY_TOKENS)) for _ in range(200)]
    await until(lambda: store.asked == 50)
    store.fail()
    assert await asyncio.gather(*asking) == [[]] * 200, "who waits for its turn hears that the store is away"
    assert store.asked == 50
    assert registry.get_sample_value("gateway_limits_unchecked_total") == 200


async def test_nobody_waits_in_line_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.keys.quota.LINE_WAIT_S", 0.01)
    monkeypatch.setattr("gateway.keys.quota.QUESTIONS_MAX", 1)
    Silent(monkeypatch)
    quota = Quota("async+memory://", Tasks(Log("gateway")), CollectorRegistry())
    assert await asyncio.gather(*(quota.headers(BY_TOKENS) for _ in range(3))) == [[]] * 3


async def test_whether_a_store_is_back_one_request_asks_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.keys.quota.AWAY_S", 0.0)
    store, quota = Silent(monkeypatch), Quota("async+memory://", Tasks(Log("gateway")), CollectorRegistry())
    for number in (1, 2):
        asking = [asyncio.ensure_future(quota.headers(BY_TOKENS)) for _ in range(5)]
        if number == 1:
            await until(lambda: store.asked == 5)
        else:
            await until(lambda: sum(each.done() for each in asking) == 4)  # noqa: B023
        store.fail()
        await asyncio.gather(*asking)
    assert store.asked == 6
    monkeypatch.undo()
    assert all(await asyncio.gather(*(quota.headers(BY_TOKENS) for _ in range(5))))


@pytest.mark.parametrize(
    ("limited", "counts"),
    [
        (Key(name="k", requests_per_min=1), "acquire_entry"),
        (Key(name="k", tokens_per_min=1000), "acquire_sliding_window_entry"),
    ],
)
async def test_a_store_that_answers_and_counts_nothing_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, limited: Key, counts: str
) -> None:
    monkeypatch.setattr("gateway.keys.quota.AWAY_S", 0.0)
    tasks = Tasks(Log("gateway"))
    quota = Quota("async+memory://", tasks, CollectorRegistry())

    async def full(*_: object, **__: object) -> NoReturn:
        raise MemoryError("OOM command not allowed when used memory > 'maxmemory'.")

    async def use() -> None:
        quota.end(await quota.admit(limited, REQUEST), 10)
        await until(lambda: not len(tasks))

    with caplog.at_level(logging.INFO, "gateway"):
        with monkeypatch.context() as patched:
            patched.setattr(f"gateway.keys.limit_memory.Memory.{counts}", full)
            for _ in range(3):
                await use()
                assert len(await quota.headers(limited)) == 3, "it still answers questions"
        assert len(caplog.records) == 1
        with monkeypatch.context() as patched:
            patched.setattr(f"gateway.keys.limit_memory.Memory.{counts}", refuses)
            with contextlib.suppress(RateLimited):
                await use()
        assert len(caplog.records) == 1, "who is at its limit is not counted"
        await use()
    assert ["limits_recovered" in record.message for record in caplog.records] == [False, True]


async def refuses(*_: object, **__: object) -> bool:
    return False


async def test_a_clock_that_is_set_back_locks_no_key_out(monkeypatch: pytest.MonkeyPatch) -> None:
    quota = Quota("async+memory://", Tasks(Log("gateway")), CollectorRegistry())
    quota.end(await quota.admit(LIMITED, REQUEST), 0)
    hour_ago = time.time() - 3600
    monkeypatch.setattr("time.time", lambda: hour_ago)
    with pytest.raises(RateLimited) as refused:
        await quota.admit(LIMITED, REQUEST)
    assert (refused.value.retry_after_ms or 0) <= 1000
    quota.end(await quota.admit(LIMITED, REQUEST), 0)
    with pytest.raises(RateLimited) as refused:
        await quota.admit(LIMITED, REQUEST)
    assert 50_000 < (refused.value.retry_after_ms or 0) <= 60_000


async def test_memory_looks_once_a_minute_for_what_it_may_forget(monkeypatch: pytest.MonkeyPatch) -> None:
    storage, looks = Memory(), 0

    async def looked_at(call: Callable[..., int], *arguments: object) -> int:
        nonlocal looks
        looks += 1
        return call(*arguments)

    monkeypatch.setattr("asyncio.to_thread", looked_at)

    async def used(names: str) -> None:
        for name in names:
            assert await storage.acquire_entry(name, 10, 60)
            await until(lambda: storage.timer is None or storage.timer.done())

    await used("abcabc")
    assert looks == 1, "at the first use"
    minute_later = time.monotonic() + 61, time.time() + 61
    monkeypatch.setattr("gateway.keys.limit_memory.time", SimpleNamespace(monotonic=lambda: minute_later[0]))
    monkeypatch.setattr("limits.aio.storage.memory.time", SimpleNamespace(time=lambda: minute_later[1]))
    await used("dede")
    assert (looks, sorted(storage.events)) == (5, ["d", "e"])


def test_a_gateway_without_a_database_loads_neither_sqlalchemy_nor_limits() -> None:
    code = (
        "import sys, fleet.__main__, gateway.__main__; from gateway.settings import GatewaySettings; GatewaySettings();"
        "sys.exit(bool({'sqlalchemy', 'limits', 'alembic'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
