"""Opening databases: which URLs are taken, and what SQLite is told."""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import DataError, IntegrityError, OperationalError

from store import database
from store.database import SILENCE_S, UnusableDatabase, is_contents_fault, reading, writing
from store.migrate import upgrade
from store.tables import QUARANTINE

if TYPE_CHECKING:
    from pathlib import Path

ROW = {"digest": "d", "size_bytes": 1, "reason": "nul", "first_seen_ms": 1, "last_seen_ms": 1, "count": 1}


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("workernode.db", "it is not a database URL"),
        ("mysql://someone:hunter2@host/ledger", "not with mysql"),
        ("sqlite:///ledger.db", "not with sqlite"),
        ("sqlite+aiosqlite://", "in memory would forget"),
        ("sqlite+aiosqlite:///:memory:", "in memory would forget"),
        ("sqlite+aiosqlite:///file:x?mode=memory&uri=true", "in memory would forget"),
        ("postgresql+asyncpg://someone:hunter2@host", "names no database"),
        ("postgresql+asyncpg://someone:p@ss:hunter2@host/ledger", "it is not a database URL"),
        ("postgresql+asyncpg://someone:hunter2@host/ledger?sslmode=require", "for TLS write ssl=require"),
        ("postgresql+asyncpg://someone:p@ss?hunter2=@host/ledger", "names no database"),
    ],
)
def test_an_unusable_url_is_told_in_a_sentence_without_its_password(url: str, sentence: str) -> None:
    with pytest.raises(UnusableDatabase, match=sentence) as caught:
        database.open(url)
    assert "hunter2" not in str(caught.value)


def test_the_options_of_a_url_are_those_of_the_driver() -> None:
    assert database.check("postgresql+asyncpg://host/ledger?ssl=require&prepared_statement_cache_size=0")
    known = {*inspect.signature(asyncpg.connect).parameters, "prepared_statement_cache_size"}
    assert known >= database.POSTGRESQL_OPTIONS


def test_a_path_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnusableDatabase, match="cannot be written"):
        database.open(f"sqlite+aiosqlite:///{tmp_path}/file/ledger.db")
    with pytest.raises(UnusableDatabase, match="is a directory"):
        database.open(f"sqlite+aiosqlite:///{tmp_path}")


async def test_the_parent_directory_is_made_and_commits_are_durable(tmp_path: Path) -> None:
    engine = database.open(f"sqlite+aiosqlite:///{tmp_path}/a/b/ledger.db")
    await upgrade(engine)
    async with reading(engine) as connection:
        told = {
            name: (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    await engine.dispose()
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "a" / "b").iterdir()} == {0o600}
    assert told == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}


async def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    engine = database.open(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
    await upgrade(engine)
    with pytest.raises(IntegrityError):
        async with writing(engine) as connection:
            await connection.execute(insert(QUARANTINE), [ROW, ROW])
    async with reading(engine) as connection:
        assert (await connection.execute(select(QUARANTINE))).all() == []
    await engine.dispose()


async def test_who_opens_a_file_once_more_takes_no_locks_from_those_who_have_it_open(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    engine = database.open(f"sqlite+aiosqlite:///{path}")
    await upgrade(engine)
    again = database.open(f"sqlite+aiosqlite:///{path}")
    look = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM events')"
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", look, str(path)], check=True)
    assert path.with_name("ledger.db-wal").exists(), "its last connection was another's"
    for each in (engine, again):
        await each.dispose()


def test_a_file_that_may_only_be_read_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ledger.db").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everything
    with pytest.raises(UnusableDatabase, match="cannot be written \\(it may only be read\\)"):
        database.open(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")


async def test_a_reader_is_not_held_up_by_a_writer(tmp_path: Path) -> None:
    engine = database.open(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
    await upgrade(engine)
    async with writing(engine) as writer:
        await writer.execute(insert(QUARANTINE), [ROW])
        async with reading(engine) as reader:
            assert (await reader.execute(select(QUARANTINE))).all() == []
    await engine.dispose()


async def test_a_reader_sees_one_state_from_its_first_question_on(database_url: str) -> None:
    engine = database.open(database_url)
    await upgrade(engine)
    async with reading(engine) as reader:
        assert (await reader.execute(select(QUARANTINE))).all() == []
        async with writing(engine) as writer:
            await writer.execute(insert(QUARANTINE), [ROW])
        assert (await reader.execute(select(QUARANTINE))).all() == []
    async with reading(engine) as reader:
        assert len((await reader.execute(select(QUARANTINE))).all()) == 1
    await engine.dispose()


async def test_only_what_a_value_causes_is_the_contents_fault(tmp_path: Path) -> None:
    engine = database.open(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
    await upgrade(engine)
    with pytest.raises(OverflowError) as too_large:
        async with writing(engine) as connection:
            await connection.execute(insert(QUARANTINE), [ROW | {"count": 2**63}])
    with pytest.raises(IntegrityError) as constraint:
        async with writing(engine) as connection:
            await connection.execute(insert(QUARANTINE), [ROW | {"count": None}])
    await engine.dispose()
    assert is_contents_fault(too_large.value)
    assert not is_contents_fault(constraint.value)
    assert not is_contents_fault(OperationalError("", {}, Exception("database is locked")))
    assert not is_contents_fault(OSError("connection refused"))
    assert is_contents_fault(DataError("", {}, Exception("out of range")))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems name these options otherwise")
async def test_a_postgresql_whose_machine_is_lost_is_given_up(postgres_url: str) -> None:
    engine = database.open(postgres_url)
    async with reading(engine) as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        its_socket = driver._transport.get_extra_info("socket")
        assert its_socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert its_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) < SILENCE_S
        assert its_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == SILENCE_S * 1000
    await engine.dispose()
