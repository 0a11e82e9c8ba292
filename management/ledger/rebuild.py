"""Makes projections anew from the events alone: all of them, or only those of money by other prices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from management.ledger.books import Books
from management.ledger.facts import Fact, Unreadable, fact_of
from management.ledger.journal import check_zone
from management.ledger.opening import store_prices
from management.ledger.projections import NewFact, project, project_money
from management.ledger.rollups import forget_since, roll_up
from process.identity import now_ms
from store.database import writing
from store.fleet_tables import ERRORS_DAILY, ERRORS_ROLLUP, NODE_ERRORS
from store.ledger_state import alone, set_time_zone, state_of
from store.money_tables import MONEY, PRICE_LISTS, PRICED, ROWS, SUMS
from store.prices import PriceList, load
from store.tables import EVENTS, NODES

if TYPE_CHECKING:
    import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from store.ledger_state import LedgerState

PAGE_EVENTS = 1_000


class ZoneIsFixed(Exception):
    """The time zone cannot be changed any more: events are deleted, and the sums of their days cannot be made anew."""

    def __init__(self) -> None:
        super().__init__(type(self).__doc__)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """How many events were read, how many of them are charges, and how many this version could no longer read."""

    events: int
    charges: int
    unreadable: int


async def rebuild(engine: AsyncEngine, books: Books | None = None) -> Rebuilt:
    """Empty the projections and fill them from the events, in one transaction: readers see the old ones until then.

    A ledger that runs at the same time waits. What was priced keeps its version of the prices. Of days whose events
    are deleted, the projections stay as they are, and so does the quarantine, of which no events are kept. Raises
    :class:`ZoneIsFixed`.
    """
    books = books or Books()
    async with writing(engine) as connection:
        await alone(connection)
        state = await state_of(connection)
        if state.time_zone != books.zone_name:
            if state.horizon_ms and state.time_zone is not None:
                raise ZoneIsFixed
            await set_time_zone(connection, books.zone_name)
        for table in ROWS:
            await connection.execute(delete(table).where(table.c.time_ms >= state.horizon_ms))
        await connection.execute(delete(NODE_ERRORS).where(NODE_ERRORS.c.time_ms >= state.horizon_ms))
        first = books.day(state.horizon_ms)
        for table in (*SUMS, ERRORS_DAILY, ERRORS_ROLLUP):
            await connection.execute(delete(table).where(table.c.day >= first))
        await connection.execute(delete(NODES).where(NODES.c.first_ms >= state.horizon_ms))
        return await _replay(connection, books, state, state.horizon_ms, only_money=False)


async def reprice(engine: AsyncEngine, books: Books, since: datetime.date | None = None) -> Rebuilt:
    """Price everything since a day by the prices of ``books``, whatever it was priced by before, in one transaction.

    Raises :class:`management.ledger.journal.WrongTimeZone`: days of another zone would be deleted than are made anew.
    """
    async with writing(engine) as connection:
        await alone(connection)
        state = await state_of(connection)
        check_zone(state, books)
        since_ms = state.horizon_ms if since is None else max(state.horizon_ms, books.begins_ms(since))
        for table in MONEY:
            await connection.execute(delete(table).where(table.c.day >= books.day(since_ms)))
        return await _replay(connection, books, state, since_ms, only_money=True)


async def _replay(
    connection: AsyncConnection, books: Books, state: LedgerState, since_ms: int, *, only_money: bool
) -> Rebuilt:
    # What has no price yet gets one of this list.
    await store_prices(connection, books, now_ms())
    events = charges = unreadable = 0
    position = -1
    lists: dict[str, PriceList] = {}
    until = state.rolled_up_until
    state = await forget_since(connection, state, books.day(since_ms))
    while page := await _page(connection, position, since_ms):
        facts: list[NewFact] = []
        position = page[-1][0]
        for place, raw in page:
            fact = _readable(raw)
            if fact is None:
                unreadable += 1
            else:
                facts.append((place, fact))
                charges += fact.charge is not None
        # The page's rows are gone for, and with what they were priced by.
        known = {} if only_money else await _versions(connection, page[0][0], position, lists)
        places = [place for place, _ in facts]
        await connection.execute(delete(PRICED).where(PRICED.c.position.in_(places)))
        if only_money:
            await project_money(connection, facts, books, state)
        else:
            await project(connection, facts, books, state, known)
        events += len(page)
    await roll_up(connection, state, until)
    return Rebuilt(events, charges, unreadable)


async def _page(connection: AsyncConnection, after: int, since_ms: int) -> list[tuple[int, str]]:
    statement = select(EVENTS.c.position, EVENTS.c.raw).where(EVENTS.c.position > after, EVENTS.c.time_ms >= since_ms)
    rows = await connection.execute(statement.order_by(EVENTS.c.position).limit(PAGE_EVENTS))
    return [(position, raw) for position, raw in rows]


async def _versions(
    connection: AsyncConnection, first: int, last: int, lists: dict[str, PriceList]
) -> dict[int, PriceList]:
    """The prices by which these events were priced, by position. ``lists`` remembers those that were read."""
    statement = select(PRICED.c.position, PRICED.c.price_version).where(PRICED.c.position.between(first, last))
    versions: dict[int, str] = dict((await connection.execute(statement)).all())
    if missing := set(versions.values()) - lists.keys():
        found = select(PRICE_LISTS.c.version, PRICE_LISTS.c.content).where(PRICE_LISTS.c.version.in_(sorted(missing)))
        lists.update({version: load(content) for version, content in await connection.execute(found)})
    return {position: lists[version] for position, version in versions.items() if version in lists}


def _readable(raw: str) -> Fact | None:
    try:
        return fact_of(raw.encode())
    except Unreadable:
        return None
