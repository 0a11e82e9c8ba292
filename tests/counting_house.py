"""Management inside the test's event loop, on a memory broker that outlives it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
from sqlalchemy import func, select

from broker.memory import MemoryBroker, MemoryServer
from management.role import run
from management.settings import ManagementSettings
from process.settings import load
from store import database
from store.database import reading
from store.tables import CHARGES, USAGE_DAILY
from tests.waiting import until
from wire.topics import LEDGER, Topics

if TYPE_CHECKING:
    from pathlib import Path

    from broker.memory_server import Subscription


class CountingHouse:
    """Starts and ends management; publishes what it shall hear; asks its API."""

    def __init__(self, directory: Path) -> None:
        self.server = MemoryServer(nack_tick_s=0, nack_delay_s=0)
        self.url = f"sqlite+aiosqlite:///{directory}/ledger.db"
        self.path = directory / "ledger.db"
        self.topics = Topics()
        self.stop = asyncio.Event()
        self.ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._broker = MemoryBroker(self.server)
        self._outside = MemoryBroker(self.server)

    @property
    def ledger(self) -> Subscription:
        """The ledger's subscription, as the broker sees it."""
        return self.server.topic(self.topics.results).subscription(LEDGER)

    async def publish(self, *payloads: bytes) -> None:
        """What nodes do."""
        await self._outside.ensure(self.topics.results, LEDGER)
        producer = await self._outside.producer(self.topics.results)
        for payload in payloads:
            await producer.send(payload)
        await producer.aclose()

    async def start(self, *, wait: bool = True, **environment: str) -> None:
        """A fresh management process, as far as the ledger can tell. It listens once this returns."""
        self.stop, self.ready = asyncio.Event(), asyncio.Event()
        self._broker = MemoryBroker(self.server)
        environment = {
            "PULSAR_URL": "memory:",
            "DATABASE_URL": self.url,
            "MANAGEMENT_PORT": "0",
            "LEDGER_RETRY_MS_MAX": "50",
            "LEDGER_BATCH_MS_MAX": "5",
            **environment,
        }
        settings = load(ManagementSettings, environment)
        listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(
            run(settings, self._broker, self.stop, ready=self.ready.set, listening=listening.set_result)
        )
        either: set[asyncio.Future[Any]] = {self._task, listening}
        await asyncio.wait(either, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            self._task.result()
        self.port = listening.result()
        if wait:
            await asyncio.wait_for(self.ready.wait(), 10)

    async def end(self) -> None:
        """End it as a signal would."""
        if self._task is not None:
            self.stop.set()
            await asyncio.wait_for(self._task, 20)
            self._task = None
        await self._broker.aclose()

    async def kill(self) -> None:
        """End its connection and its tasks at once."""
        await self._broker.aclose()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def get(self, path: str, *, method: str = "GET", **headers: str) -> tuple[int, Any]:
        """Ask the API: the status and the JSON, or the text."""
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"http://127.0.0.1:{self.port}{path}", headers=headers) as response,
        ):
            is_json = response.content_type == "application/json"
            return response.status, await response.json() if is_json else await response.text()

    async def settled(self) -> None:
        """Wait until every message is acknowledged."""
        await until(lambda: self.ledger.backlog == 0 and self.ledger.held == 0)

    async def counted(self) -> tuple[int, int]:
        """How many charges there are, and how many the daily sums say."""
        engine = database.open(self.url)
        async with reading(engine) as connection:
            charges = await connection.scalar(select(func.count()).select_from(CHARGES))
            requests = await connection.scalar(select(func.sum(USAGE_DAILY.c.requests)))
        await engine.dispose()
        return charges or 0, requests or 0

    async def act(self, _path: str = "/api/v1/actions", **action: Any) -> tuple[int, Any]:
        """Let an operator do something: the status and what is answered."""
        headers = {name: action.pop(name) for name in ("authorization",) if name in action}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"http://127.0.0.1:{self.port}{_path}", json=action, headers=headers) as response,
        ):
            return response.status, await response.json()
