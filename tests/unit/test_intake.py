"""A node that is paused tries nothing, and goes on as it would have when it is resumed."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from wire.errors import ErrorBody
from wire.usage import Usage
from workernode.intake import Intake
from workernode.outcome import Answered, Later


class Shown:
    """A heartbeat that remembers what it was told."""

    def __init__(self) -> None:
        self.states: list[tuple[Any, ...]] = []

    def become(self, *state: Any) -> None:
        self.states.append(state)

    def last(self) -> tuple[Any, ...]:
        return self.states[-1]


@pytest.fixture
def shown() -> Shown:
    return Shown()


def intake(shown: Shown) -> Intake:
    async def publish(_: bytes) -> None:
        return None

    recorder: Any = SimpleNamespace(node_event=lambda *_, **__: b"", publish=publish)
    made = Intake(recorder)
    heartbeat: Any = shown
    made.start(heartbeat)
    return made


async def test_one_that_is_paused_in_trouble_tries_only_once_it_is_resumed(shown: Shown) -> None:
    made = intake(shown)
    refused = Later(ErrorBody(code="upstream_quota_exhausted", message="Empty.", retry_after_ms=1))
    made.judge(refused, trying=False)
    made.pause("Paused by alice.")
    assert shown.last() == ("paused", "Paused by alice.")
    waiting = asyncio.ensure_future(made.gate.enter())
    assert made._try_again is not None
    made._try_again.cancel()
    made._try()  # what its timer does
    await asyncio.sleep(0)
    assert not waiting.done()
    made.resume()
    assert shown.last()[0] == "quota_exhausted"
    assert await asyncio.wait_for(waiting, 5) is True
    made.judge(refused, trying=True)
    made.judge(Answered(Usage()), trying=True)
    assert shown.last() == ("ready",)
    assert made._try_again.cancelled()  # it would let one in past the pace
    await made.aclose()


async def test_one_that_is_paused_before_it_starts_starts_paused(shown: Shown) -> None:
    recorder: Any = None
    made = Intake(recorder)
    made.pause("Its model is paused.")
    heartbeat: Any = shown
    made.start(heartbeat)
    assert shown.states == [("paused", "Its model is paused.")]
    assert not made.gate.is_open
    await made.aclose()
