"""What is looked at, when, and by how many."""

from __future__ import annotations

import asyncio

from controller.work_queue import RETRY_S_MIN, WorkQueue
from tests.waiting import until


async def test_many_reasons_to_look_are_one_look() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for _ in range(5):
        queue.add("a")
    queue.add("b")
    assert [await queue.take(), await queue.take()] == ["a", "b"]
    assert len(queue) == 0


async def test_what_is_being_looked_at_is_looked_at_again_afterwards_and_not_by_two() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    assert await queue.take() == "a"
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert await queue.take() == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_a_look_that_fails_is_repeated_later_and_later_until_one_succeeds() -> None:
    queue: WorkQueue[str] = WorkQueue()
    loop = asyncio.get_running_loop()
    due: list[float] = []
    for _ in range(3):
        queue.add("a")
        await queue.take()
        queue.failed("a")
        due.append(queue.due_at("a") - loop.time())
    assert [round(seconds / RETRY_S_MIN) for seconds in due] == [1, 2, 4]
    queue.add("a")
    await queue.take()
    queue.done("a")
    queue.add("a")
    await queue.take()
    queue.failed("a")
    assert round((queue.due_at("a") - loop.time()) / RETRY_S_MIN) == 1
    queue.close()


async def test_a_later_look_does_not_put_off_an_earlier_one() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_in("a", 0.01)
    queue.add_in("a", 60.0)
    await until(lambda: len(queue) == 1)
    assert await queue.take() == "a"
