"""What a process of a gateway tells the first one and hears of it; none of the places it takes is kept by nobody."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, Counter

from gateway.processes.channel import AllFigures, AllReady, Ask, AskAll, Channel, Enter, Entered, Figures, Leave, Ready
from gateway.processes.figures import Family, Sample, collected
from gateway.processes.sibling import Sibling
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def paired() -> AsyncIterator[tuple[Sibling, Channel]]:
    """A process, and what the first one holds of it."""
    theirs, ours = socket.socketpair()
    with socket.socket() as listener:
        channel, first = await Channel.over(theirs), await Channel.over(ours)
        sibling = Sibling(listener, channel, is_late=False)
        hearing = asyncio.ensure_future(sibling.listen())
        yield sibling, first
        first.close()
        await hearing
        channel.close()


async def test_answers_go_to_who_asked_in_their_order() -> None:
    async with paired() as (sibling, first):
        asking = [asyncio.ensure_future(sibling.enter(name, 1)) for name in "abc"]
        assert [await first.hear() for _ in asking] == [Enter(name, 1) for name in "abc"]
        for may in (True, False, True):
            first.say(Entered(may))
        assert await asyncio.gather(*asking) == [True, False, True]


async def test_a_place_that_is_given_to_who_has_gone_is_given_back() -> None:
    async with paired() as (sibling, first):
        asking = [asyncio.ensure_future(sibling.enter(name, 1)) for name in "ab"]
        assert await first.hear() == Enter("a", 1)
        assert await first.hear() == Enter("b", 1)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        first.say(Entered(False))
        first.say(Entered(True))
        assert await first.hear() == Leave("b")


async def test_a_place_that_is_given_at_the_moment_of_leaving_is_given_back() -> None:
    async with paired() as (sibling, first):
        asking = asyncio.ensure_future(sibling.enter("a", 1))
        assert await first.hear() == Enter("a", 1)
        ((_, entered),) = sibling._entering
        entered.add_done_callback(lambda _: asking.cancel())
        first.say(Entered(True))
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await first.hear() == Leave("a")


async def test_nobody_waits_long_for_a_place_nor_for_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.processes.sibling.ENTER_WAIT_S", 0.05)
    monkeypatch.setattr("gateway.processes.sibling.FIGURES_WAIT_S", 0.05)
    async with paired() as (sibling, first):
        assert await sibling.enter("a", 1) is None
        assert await first.hear() == Enter("a", 1)
        first.say(Entered(True))
        assert await first.hear() == Leave("a")
        with pytest.raises(TimeoutError):
            await sibling.figures()
        assert await first.hear() == AskAll()


async def test_it_tells_that_it_is_ready_and_hears_when_all_are() -> None:
    async with paired() as (sibling, first):
        sibling.tell_ready()
        assert await first.hear() == Ready()
        assert not sibling.all_ready
        first.say(AllReady())
        await until(lambda: sibling.all_ready)


async def test_it_answers_each_question_with_what_it_has_counted_by_then() -> None:
    async with paired() as (sibling, first):
        first.say(Ask())
        assert await first.hear() == Figures([]), "it has only begun, and lives"
        sibling.registry = CollectorRegistry()
        counter = Counter("served", "Requests.", registry=sibling.registry)
        for _ in range(2):
            counter.inc()
            first.say(Ask())
            assert await first.hear() == Figures(collected(sibling.registry))


def families(value: float) -> list[Family]:
    return [Family("served", "Requests.", "counter", [Sample("served_total", {}, value)])]


async def test_of_those_who_want_the_figures_of_all_one_asks_at_a_time() -> None:
    async with paired() as (sibling, first):
        asking = [asyncio.ensure_future(sibling.figures()) for _ in range(2)]
        for value in (1.0, 2.0):
            assert await first.hear() == AskAll()
            assert sum(task.done() for task in asking) == value - 1
            first.say(AllFigures(families(value)))
        assert [b"served_total 1.0" in await asking[0], b"served_total 2.0" in await asking[1]] == [True, True]
        first.say(AllFigures(families(3.0)))  # nobody waits for these any more
        first.say(Ask())
        assert await first.hear() == Figures([])
