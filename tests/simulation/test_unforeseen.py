"""What fails once, in a way that nobody foresaw, is done again: a process lives for months."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.metrics import GatewayMetrics
from gateway.models.register import Models
from gateway.queue.backlog import Backlog
from gateway.requests.acceptances import Acceptances
from tests.simulation.fleet import Fleet
from tests.simulation.logged import Logged
from tests.simulation.seams import replaced
from tests.simulation.virtual_loop import VirtualLoop
from tests.simulation.weather import Weather
from workernode.heartbeat import Heartbeat
from workernode.uplinks import Uplinks


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
