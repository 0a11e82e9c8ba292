"""Rebuilds every projection from the events alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, select, text

from management.facts import Fact, Unreadable, fact_of
from management.projections import NewFact, project
from store.database import writing
from store.tables import EVENTS, PROJECTIONS

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

PAGE_EVENTS = 1_000


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """How many events were read, how many of them are charges, and how many this version could no longer read."""

    events: int
    charges: int
    unreadable: int


async def rebuild(engine: AsyncEngine) -> Rebuilt:
    """Empty the projections and fill them from the events, in one transaction: readers see the old ones until then.

    A ledger that runs at the same time waits. The quarantine, of which no events are kept, stays as it is.
    """
    events = charges = unreadable = 0
    position = -1
    async with writing(engine) as connection:
        if connection.dialect.name == "postgresql":
            await connection.execute(text("LOCK TABLE events IN SHARE ROW EXCLUSIVE MODE"))
        for table in PROJECTIONS:
            await connection.execute(delete(table))
        while page := await _page(connection, position):
            facts: list[NewFact] = []
            for position, raw in page:
                fact = _readable(raw)
                if fact is None:
                    unreadable += 1
                else:
                    facts.append((position, fact))
                    charges += fact.charge is not None
            await project(connection, facts)
            events += len(page)
    return Rebuilt(events, charges, unreadable)


async def _page(connection: AsyncConnection, after: int) -> list[tuple[int, str]]:
    statement = select(EVENTS.c.position, EVENTS.c.raw).where(EVENTS.c.position > after)
    rows = await connection.execute(statement.order_by(EVENTS.c.position).limit(PAGE_EVENTS))
    return [(position, raw) for position, raw in rows]


def _readable(raw: str) -> Fact | None:
    try:
        return fact_of(raw.encode())
    except Unreadable:
        return None
