"""What takes long to make is made once, and copied by each example."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from store import database
from store.migrate import upgrade

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database that has its tables and nothing in them."""
    path = tmp_path_factory.mktemp("ledger") / "empty.db"

    async def make() -> None:
        engine = database.open(f"sqlite+aiosqlite:///{path}")
        await upgrade(engine)
        await engine.dispose()

    asyncio.run(make())
    return path
