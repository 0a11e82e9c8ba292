"""When a node takes work, and what it shows and tells of it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from tests.waiting import until
from wire.errors import ErrorBody
from wire.usage import Usage
from workernode.gate import Unpaced
from workernode.intake import LIMITED, SHIFT_MS, Intake
from workernode.outcome import Answered, Later


class Shown:
    """A heartbeat that remembers what it was told."""

    def __init__(self) -> None:
        self.states: list[tuple[Any, ...]] = []

    def become(self, *state: Any) -> None:
        self.states.append(state)

    def last(self) -> tuple[Any, ...]:
        return self.states[-1]


class Pace(Unpaced):
    """Does what a test says."""

    nodes = 1

    def __init__(self) -> None:
        self.held_s: float | None = None
        self.renewed = False
        self.news: str | None = None
        self.changed: Any = None

    def renew(self) -> bool:
        return self.renewed

    def tick(self) -> str | None:
        return self.news


@pytest.fixture
def shown() -> Shown:
    return Shown()


@pytest.fixture
def told() -> list[str]:
    return []


def intake(shown: Shown, told: list[str] | None = None, pace: Any = None) -> Intake:
    events = [] if told is None else told

    async def publish(event: str) -> None:
        events.append(event)

    recorder: Any = SimpleNamespace(node_event=lambda kind, *_, **__: kind, publish=publish)
    made = Intake(recorder, pace)
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


async def test_trouble_is_told_once_however_often_it_is_met_again(shown: Shown, told: list[str]) -> None:
    made = intake(shown, told)
    refused = Later(ErrorBody(code="upstream_quota_exhausted", message="Empty."))
    for _ in range(3):
        made.judge(refused, trying=True)
    made.judge(Answered(Usage()), trying=True)
    await until(lambda: "node.recovered" in told)
    assert told == ["node.quota_exhausted", "node.recovered"]
    await made.aclose()


async def test_a_new_key_is_tried_at_once_and_only_where_the_old_one_was_the_trouble(shown: Shown) -> None:
    for code, tries in (
        ("upstream_authentication_failed", True),
        ("upstream_quota_exhausted", True),
        ("upstream_model_unknown", False),
    ):
        pace = Pace()
        made = intake(shown, pace=pace)
        made.judge(Later(ErrorBody(code=code, message="No.", retry_after_ms=600_000)), trying=False)
        waiting = asyncio.ensure_future(made.gate.enter())
        pace.renewed = True
        made.tend()
        done, _ = await asyncio.wait({waiting}, timeout=5 if tries else 0.05)
        assert bool(done) == tries
        waiting.cancel()
        await made.aclose()


async def test_a_limit_is_shown_and_told_from_its_beginning_to_its_end(
    shown: Shown, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workernode.intake.now_ms", lambda: 1_000_000)
    pace = Pace()
    made = intake(shown, told, pace)
    pace.held_s, pace.news = 30.0, "limited"
    made.tend()
    state, sentence, until_ms = shown.last()
    assert (state, sentence) == ("rate_limited", LIMITED)
    # One that moves by little is no change to tell, one that moves by much is.
    pace.news, pace.held_s = None, 30.0 + SHIFT_MS / 2000
    made.tend()
    assert shown.last() == (state, sentence, until_ms)
    pace.held_s = 60.0
    made.tend()
    assert shown.last()[2] > until_ms + SHIFT_MS
    pace.held_s, pace.news = None, "recovered"
    made.tend()
    assert shown.last() == ("ready",)
    await until(lambda: len(told) == 2)
    assert told == ["node.rate_limited", "node.recovered"]
    await made.aclose()
