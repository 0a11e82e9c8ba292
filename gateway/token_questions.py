"""Asks nodes how many tokens prompts have: one node, once, with a limit of time and of bytes."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING

from process.identity import new_question_id
from process.logging import Log
from wire.control import COUNT_BYTES_MAX, COUNT_WAIT_S, CountTokens
from wire.errors import InvalidName

if TYPE_CHECKING:
    from gateway.models.register import Models
    from gateway.requests.line import Lines
    from wire.piece import Counted

log = Log("gateway")

ASKED_BYTES_MAX = 4 * COUNT_BYTES_MAX
"""Of the prompts that are being counted at once: they travel where nodes hear of their requests."""


class TokenQuestions:
    """The questions of one gateway that are open."""

    def __init__(self, lines: Lines, models: Models) -> None:
        self._lines = lines
        self._models = models
        self._open: dict[str, tuple[str, asyncio.Future[Counted]]] = {}
        self._bytes = 0
        self._turns = count()
        lines.counted = self._heard

    def __repr__(self) -> str:
        return f"<TokenQuestions {len(self._open)} bytes={self._bytes}>"

    async def count(self, model: str, prompts: list[str]) -> list[int] | None:
        """How many tokens each prompt is for this model, in their order.

        None if that is too much to ask, or no node is there that counts, or it does not in time.
        """
        nodes = self._models.counting(model)
        size = sum(len(prompt.encode()) for prompt in prompts)
        if not nodes or size > COUNT_BYTES_MAX or self._bytes + size > ASKED_BYTES_MAX:
            return None
        self._bytes += size
        try:
            told = await self._asked(nodes[next(self._turns) % len(nodes)], prompts)
        finally:
            self._bytes -= size
        return told if told is not None and len(told) == len(prompts) else None

    async def _asked(self, node: str, prompts: list[str]) -> list[int] | None:
        question_id = new_question_id()
        answer: asyncio.Future[Counted] = asyncio.get_running_loop().create_future()
        self._open[question_id] = node, answer
        try:
            async with asyncio.timeout(COUNT_WAIT_S):
                await self._lines.line(node).say_alone(CountTokens(question_id=question_id, prompts=prompts))
                return (await answer).tokens
        except (TimeoutError, InvalidName):
            log.info("A node was asked to count tokens, and did not.", action="count_unanswered", node=node)
            return None
        finally:
            del self._open[question_id]

    def _heard(self, node: str, counted: Counted) -> None:
        """A node answers. What was not asked of it is none of its business."""
        asked, answer = self._open.get(counted.question_id, (None, None))
        if answer is not None and asked == node and not answer.done():
            answer.set_result(counted)
