"""How many tokens prompts have: a gateway asks, the engine counts, beside the requests and without a slot."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from broker.interface import BrokerError
from process.lifecycle import Tasks
from process.logging import Log
from wire.control import COUNT_WAIT_S
from wire.errors import InvalidName
from wire.piece import Counted

if TYPE_CHECKING:
    from wire.control import CountTokens
    from workernode.engine import Engine
    from workernode.uplink import Uplink
    from workernode.uplinks import Uplinks

log = Log("node")

COUNTED_AT_ONCE_MAX = 2
"""Questions that the engine is asked at once: what it counts with is what it answers with."""
QUESTIONS_MAX = 100
"""Questions that may be open, most of them waiting; of one more the gateway hears that it is not counted."""


class PromptCounts:
    """Answers on the line to the gateway that asks."""

    def __init__(self, engine: Engine, uplinks: Uplinks) -> None:
        self._engine = engine
        self._uplinks = uplinks
        self._places = asyncio.Semaphore(COUNTED_AT_ONCE_MAX)
        self._tasks = Tasks(log)

    def take(self, sender: str, question: CountTokens) -> None:
        """Count in the background."""
        if len(self._tasks) < QUESTIONS_MAX:
            self._tasks.start(self._answer(sender, question), "count tokens")
        elif (link := self._uplinks.get(sender)) is not None:
            _say(link, question, None)

    async def aclose(self) -> None:
        """Answer no more."""
        await self._tasks.aclose()

    async def _answer(self, sender: str, question: CountTokens) -> None:
        try:
            link = await self._uplinks.open(sender)
        except (InvalidName, BrokerError):
            return
        try:
            _say(link, question, await self._counted(question.prompts))
        finally:
            link.users -= 1

    async def _counted(self, prompts: list[str]) -> list[int] | None:
        try:
            async with asyncio.timeout(COUNT_WAIT_S), self._places:
                return await self._engine.count(prompts)
        except TimeoutError:
            return None


def _say(link: Uplink, question: CountTokens, tokens: list[int] | None) -> None:
    link.push(Counted(question_id=question.question_id, tokens=tokens), urgent=True)
