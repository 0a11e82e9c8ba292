"""Opening a database by its URL, and the two ways to use it: a transaction that reads, one that writes."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, StatementError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.engine import URL, Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

BUSY_TIMEOUT_MS = 5_000
"""How long SQLite waits for another writer before it says that the database is locked."""
SQLITE_CACHE_KIB = 32 * 1024
"""Of each connection, if it needs so much. With its own 2 MiB, to write to millions of rows costs a tenth more."""

SILENCE_S = 20
"""How long PostgreSQL's machine may acknowledge nothing before its connections are given up."""

SQLITE = "sqlite+aiosqlite"
POSTGRESQL = "postgresql+asyncpg"


POSTGRESQL_OPTIONS = {
    *("host", "port", "user", "password", "database", "passfile", "service", "servicefile", "krbsrvname", "gsslib"),
    *("ssl", "direct_tls", "target_session_attrs", "command_timeout", "prepared_statement_cache_size"),
}
"""What may stand behind the ``?`` of PostgreSQL's URL: of asyncpg's options those that are texts, and SQLAlchemy's."""


class UnusableDatabase(Exception):
    """The database cannot be used as it is named: the sentence says what to change."""


def check(url: str) -> URL:
    """The parsed URL. Raises :class:`UnusableDatabase` for a wrong one, without its password."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the latter with a part of a password that has an @
        raise UnusableDatabase(
            "it is not a database URL; write sqlite+aiosqlite:///data/workernode.db for a file, "
            "or postgresql+asyncpg://user:password@host/database, with %40 for an @ in the password"
        ) from None
    if parsed.drivername not in (SQLITE, POSTGRESQL):
        raise UnusableDatabase(f"it must begin with {SQLITE}:/// or {POSTGRESQL}://, not with {parsed.drivername}")
    if parsed.drivername == POSTGRESQL and not parsed.database:
        raise UnusableDatabase("it names no database: write one after the host, as in …@host/workernode")
    # Nothing is repeated: behind a ? in a password may stand the rest of it.
    if parsed.drivername == POSTGRESQL and parsed.query.keys() - POSTGRESQL_OPTIONS:
        raise UnusableDatabase(
            "behind its ? stands an option that asyncpg does not have: for TLS write ssl=require instead of "
            "sslmode=require, and leave out channel_binding and the like"
        )
    # A file: URI could name a database in memory in too many ways.
    if parsed.drivername == SQLITE and (parsed.database or ":memory:").startswith((":memory:", "file:")):
        raise UnusableDatabase("it names no file, and a database in memory would forget every charge")
    return parsed


def open(url: str) -> AsyncEngine:
    """An engine for this URL; on SQLite it makes the parent directory. Connects to nothing yet.

    Raises :class:`UnusableDatabase` with a sentence for people.
    """
    parsed = check(url)
    if parsed.drivername == SQLITE:
        return _open_sqlite(parsed)
    # As for SQLite: whatever the server is set to, a commit that it could take back would be a lost charge.
    options = {"timeout": 10, "server_settings": {"synchronous_commit": "on"}}
    # A connection that died with the server is noticed before a batch is written on it.
    engine = create_async_engine(parsed, pool_pre_ping=True, hide_parameters=True, connect_args=options)
    event.listen(engine.sync_engine, "connect", _give_up_silence)
    return engine


@contextlib.asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction that sees one state of the database and changes nothing but temporary tables."""
    if engine.dialect.name == "postgresql":  # by itself it would show each statement a state of its own
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    async with engine.connect() as connection:
        yield connection


@contextlib.asynccontextmanager
async def writing(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction that is committed at the end of the block, or rolled back by an exception.

    On SQLite it has the write lock from its beginning: a transaction that reads first and writes later is refused as
    soon as another one has written in between, without waiting for :data:`BUSY_TIMEOUT_MS`.
    """
    async with engine.execution_options(begin="BEGIN IMMEDIATE").begin() as connection:
        yield connection


def is_contents_fault(error: BaseException) -> bool:
    """Whether the database works and only refuses these values: trying again would fail again.

    Deliberately narrow: what counts here is given up. A constraint that fails is a fault of ours, or of a schema that
    is newer than this program, and must wait for a person instead.
    """
    if isinstance(error, DataError):
        return True
    if isinstance(error, DBAPIError):
        # PostgreSQL's classes 22, wrong data, and 54, too large for an index.
        return str(getattr(error.orig, "sqlstate", None) or "")[:2] in ("22", "54")
    # The driver could not even encode the value. SQLAlchemy wraps such an error or lets it through as it is.
    cause = error.orig if isinstance(error, StatementError) else error
    return isinstance(cause, (OverflowError, UnicodeEncodeError))


def _open_sqlite(url: URL) -> AsyncEngine:
    path = Path(url.database or "")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError
        if not path.exists():
            # It holds what was asked and paid: nobody else's to read. What SQLite makes beside it is as the file is.
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        # Never by opening it: as a file is closed, its locks are gone that this process has by other connections, and
        # the next program that leaves the database would take the write-ahead log of these for nobody's, and delete it.
        elif not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "it may only be read")
    except OSError as error:
        reason = error.strerror or "it is a directory"
        raise UnusableDatabase(f"the file {path} cannot be written ({reason[:1].lower()}{reason[1:]})") from None
    engine = create_async_engine(
        url, hide_parameters=True, connect_args={"isolation_level": None, "timeout": BUSY_TIMEOUT_MS / 1000}
    )
    event.listen(engine.sync_engine, "connect", _set_pragmas)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _give_up_silence(connection: Any, _record: object) -> None:
    # A machine that is lost, or cut off, closes nothing. By itself TCP would wait for it for a quarter of an hour, and
    # for ever where nothing is under way to it. A statement that takes long is no silence: the machine acknowledges.
    its_socket = connection.driver_connection._transport.get_extra_info("socket")  # asyncpg shows it nowhere else
    if sys.platform == "linux" and its_socket.family != socket.AF_UNIX:
        its_socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        its_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE_S // 2)
        its_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENCE_S // 4)
        its_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_S * 1000)


def _set_pragmas(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    # FULL, not NORMAL: a message is acknowledged once its charge is committed, so a commit that a power failure
    # takes back would be a lost charge. One fsync per batch is cheap.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute(f"PRAGMA cache_size=-{SQLITE_CACHE_KIB}")
    cursor.close()


def _begin(connection: Connection) -> None:
    # Python's sqlite3 begins transactions by its own rules, and none before CREATE TABLE; isolation_level=None turns
    # that off, and this begins each transaction of SQLAlchemy's.
    # An empty statement is for what SQLite refuses inside a transaction.
    statement: str = connection.get_execution_options().get("begin", "BEGIN")
    if statement:
        connection.exec_driver_sql(statement)
