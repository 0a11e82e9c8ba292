"""The ledger on a real Pulsar broker."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from broker.open import open_broker
from management.role import run
from management.settings import ManagementSettings
from process.settings import load
from store import database
from store.database import reading
from store.tables import CHARGES, QUARANTINE
from tests.billing import billed
from tests.waiting import until
from wire.topics import LEDGER

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Table

pytestmark = pytest.mark.pulsar


async def test_a_ledger_that_was_killed_charges_each_request_once(pulsar_url: str, tmp_path: Path) -> None:
    settings = load(
        ManagementSettings,
        {
            "PULSAR_URL": pulsar_url,
            "RES_TOPIC_NAME": f"results-{secrets.token_hex(6)}",
            "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/ledger.db",
            "MANAGEMENT_PORT": "0",
        },
    )
    outside = open_broker(pulsar_url)
    await outside.ensure(settings.topics.results, LEDGER)
    producer = await outside.producer(settings.topics.results, gather_ms=5)
    payloads = [billed(number) for number in range(300)]
    await asyncio.gather(*(producer.send(payload) for payload in [*payloads[:200], b"garbage"]))
    engine = database.open(settings.database_url.get_secret_value())

    async def count(table: Table) -> int:
        async with reading(engine) as connection:
            found = await connection.scalar(select(func.count()).select_from(table))
        return found or 0

    async def has_charges(least: int) -> bool:
        return await count(CHARGES) >= least

    first = open_broker(pulsar_url)
    ready = asyncio.Event()
    killed = asyncio.create_task(run(settings, first, asyncio.Event(), ready=ready.set))
    await asyncio.wait_for(ready.wait(), 20)
    await until(lambda: has_charges(100), within_s=20)
    killed.cancel()
    await asyncio.gather(killed, return_exceptions=True)
    await first.aclose()

    await asyncio.gather(*(producer.send(payload) for payload in payloads[150:]))
    second, stop = open_broker(pulsar_url), asyncio.Event()
    running = asyncio.create_task(run(settings, second, stop))
    await until(lambda: has_charges(300), within_s=20)
    assert await count(QUARANTINE) == 1
    stop.set()
    await asyncio.wait_for(running, 20)
    assert await count(CHARGES) == 300
    for broker in (second, outside):
        await broker.aclose()
    await engine.dispose()
