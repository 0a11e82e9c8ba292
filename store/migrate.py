"""Brings the schema up to date. Any process may do it at its start; two at once do it once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect, text
from sqlalchemy.exc import OperationalError

from store import database
from store.database import UnusableDatabase, reading, writing

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

HEAD = "0008"
"""The newest revision in ``migrations/versions``."""
_MIGRATIONS = Path(__file__).parent / "migrations"
_ADVISORY_LOCK = 0x776F726B  # any number, the same in every process
_LOCKED_RETRY_S = 0.05


async def upgrade(engine: AsyncEngine) -> None:
    """Run what is missing, all in one transaction that other processes wait for.

    Raises :class:`UnusableDatabase` for one that a newer version made, and the database's own errors.
    """
    if engine.dialect.name == "sqlite":
        await _use_wal(engine)
    async with reading(engine) as connection:
        # Nearly always there is nothing to do, and alembic costs 8 MB and a quarter of a second.
        if await connection.run_sync(_revision) == HEAD:
            return
    async with writing(engine) as connection:
        # SQLite's write lock is held from BEGIN IMMEDIATE on; PostgreSQL needs a lock with a name.
        if engine.dialect.name == "postgresql":
            await connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _ADVISORY_LOCK})
        await connection.run_sync(_run)


async def revision(engine: AsyncEngine) -> str | None:
    """What the database has been brought up to; None before the first time. Revisions are ordered as texts."""
    async with reading(engine) as connection:
        return await connection.run_sync(_revision)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def _run(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    # A % would be read as an interpolation by alembic's configuration.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, HEAD)
    except CommandError:
        raise UnusableDatabase(
            f"this database is of revision {_revision(connection)}, which a newer version of this program made; "
            "start that version, or name another database"
        ) from None


async def _use_wal(engine: AsyncEngine) -> None:
    """Let readers and the one writer work at the same time. The file remembers it.

    SQLite does not wait for ``busy_timeout`` when two processes change the journal mode at once, so we do.
    """
    deadline = time.monotonic() + database.BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            async with engine.execution_options(begin="").connect() as connection:
                await connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            return
        except OperationalError:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(_LOCKED_RETRY_S)
