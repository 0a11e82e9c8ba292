"""What fails once, in a way that nobody foresaw, is done again: a process lives for months."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from gateway.metrics import GatewayMetrics
from gateway.models.register import Models
from gateway.queue.backlog import Backlog
from gateway.requests.acceptances import Acceptances
from tests.chaos.asked import Asked
from tests.simulation.client import ask, body_of, headers_of
from tests.simulation.connection import Connection
from tests.simulation.fleet import KEY, MODEL, SLOTS, Fleet
from tests.simulation.logged import Logged
from tests.simulation.seams import replaced
from tests.simulation.virtual_loop import VirtualLoop
from tests.simulation.weather import Weather
from tests.waiting import until
from workernode.attempt import Attempt
from workernode.heartbeat import Heartbeat
from workernode.uplinks import Uplinks


def test_an_attempt_that_fails_unforeseen_costs_neither_its_request_nor_its_slot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = 0
    real = Attempt.run

    async def fails_at_first(attempt: Attempt, **kwargs: Any) -> Any:
        nonlocal runs
        runs += 1
        if runs <= SLOTS:
            raise OverflowError
        return await real(attempt, **kwargs)

    monkeypatch.setattr(Attempt, "run", fails_at_first)
    loop = VirtualLoop()

    async def one_request() -> None:
        fleet = Fleet(loop, 1, Weather(), continues=False, traced=False)
        fleet.clerk.rough = fleet.provider.rough = False
        logged.trace = fleet.trace
        with replaced(fleet):
            for role in ("gateway", "node"):
                fleet.start(fleet.add(role))
            await fleet.known()
            (life,) = fleet.serving()
            body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
            asked = Asked(1, body, life.name, 60.0, loop.now, short=False, hang_up_after=None)
            connection = Connection(loop, Random(1), life, headers_of(asked, KEY), body_of(asked), slow=False)
            await ask(fleet, connection, asked, None)
            assert (asked.status, runs) == (200, SLOTS + 1)
            await until(lambda: fleet.workers.permits == SLOTS)
            await fleet.close()

    with Logged(traced=False) as logged:
        try:
            loop.run_until_complete(one_request())
        finally:
            loop.close()
    assert len(logged.faults) == SLOTS


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Models, "forget_the_silent"),
        (Backlog, "forget_the_silent"),
        (Backlog, "report"),
        (Acceptances, "tell"),
        (GatewayMetrics, "take_refusals"),
        (Uplinks, "close_idle"),
        (Heartbeat, "presence"),
    ],
)
def test_what_a_process_does_again_and_again_survives_one_fault(
    owner: type, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    real = getattr(owner, name)

    def fails_once(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OverflowError
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, fails_once)
    loop = VirtualLoop()

    async def some_minutes() -> None:
        fleet = Fleet(loop, 1, Weather(), continues=False, traced=False)
        logged.trace = fleet.trace
        with replaced(fleet):
            for role in ("gateway", "node"):
                fleet.start(fleet.add(role))
            await asyncio.sleep(200)
            before = calls
            await asyncio.sleep(70)
            assert before >= 2
            assert calls > before
            assert len(fleet.serving()) == 1
            await fleet.close()

    with Logged(traced=False) as logged:
        try:
            loop.run_until_complete(some_minutes())
        finally:
            loop.close()
    assert ["OverflowError" in fault for fault in logged.faults] == [True]
