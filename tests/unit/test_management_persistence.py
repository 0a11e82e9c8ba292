"""Trying again until it works."""

from __future__ import annotations

import asyncio
import logging

import pytest

from management.persistence import Persistence, Stopping
from management.readiness import Readiness
from store.database import UnusableDatabase
from tests.waiting import until


class Flaky:
    """Fails so many times, then works."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.failures, self.error = failures, error or OSError("away")

    async def __call__(self) -> str:
        if self.failures:
            self.failures -= 1
            raise self.error
        return "done"


async def test_an_episode_is_one_line_however_long_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    readiness = Readiness(lambda: True)
    persistence = Persistence(readiness, asyncio.Event(), retry_s_max=0.001)
    assert await persistence.until_done("database", "It is away.", Flaky(5)) == "done"
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_what_lacks_is_told_until_it_works() -> None:
    ready: list[bool] = []
    readiness = Readiness(lambda: True, lambda: ready.append(True))
    for part in ("database", "broker", "ledger", "presence"):
        readiness.has(part)
    assert readiness.sentences == []
    stop = asyncio.Event()
    trying = asyncio.create_task(
        Persistence(readiness, stop, retry_s_max=600).until_done("database", "It is away.", Flaky(10**9))
    )
    await until(lambda: readiness.sentences)
    assert readiness.sentences == ["It is away."]
    stop.set()
    with pytest.raises(Stopping):
        await asyncio.wait_for(trying, 5)
    readiness.has("database")
    assert ready == [True]


async def test_one_attempt_is_made_even_while_stopping() -> None:
    stop = asyncio.Event()
    stop.set()
    persistence = Persistence(Readiness(lambda: True), stop, retry_s_max=600)
    assert await persistence.until_done("database", "It is away.", Flaky(0)) == "done"
    with pytest.raises(Stopping):
        await persistence.until_done("database", "It is away.", Flaky(1))


async def test_a_database_that_no_waiting_makes_usable_is_not_waited_for() -> None:
    persistence = Persistence(Readiness(lambda: True), asyncio.Event(), retry_s_max=600)
    with pytest.raises(UnusableDatabase):
        await persistence.until_done("database", "It is away.", Flaky(1, UnusableDatabase("too new")))


async def test_what_hangs_is_told_and_goes_on_when_it_answers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("management.persistence.SLOW_S", 0.01)
    readiness, answer = Readiness(lambda: True), asyncio.Event()
    trying = asyncio.create_task(
        Persistence(readiness, asyncio.Event(), retry_s_max=600).until_done("database", "It is away.", answer.wait)
    )
    await until(lambda: "It is away." in readiness.sentences)
    answer.set()
    assert await asyncio.wait_for(trying, 5)
    assert "It is away." not in readiness.sentences
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_what_hangs_is_given_up_when_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("management.persistence.SLOW_S", 0.01)
    stop, given_up = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()

    trying = asyncio.create_task(
        Persistence(Readiness(lambda: True), stop, retry_s_max=600).until_done("database", "It is away.", hang)
    )
    stop.set()
    with pytest.raises(Stopping):
        await asyncio.wait_for(trying, 5)
    assert given_up.is_set()


def test_a_broker_that_is_lost_later_is_told() -> None:
    connected = True
    readiness = Readiness(lambda: connected)
    for part in ("database", "broker", "ledger", "presence"):
        readiness.has(part)
    connected = False
    assert readiness.sentences == ["The broker cannot be reached."]
