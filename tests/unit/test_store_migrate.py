"""The migrations make the tables that the code knows, once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Table, select, text

from management.ledger.books import Books
from management.ledger.facts import fact_of
from management.ledger.rebuild import rebuild
from store import database, migrate
from store.database import UnusableDatabase, reading, writing
from store.migrate import upgrade
from store.money_tables import PRICED
from store.prices import Price, PriceList
from store.tables import ENDS, METADATA, USAGE_DAILY
from tests.billing import billed, event, request_data

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

UPGRADE = """
import asyncio, sys
from store import database
from store.migrate import upgrade
from store.money_tables import PRICED
from store.prices import Price, PriceList
asyncio.run(upgrade(database.open(sys.argv[1])))
"""


def _differences(connection: Connection) -> list[object]:
    found: list[object] = compare_metadata(MigrationContext.configure(connection), METADATA)
    return found


async def test_the_migrations_make_exactly_the_tables_of_the_code(database_url: str) -> None:
    engine = database.open(database_url)
    await upgrade(engine)
    await upgrade(engine)
    async with reading(engine) as connection:
        assert await connection.run_sync(_differences) == []
    await engine.dispose()


def test_the_newest_revision_is_the_one_that_upgrades_lead_to() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [migrate.HEAD]


async def test_a_database_of_a_newer_version_is_refused_in_a_sentence(tmp_path: Path) -> None:
    engine = database.open(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
    await upgrade(engine)
    async with writing(engine) as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(UnusableDatabase, match="revision 9999, which a newer version"):
        await upgrade(engine)
    await engine.dispose()


async def test_two_upgrades_in_one_process_do_it_once(tmp_path: Path) -> None:
    engines = [database.open(f"sqlite+aiosqlite:///{tmp_path}/ledger.db") for _ in range(4)]
    await asyncio.gather(*(upgrade(engine) for engine in engines))
    for engine in engines:
        await engine.dispose()


def test_processes_that_start_at_once_migrate_once(database_url: str) -> None:
    command = [sys.executable, "-c", UPGRADE, database_url]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in started:
        _, told = process.communicate()
        assert process.returncode == 0, told


OLD_EVENT = text(
    "INSERT INTO events (position, event_id, type, time_ms, stored_ms, source, subject, request_id,"
    " model, key_id, node, raw)"
    " VALUES (:position, :event_id, :type, :time_ms, 1, 's', 's', :request_id, :model, :key_id, :node, :raw)"
)
OLD_CHARGE = text(
    "INSERT INTO charges (position, request_id, time_ms, model, endpoint, status, stream, prompt_tokens,"
    " completion_tokens, cached_tokens, reasoning_tokens, estimated)"
    " VALUES (:position, :request_id, :time_ms, :model, 'chat/completions', :status, false, 10, 5, 0, 0, false)"
)


async def test_a_ledger_of_the_first_revision_is_carried_over_as_a_rebuild_makes_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = database.open(database_url)
    monkeypatch.setattr(migrate, "HEAD", "0001")
    await upgrade(engine)
    told = [
        event("cost-1", "request.cost", request_data(1)),
        event("dead-1", "request.dead", request_data(1, status="dead")),
        billed(1),
        billed(2, status="cancelled"),
        event("failed-3", "request.failed", request_data(3, status="refused", node=None)),
        event("expired-3", "request.expired", request_data(3, status="expired"), time="2026-03-01T11:00:00Z"),
    ]
    async with writing(engine) as connection:
        for position, payload in enumerate(told, 1):
            fact = fact_of(payload)
            await connection.execute(OLD_EVENT, {"position": position, **fact.event})
            if fact.charge is not None:
                await connection.execute(OLD_CHARGE, {"position": position, **fact.charge})
        await connection.execute(
            text("INSERT INTO usage_daily VALUES ('2026-03-01', 'small', 'key-a', 'node-a', 2, 0, 20, 10, 0, 0, 0, 0)")
        )
    monkeypatch.undo()
    await upgrade(engine)
    filled = await _rows(engine, ENDS, USAGE_DAILY)
    assert [row["status"] for row in filled[0]] == ["answered", "cancelled", "failed"]
    await rebuild(engine, Books(prices=PriceList([Price(model="small", currency="USD", input=10**9, output=10**9)])))
    assert await _rows(engine, ENDS, USAGE_DAILY) == filled
    priced = await _rows(engine, PRICED)
    await rebuild(engine, Books())
    assert await _rows(engine, PRICED) == priced, "what was priced keeps its prices"
    async with reading(engine) as connection:
        assert await connection.run_sync(_differences) == []
    await engine.dispose()


async def _rows(engine: AsyncEngine, *tables: Table) -> list[list[dict[str, Any]]]:
    async with reading(engine) as connection:
        return [
            [dict(row) for row in (await connection.execute(select(table).order_by(*table.primary_key))).mappings()]
            for table in tables
        ]
