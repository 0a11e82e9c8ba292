"""Time that jumps, and processes that die or stand still in it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from tests.simulation.life import Life
from tests.simulation.virtual_loop import BEGIN_S, Stuck, VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.close()


def test_an_hour_of_waiting_takes_no_time(loop: VirtualLoop) -> None:
    began = time.process_time()
    loop.run_until_complete(asyncio.sleep(3600))
    assert loop.time() == BEGIN_S + 3600
    assert time.process_time() - began < 1.0


def test_timers_of_one_moment_run_in_the_order_of_their_setting(loop: VirtualLoop) -> None:
    ran: list[int] = []
    for number in range(20):
        loop.call_at(BEGIN_S + 1.0, ran.append, number)
    loop.run_until_complete(asyncio.sleep(2))
    assert ran == list(range(20))


def test_waiting_for_nothing_is_an_error_and_not_a_hang(loop: VirtualLoop) -> None:
    waiting = loop.create_future()
    with pytest.raises(Stuck):
        loop.run_until_complete(waiting)


def test_there_are_no_threads(loop: VirtualLoop) -> None:
    with pytest.raises(RuntimeError, match="no threads"):
        loop.run_until_complete(asyncio.to_thread(time.time))


def test_a_dead_process_runs_nothing_more_not_even_its_clean_up(loop: VirtualLoop) -> None:
    told: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(1)
            told.append("worked")
            await asyncio.sleep(1)
        finally:
            told.append("cleaned up")

    life = Life(loop, "node", "node-0.0")
    life.on_death.append(lambda: told.append("the world noticed"))
    task = life.start(work(), "work")
    loop.call_later(1.5, life.die)
    loop.run_until_complete(asyncio.sleep(100))
    assert told == ["worked", "the world noticed"]
    assert life.died_at == BEGIN_S + 1.5
    life.bury()
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))


def test_a_frozen_process_goes_on_where_it_stood(loop: VirtualLoop) -> None:
    ticks: list[float] = []

    async def tick() -> None:
        for _ in range(4):
            await asyncio.sleep(1)
            ticks.append(loop.time() - BEGIN_S)

    life = Life(loop, "node", "node-0.0")
    task = life.start(tick(), "tick")
    loop.call_later(1.5, life.freeze, 10.0)
    loop.run_until_complete(task)
    assert ticks == pytest.approx([1.0, 11.5, 12.5, 13.5])
