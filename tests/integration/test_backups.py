"""A copy of the ledger, taken and restored by the commands of docs/operations.md."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from management.ledger.books import Books
from management.ledger.reconcile import reconcile
from store import budgets, database
from store.budgets import Budget, BudgetId
from store.database import reading, writing
from tests.billing import NOON_MS, billed
from tests.counting_house import CountingHouse
from tests.postgres_server import programs
from tests.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

DAY_MS = 86_400_000
DOCUMENTED = "postgresql://workernode@HOST/workernode"


@pytest.fixture
async def house(tmp_path: Path, database_url: str) -> AsyncIterator[CountingHouse]:
    house = CountingHouse(tmp_path)
    house.path = tmp_path / "data/workernode.db"
    house.url = database_url if database_url.startswith("postgresql") else f"sqlite+aiosqlite:///{house.path}"
    yield house
    await house.end()


def _told(block: int, house: CountingHouse) -> list[str]:
    """The commands of a block of the section, for the kind of database that the house has."""
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8").partition("## Backups")[2]
    lines: list[str] = re.findall(r"```console\n(.*?)```", text, re.DOTALL)[block].splitlines()
    absent = ".db" if house.url.startswith("postgresql") else "postgresql"
    return [line for line in lines if absent not in line]


def _do(commands: list[str], directory: Path, house: CountingHouse) -> None:
    script = "set -e\n" + "\n".join(commands)
    script = script.replace(".venv/bin/python", sys.executable)
    server, _, name = house.url.replace("+asyncpg", "").rpartition("/")
    script = script.replace(DOCUMENTED, f"{server}/{name}").replace(DOCUMENTED.rpartition("/")[0], server)
    path = os.environ["PATH"]
    if house.url.startswith("postgresql"):
        path = f"{programs()}:{path}"
    subprocess.run(["sh", "-c", script], cwd=directory, env={**os.environ, "PATH": path}, check=True, timeout=60)
    assert [copy.stat().st_mode & 0o077 for copy in directory.glob("copy.*")] == [0], "others may read the copy"


async def test_a_ledger_is_copied_beside_management_and_restored_as_documented(
    house: CountingHouse, tmp_path: Path
) -> None:
    kept, lost = (
        Budget(id=BudgetId("key", name, "day"), currency="USD", amount_max=1, warn_percent=80, created_ms=1)
        for name in ("kept", "lost")
    )
    await house.start()
    engine = database.open(house.url)
    async with writing(engine) as connection:
        await budgets.put(connection, kept)
    await house.publish(*(billed(number) for number in range(100)))
    await house.settled()
    telling = asyncio.create_task(house.publish(*(billed(number) for number in range(100, 400))))
    await asyncio.to_thread(_do, _told(0, house), tmp_path, house)
    await telling
    await house.settled()
    async with writing(engine) as connection:
        await budgets.put(connection, lost)
    await house.publish(*(billed(number) for number in range(400, 500)))
    await house.settled()
    left = {place: place.read_bytes() for place in house.path.parent.glob("*.db-*")}
    await house.end()
    await engine.dispose()
    for place, content in left.items():  # as a management that was killed leaves it
        place.write_bytes(content)

    # Waits at the broker, and some of it was told before.
    await house.publish(*(billed(number) for number in range(50, 100)), *(billed(number) for number in range(500, 600)))
    await asyncio.to_thread(_do, _told(1, house), tmp_path, house)
    if house.url.startswith("postgresql"):
        house.url = house.url.rpartition("/")[0] + "/restored"
    in_copy, _ = await house.counted()
    assert 100 <= in_copy <= 400
    await house.start()
    await house.settled()
    assert await house.counted() == (in_copy + 100, in_copy + 100)
    engine = database.open(house.url)
    found = await reconcile(engine, Books(), NOON_MS - DAY_MS, NOON_MS + 2 * DAY_MS)
    assert found.charges == in_copy + 100
    assert (found.differing_charges.count, found.differing_sums.count) == (0, 0)
    async with reading(engine) as connection:
        assert await budgets.listed(connection) == [kept]
    await engine.dispose()
