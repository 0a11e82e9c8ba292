"""What a test does to the SQLite file of a role that runs in the same process.

In a thread: the transaction that it may have to wait for is ended by the test's own loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


async def execute(path: Path, *statements: str) -> None:
    """Do that, each statement by itself."""

    def done() -> None:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement)

    await asyncio.to_thread(done)


async def locked(path: Path, how: str = "IMMEDIATE") -> sqlite3.Connection:
    """Nobody else writes until this connection is closed."""

    def begun() -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.execute(f"BEGIN {how}")
        return connection

    return await asyncio.to_thread(begun)
