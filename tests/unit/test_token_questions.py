"""What a gateway asks nodes about tokens: one node, once, and no more at a time than the topics bear."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

import gateway.token_questions
from gateway.token_questions import ASKED_BYTES_MAX, TokenQuestions
from tests.waiting import until
from wire.control import COUNT_BYTES_MAX, CountTokens
from wire.errors import InvalidName
from wire.piece import Counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from wire.control import Word

NODES = ["node-a", "node-b"]


class FakeLines:
    """Keeps what is said, and to whom."""

    def __init__(self) -> None:
        self.counted: Callable[[str, Counted], None] = lambda *_: None
        self.said: list[tuple[str, CountTokens]] = []
        self.may = asyncio.Event()
        self.may.set()

    def line(self, node: str) -> FakeLine:
        if "/" in node:
            raise InvalidName
        return FakeLine(self, node)


class FakeLine:
    def __init__(self, lines: FakeLines, node: str) -> None:
        self._lines, self._node = lines, node

    async def say_alone(self, word: Word) -> None:
        assert isinstance(word, CountTokens)
        await self._lines.may.wait()
        self._lines.said.append((self._node, word))


class FakeModels:
    def __init__(self, *nodes: str) -> None:
        self.nodes = list(nodes)

    def counting(self, model: str) -> list[str]:
        return self.nodes


class Desk:
    """Questions and what is heard of them."""

    def __init__(self, *nodes: str) -> None:
        self.lines = FakeLines()
        lines: Any = self.lines
        models: Any = FakeModels(*nodes)
        self.questions = TokenQuestions(lines, models)

    def ask(self, *prompts: str) -> asyncio.Task[list[int] | None]:
        return asyncio.ensure_future(self.questions.count("m", list(prompts)))

    async def asked(self, count: int = 1) -> tuple[str, CountTokens]:
        """The latest of so many questions."""
        await until(lambda: len(self.lines.said) >= count)
        return self.lines.said[-1]

    def hear(self, node: str, question: CountTokens, *tokens: int) -> None:
        self.lines.counted(node, Counted(question_id=question.question_id, tokens=list(tokens)))


async def test_one_node_is_asked_and_its_answer_taken_once() -> None:
    desk = Desk(*NODES)
    asking = desk.ask("a", "b c")
    node, question = await desk.asked()
    assert question.prompts == ["a", "b c"]
    desk.hear(next(each for each in NODES if each != node), question, 9, 9)
    desk.hear(node, question, 1, 2)
    desk.hear(node, question, 3, 4)
    assert await asking == [1, 2]
    desk.hear(node, question, 5, 6)
    assert len(desk.lines.said) == 1
    assert repr(desk.questions) == "<TokenQuestions 0 bytes=0>"


async def test_nodes_take_turns_so_that_one_that_is_dead_does_not_cost_every_count() -> None:
    desk = Desk(*NODES)
    asking = [desk.ask("a") for _ in range(4)]
    await desk.asked(4)
    assert [node for node, _ in desk.lines.said] == NODES * 2
    for node, question in desk.lines.said:
        desk.hear(node, question, 1)
    assert await asyncio.gather(*asking) == [[1]] * 4


@pytest.mark.parametrize("tokens", [None, [], [1], [1, 2, 3]])
async def test_an_answer_without_a_number_for_each_prompt_is_none(tokens: list[int] | None) -> None:
    desk = Desk(*NODES)
    asking = desk.ask("a", "b c")
    node, question = await desk.asked()
    desk.lines.counted(node, Counted(question_id=question.question_id, tokens=tokens))
    assert await asking is None


async def test_nobody_is_asked_where_no_node_counts_or_its_name_cannot_be() -> None:
    for desk in (Desk(), Desk("../x")):
        assert await desk.ask("a") is None
        assert desk.lines.said == []


async def test_bytes_are_bounded_for_one_question_and_for_all_that_are_open() -> None:
    desk = Desk(*NODES)
    assert await desk.ask("ö" * (COUNT_BYTES_MAX // 2), "a") is None
    whole = "a" * COUNT_BYTES_MAX
    most = ASKED_BYTES_MAX // COUNT_BYTES_MAX
    asking = [desk.ask(whole) for _ in range(most)]
    node, question = await desk.asked(most)
    assert await desk.ask("a") is None
    desk.hear(node, question, 7)
    await until(lambda: any(each.done() for each in asking))
    asking.append(desk.ask(whole))
    await desk.asked(most + 1)
    for node, question in desk.lines.said:
        desk.hear(node, question, 7)
    assert await asyncio.gather(*asking) == [[7]] * (most + 1)


async def test_a_question_that_cannot_be_said_in_time_is_never_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.token_questions, "COUNT_WAIT_S", 0.02)
    desk = Desk(*NODES)
    desk.lines.may.clear()
    assert await desk.ask("a" * COUNT_BYTES_MAX) is None
    desk.lines.may.set()
    monkeypatch.undo()
    asking = desk.ask("b")
    node, question = await desk.asked()
    assert question.prompts == ["b"]
    desk.hear(node, question, 1)
    assert await asking == [1]
