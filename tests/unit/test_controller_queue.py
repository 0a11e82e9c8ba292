"""What is looked at, when, and by how many."""

from __future__ import annotations

import asyncio
from typing import Any

from controller.loop import News
from controller.work_queue import RETRY_S_MAX, RETRY_S_MIN, WorkQueue
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


async def test_a_look_that_always_fails_is_repeated_for_ever_and_no_later_than_that() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for _ in range(2000):
        queue.add("a")
        await queue.take()
        queue.failed("a")
    assert round(queue.due_at("a") - asyncio.get_running_loop().time()) == RETRY_S_MAX
    queue.close()


async def test_a_new_reason_during_a_look_that_fails_is_not_kept_waiting() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    await queue.take()
    queue.add("a")
    queue.failed("a")
    assert (len(queue), queue.due_at("a")) == (1, float("inf"))


async def test_a_later_look_does_not_put_off_an_earlier_one() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_in("a", 0.01)
    queue.add_in("a", 60.0)
    await until(lambda: len(queue) == 1)
    assert await queue.take() == "a"


def test_what_the_controller_itself_tells_of_an_aimodel_is_no_reason_to_look_at_it() -> None:
    """Its backlog is another one at each look: each would be followed by the next at once."""
    news, key = News(), ("space", "model")

    def resource(generation: int = 1, state: str = "Ready", waiting: int = 0, **metadata: str) -> dict[str, Any]:
        nodes = [{"name": "node-1", "state": state, "busy": waiting}]
        known = {"uid": "a", "generation": generation, "finalizers": ["drain"], **metadata}
        return {"metadata": known, "status": {"waitingRequests": waiting, "nodes": nodes}}

    assert news.is_new(key, resource())
    assert not news.is_new(key, resource(waiting=7))
    assert news.is_new(("space", "other"), resource())
    assert news.is_new(key, resource(generation=2))
    assert news.is_new(key, resource(generation=2, state="RateLimited", waiting=8))
    assert news.is_new(key, resource(generation=2, state="RateLimited", deletionTimestamp="2027-01-01T00:00:00Z"))
    news.forget(key)
    assert news.is_new(key, resource(generation=2, state="RateLimited", deletionTimestamp="2027-01-01T00:00:00Z"))


def test_an_entry_that_lacks_what_our_definition_asks_for_is_read_all_the_same() -> None:
    resource = {"metadata": {"uid": "a"}, "status": {"nodes": [{}, {"name": "node-1"}]}}
    assert News().is_new(("space", "model"), resource)


def test_what_keda_writes_at_each_poll_is_no_reason_to_look() -> None:
    """It would be a whole look every five seconds for each model that works."""
    news, key = News(), ("space", "model")

    def scaled(active: str = "", version: str = "1", ready: str = "True", most: int = 3) -> dict[str, Any]:
        status: dict[str, Any] = {"conditions": [{"type": "Ready", "status": ready}]}
        metadata = {"name": "aimodel-model", "resourceVersion": version, "managedFields": [{"time": active}]}
        spec = {"maxReplicaCount": most}
        return {"metadata": metadata, "spec": spec, "status": status | ({"lastActiveTime": active} if active else {})}

    assert not news.is_pulse(key, scaled())
    assert not news.is_pulse(key, scaled("10:00:00", "2"))
    assert news.is_pulse(key, scaled("10:00:05", "3"))
    assert not news.is_pulse(("space", "other"), scaled("10:00:05", "3"))
    assert not news.is_pulse(key, scaled("10:00:10", "4", ready="False"))
    assert not news.is_pulse(key, scaled("10:00:15", "5", ready="False", most=9))
    assert news.is_pulse(key, scaled("10:00:20", "6", ready="False", most=9))
    assert not news.is_pulse(key, scaled("10:00:20", "7", ready="False", most=9)), "as when it is deleted"
    news.forget(key)
    assert not news.is_pulse(key, scaled("10:00:25", "8", ready="False", most=9))
