"""Tells a fresh ledger the same events in another order, some of them twice, and compares the sums."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from management.ledger.journal import read, write
from management.ledger.sums import USAGE_SUMS
from store import database
from store.database import reading
from store.migrate import upgrade
from store.tables import USAGE_DAILY

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

BATCH = 500
TWICE = 0.2


async def replayed_sums(events: list[str], directory: Path, random: Random) -> dict[str, int]:
    """The sums of a ledger that heard these events shuffled, a fifth of them twice."""
    told = [*events, *(event for event in events if random.random() < TWICE)]
    random.shuffle(told)
    file = directory / f"replay-{random.getrandbits(32):08x}.db"
    engine = database.open(f"sqlite+aiosqlite:///{file}")
    try:
        await upgrade(engine)
        for start in range(0, len(told), BATCH):
            await write(engine, [read(event.encode()) for event in told[start : start + BATCH]], 0)
        sums = [func.coalesce(func.sum(USAGE_DAILY.c[name]), 0).label(name) for name in USAGE_SUMS]
        async with reading(engine) as connection:
            row = (await connection.execute(select(*sums).where(USAGE_DAILY.c.tag == ""))).mappings().one()
    finally:
        await engine.dispose()
    return dict(row)
