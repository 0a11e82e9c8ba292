"""Background tasks: none fails without a word, and none is left behind."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from process.lifecycle import Tasks
from process.log_event import Event
from process.logging import Log
from tests.waiting import until

if TYPE_CHECKING:
    import pytest


async def test_one_that_fails_is_told_by_its_name_and_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ZeroDivisionError("a prompt")

    tasks = Tasks(Log("gateway"))
    tasks.start(fail(), "read keys")
    assert len(tasks) == 1
    await until(lambda: not len(tasks))
    (told,) = [record.msg for record in caplog.records if isinstance(record.msg, Event)]
    assert (told["action"], told["task"], told["error"]) == ("task_failed", "read keys", "ZeroDivisionError")
    assert "a prompt" not in str(told)


async def test_those_that_end_or_are_cancelled_are_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks(Log("gateway"))
    assert await tasks.start(asyncio.sleep(0, "done"), "ends") == "done"
    tasks.start(asyncio.sleep(60), "is cancelled").cancel()
    await until(lambda: not len(tasks))
    assert caplog.records == []


async def test_all_have_ended_when_their_owner_has_let_go_of_them(caplog: pytest.LogCaptureFixture) -> None:
    ended: list[str] = []

    async def work(name: str, *, fails: bool) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.append(name)
            if fails:
                raise ZeroDivisionError

    tasks = Tasks(Log("gateway"))
    for name in ("first", "second", "third"):
        tasks.start(work(name, fails=name == "first"), name)
    await asyncio.sleep(0)
    await tasks.aclose()
    assert sorted(ended) == ["first", "second", "third"]
    assert len(tasks) == 0
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_work_that_is_kept_begins_anew_after_a_failure_and_ends_with_its_owner(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("process.lifecycle.AGAIN_S", 0.0)
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise ZeroDivisionError
        await asyncio.Event().wait()

    tasks = Tasks(Log("gateway"))
    kept = tasks.keep(work, "expire nodes")
    await until(lambda: begun == 3)
    told = [(record.msg["action"], record.msg["task"]) for record in caplog.records if isinstance(record.msg, Event)]
    assert told == [("task_failed", "expire nodes")] * 2
    assert not kept.done()
    await tasks.aclose()
    assert kept.cancelled()
