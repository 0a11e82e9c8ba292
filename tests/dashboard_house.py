"""Management with a month of data behind its dashboard, and nodes whose hearts beat while it runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from process.identity import now_ms
from tests.counting_house import CountingHouse
from tests.sample_ledger import PRICES, SampleLedger, add_keys_and_budgets
from tests.waiting import until
from wire import codec

if TYPE_CHECKING:
    from pathlib import Path

    from wire.backlog import BacklogReport
    from wire.presence import Presence

BEAT_S = 2.0
KEY = "key-of-the-house"


class DashboardHouse(CountingHouse):
    """``sample`` is what it was told."""

    def __init__(self, directory: Path, *, requests: int = 120) -> None:
        super().__init__(directory)
        self._directory = directory
        self.sample = SampleLedger(now_ms(), requests=requests)
        self._beating: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """Where its pages are."""
        return f"http://127.0.0.1:{self.port}"

    async def open(self, **environment: Any) -> None:
        """Start it, tell it everything, and wait until all of it is stored."""
        prices = self._directory / "prices.toml"
        prices.write_text(PRICES)
        await self.start(PRICES_FILE=str(prices), STORE_PROMPTS="true", **environment)
        await add_keys_and_budgets(self.url, self.sample.now_ms)
        await self.publish(*self.sample.events())
        self._beating = asyncio.create_task(self._beat())
        await self.settled()
        await until(self._hears_all)
        for report in self.sample.backlogs():
            await self._tell(self.topics.backlog, report)

    async def end(self) -> None:
        """End it and its nodes."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        await super().end()

    async def tell_presence(self, *presences: Presence) -> None:
        """One heartbeat of each."""
        await self._tell(self.topics.presence, *presences)

    async def _tell(self, topic: str, *words: Presence | BacklogReport) -> None:
        producer = await self._outside.producer(topic)
        for word in words:
            await producer.send(codec.encode(word))
        await producer.aclose()

    async def _beat(self) -> None:
        while True:
            await self.tell_presence(*self.sample.presences())
            await asyncio.sleep(BEAT_S)

    async def _hears_all(self) -> bool:
        _, answer = await self.get("/api/v1/nodes?gone=0", authorization=f"Bearer {KEY}")
        return len(answer["data"]) == len(self.sample.presences())
