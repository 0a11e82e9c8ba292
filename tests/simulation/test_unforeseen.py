"""What fails once, in a way that nobody foresaw, is done again: a process lives for months."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.metrics import GatewayMetrics
from gateway.models.register import Models
from gateway.queue.backlog import Backlog
from gateway.requests.acceptances import Acceptances
from tests.simulation.fleet import SLOTS, Fleet
from tests.simulation.small_fleet import answered, simulated
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

    async def one_request(fleet: Fleet) -> None:
        asked = await answered(fleet)
        assert (asked.status, runs) == (200, SLOTS + 1)
        await until(lambda: fleet.workers.permits == SLOTS)

    assert len(simulated(one_request, "gateway", "node")) == SLOTS


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

    async def some_minutes(fleet: Fleet) -> None:
        await asyncio.sleep(200)
        before = calls
        await asyncio.sleep(70)
        assert before >= 2
        assert calls > before
        assert len(fleet.serving()) == 1

    assert ["OverflowError" in fault for fault in simulated(some_minutes, "gateway", "node")] == [True]
