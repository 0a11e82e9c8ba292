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
from sqlalchemy import Connection, select, text

from management.journal import read, write
from management.rebuild import rebuild
from store import database, migrate
from store.database import UnusableDatabase, reading, writing
from store.migrate import upgrade
from store.tables import ENDS, METADATA
from tests.billing import billed, event, request_data

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

UPGRADE = """
import asyncio, sys
from store import database
from store.migrate import upgrade
asyncio.run(upgrade(database.open(sys.argv[1])))
"""


def _differences(connection: Connection) -> list[object]:
    found: list[object] = compare_metadata(MigrationContext.configure(connection), METADATA)
    return found


async def test_the_migrations_make_exactly_the_tables_of_the_code(tmp_path: Path) -> None:
    engine = database.open(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
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


def test_processes_that_start_at_once_migrate_once(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/ledger.db"
    command = [sys.executable, "-c", UPGRADE, url]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in started:
        _, told = process.communicate(timeout=60)
        assert process.returncode == 0, told


async def test_ends_of_events_that_were_there_before_are_those_of_a_rebuild(tmp_path: Path) -> None:
    engine = database.open(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
    await upgrade(engine)
    told = [
        event("cost-1", "request.cost", request_data(1)),
        event("dead-1", "request.dead", request_data(1, status="dead")),
        billed(1),
        billed(2, status="cancelled"),
        event("failed-3", "request.failed", request_data(3, status="refused", node=None)),
    ]
    await write(engine, [read(payload) for payload in told], now_ms=1)
    async with writing(engine) as connection:
        for later in ("ends", "api_keys", "api_keys_version"):
            await connection.execute(text(f"DROP TABLE {later}"))
        await connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    await upgrade(engine)
    filled = await _ends(engine)
    assert [row["status"] for row in filled] == ["dead", "cancelled", "failed"]
    await rebuild(engine)
    assert await _ends(engine) == filled
    await engine.dispose()


async def _ends(engine: AsyncEngine) -> list[dict[str, Any]]:
    async with reading(engine) as connection:
        rows = await connection.execute(select(ENDS).order_by(ENDS.c.request_id))
        return [dict(row) for row in rows.mappings()]
