"""Timers that share their moments come in time, late by a hundredth at most, and never once cancelled."""

from __future__ import annotations

import asyncio
import gc
import weakref
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.memory_loop import MemoryLoop
from process.timers import GRAIN_S, LONG_FROM_S, LONG_GRAIN_S, SHARED_FROM_S, Timer, Timers

seconds = st.floats(0, 4000) | st.sampled_from([0.0, SHARED_FROM_S, 10.0, LONG_FROM_S, 600.0])


@given(st.lists(st.tuples(st.floats(0, 100), seconds, st.booleans()), max_size=20))
def test_every_timer_that_is_not_cancelled_comes_once_and_in_time(begun: list[tuple[float, float, bool]]) -> None:
    loop = MemoryLoop()
    came: list[tuple[int, float]] = []

    async def live() -> None:
        timers = Timers(loop)
        for number, (pause_s, length_s, cancelled) in enumerate(begun):
            await asyncio.sleep(pause_s)
            due[number] = loop.time() + length_s
            timer = timers.after(length_s, lambda number=number: came.append((number, loop.time())))  # type: ignore[misc]
            if cancelled:
                timer.cancel()
                timer.cancel()
        await asyncio.sleep(5000)
        assert repr(timers) == "<Timers moments=0>"

    due: dict[int, float] = {}
    loop.run_until_complete(live())
    loop.close()
    assert sorted(number for number, _ in came) == [n for n, (_, _, cancelled) in enumerate(begun) if not cancelled]
    for number, at in came:
        assert due[number] - 1e-9 <= at <= due[number] + begun[number][1] / 100 + 1e-9


def test_those_of_one_moment_share_a_timer_of_the_loop() -> None:
    loop = MemoryLoop()

    async def live() -> None:
        timers = Timers(loop)
        for length_s, grain_s in ((10.0, GRAIN_S), (600.0, LONG_GRAIN_S)):
            before = len(loop._scheduled)
            for _ in range(1000):
                timers.after(length_s, lambda: None)
                loop.now += grain_s / 1000
            assert len(loop._scheduled) - before <= 2

    loop.run_until_complete(live())
    loop.close()


def test_of_those_that_are_cancelled_nothing_is_kept_until_their_moment() -> None:
    loop = MemoryLoop()
    timers = Timers(loop)
    for _ in range(1000):
        timers.after(600.0, lambda: None).cancel()
    assert [len(sharing) for sharing in timers._moments.values()] == [0]
    loop.close()


def test_one_that_fails_keeps_no_other_from_coming() -> None:
    loop = MemoryLoop()
    came, told = list[str](), list[str]()
    loop.set_exception_handler(lambda _, context: told.append(str(context["exception"])))

    def fail() -> None:
        raise ValueError("mine")

    async def live() -> None:
        timers = Timers(loop)
        timers.after(10, fail)
        timers.after(10, lambda: came.append("the other"))
        await asyncio.sleep(100)

    loop.run_until_complete(live())
    loop.close()
    assert (came, told) == (["the other"], ["mine"])


def test_one_that_comes_may_cancel_those_of_its_moment_and_begin_others() -> None:
    loop = MemoryLoop()
    came: list[str] = []
    running: dict[str, Timer] = {}
    timers = Timers(loop)

    def comes(name: str) -> None:
        came.append(name)
        for other in running.values():
            other.cancel()
        if len(came) < 3:
            running["again"] = timers.after(10, partial(comes, "again"))

    async def live() -> None:
        for name in ("first", "second"):
            running[name] = timers.after(10, partial(comes, name))
        await asyncio.sleep(100)

    loop.run_until_complete(live())
    loop.close()
    assert came == ["first", "again", "again"]


async def test_a_limit_ends_a_block_that_takes_longer_and_no_other() -> None:
    timers = Timers(asyncio.get_running_loop())
    with timers.limit(60) as limit:
        await asyncio.sleep(0)
    assert not limit.over
    with pytest.raises(TimeoutError), timers.limit(0.001) as limit:
        await asyncio.sleep(60)
    assert limit.over
    with pytest.raises(TimeoutError), timers.limit(60), timers.limit(-1):
        await asyncio.sleep(60)
    with pytest.raises(TimeoutError), timers.limit(0.001), timers.limit(60):
        await asyncio.sleep(60)
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


def test_a_limit_whose_block_has_ended_ends_nothing_more() -> None:
    loop = MemoryLoop()

    async def live() -> None:
        with Timers(loop).limit(10) as limit:
            await asyncio.sleep(1)
        await asyncio.sleep(100)
        assert not limit.over

    loop.run_until_complete(live())
    loop.close()


@pytest.mark.parametrize("also_late", [False, True])
async def test_whoever_is_cancelled_is_cancelled_within_a_limit_too(also_late: bool) -> None:
    limit = Timers(asyncio.get_running_loop()).limit(60)

    async def work() -> None:
        with limit:
            await asyncio.sleep(60)

    task = asyncio.ensure_future(work())
    await asyncio.sleep(0)
    if also_late:
        limit.end()  # both in one turn of the loop
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_limit_can_be_ended_before_its_time_and_ends_once() -> None:
    loop = asyncio.get_running_loop()
    limit = Timers(loop).limit(60)
    for _ in range(2):
        loop.call_soon(limit.end)
    with pytest.raises(TimeoutError), limit:
        await asyncio.sleep(60)
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_an_error_of_the_block_itself_goes_before_its_limit() -> None:
    timers = Timers(asyncio.get_running_loop())

    async def work() -> None:
        with timers.limit(0.001):
            try:
                await asyncio.sleep(60)
            finally:
                raise ValueError("own")

    with pytest.raises(ValueError, match="own"):
        await work()


@pytest.mark.parametrize("length_s", [1.0, 10.0, 600.0])
def test_what_a_cancelled_timer_would_have_called_is_not_kept_by_it(length_s: float) -> None:
    """Who begins a timer often keeps it: together they would wait for a garbage collection."""
    loop = MemoryLoop()

    class Owner:
        timer: Timer

        def end(self) -> None:
            pass

    owner = Owner()
    owner.timer = Timers(loop).after(length_s, owner.end)
    owner.timer.cancel()
    gone = weakref.ref(owner)
    gc.disable()
    try:
        del owner
        assert gone() is None
    finally:
        gc.enable()
        loop.close()
