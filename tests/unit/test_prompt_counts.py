"""A node that is asked to count: so many at once, so many waiting, and an answer for the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

import workernode.prompt_counts
from broker.interface import BrokerUnavailable
from tests.scripted_engine import ScriptedEngine
from tests.waiting import until
from wire.control import CountTokens
from wire.errors import InvalidName
from workernode.prompt_counts import COUNTED_AT_ONCE_MAX, QUESTIONS_MAX, PromptCounts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from wire.piece import Counted

GATEWAY = "gateway-1"


class FakeLink:
    def __init__(self) -> None:
        self.users = 0
        self.said: list[Counted] = []

    def push(self, frame: Counted, *, urgent: bool) -> None:
        assert urgent
        self.said.append(frame)


class FakeUplinks:
    """One line, once it was opened."""

    def __init__(self) -> None:
        self.link = FakeLink()
        self.fails: Exception | None = None
        self.tried = 0
        self._opened = False

    async def open(self, gateway: str) -> FakeLink:
        self.tried += 1
        if self.fails is not None:
            raise self.fails
        self._opened = True
        self.link.users += 1
        return self.link

    def get(self, gateway: str) -> FakeLink | None:
        return self.link if self._opened else None


class CountingEngine(ScriptedEngine):
    """Counts words once it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()
        self.at_once = self.most = 0

    async def count(self, prompts: Sequence[str]) -> Any:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await self.may.wait()
        finally:
            self.at_once -= 1
        return [len(prompt.split()) for prompt in prompts]


class Desk:
    def __init__(self) -> None:
        self.engine, self.uplinks = CountingEngine(), FakeUplinks()
        uplinks: Any = self.uplinks
        self.counts = PromptCounts(self.engine, uplinks)
        self.asked = 0

    def ask(self, *prompts: str, sender: str = GATEWAY) -> str:
        self.asked += 1
        question = CountTokens(question_id=f"qst_{self.asked}", prompts=list(prompts))
        self.counts.take(sender, question)
        return question.question_id

    @property
    def said(self) -> dict[str, list[int] | None]:
        return {each.question_id: each.tokens for each in self.uplinks.link.said}


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    yield made
    await made.counts.aclose()
    assert made.uplinks.link.users == 0


async def test_each_question_is_answered_and_only_some_are_counted_at_once(desk: Desk) -> None:
    asked = [desk.ask("one", "two " * number) for number in range(10)]
    await until(lambda: desk.engine.at_once)
    assert desk.said == {}
    desk.engine.may.set()
    await until(lambda: len(desk.said) == 10)
    assert desk.said == {question_id: [1, number] for number, question_id in enumerate(asked)}
    assert desk.engine.most == COUNTED_AT_ONCE_MAX


async def test_of_a_question_too_many_is_said_at_once_that_it_is_not_counted(desk: Desk) -> None:
    for _ in range(QUESTIONS_MAX):
        desk.ask("a")
    await until(lambda: desk.engine.at_once == COUNTED_AT_ONCE_MAX)
    extra = desk.ask("a")
    assert desk.said == {extra: None}
    desk.engine.may.set()
    await until(lambda: len(desk.said) == QUESTIONS_MAX + 1)


async def test_what_takes_too_long_is_not_counted_and_gives_its_place_to_another(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workernode.prompt_counts, "COUNT_WAIT_S", 0.02)
    asked = [desk.ask("a") for _ in range(COUNTED_AT_ONCE_MAX)]
    await until(lambda: len(desk.said) == len(asked))
    assert set(desk.said.values()) == {None}
    assert desk.engine.at_once == 0
    desk.engine.may.set()
    later = desk.ask("a b")
    await until(lambda: desk.said.get(later) == [2])


@pytest.mark.parametrize("why", [InvalidName(), BrokerUnavailable()])
async def test_who_cannot_be_answered_is_not_counted_for(
    desk: Desk, why: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    desk.engine.may.set()
    desk.uplinks.fails = why
    desk.ask("a", sender="../x")
    await until(lambda: desk.uplinks.tried == 1)
    desk.uplinks.fails = None
    answered = desk.ask("a")
    await until(lambda: desk.said == {answered: [1]})
    assert desk.engine.most == 1
    assert caplog.records == []
