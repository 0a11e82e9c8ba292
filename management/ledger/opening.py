"""Before a ledger is written: are its days ours, does it know our prices, and are its days that are over rolled up?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from management.ledger.rollups import roll_up
from store.database import UnusableDatabase, writing
from store.insertion import insert
from store.ledger_state import alone, set_time_zone, state_of
from store.money_tables import PRICE_LISTS

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from management.ledger.books import Books


async def open_books(engine: AsyncEngine, books: Books, now_ms: int) -> None:
    """Fix the time zone of a new ledger, store the prices, and roll up the days that are over.

    Raises :class:`store.database.UnusableDatabase` for a ledger whose days are those of another zone.
    """
    async with writing(engine) as connection:
        await alone(connection)
        state = await state_of(connection)
        if (zone := state.time_zone) is None:
            await set_time_zone(connection, books.zone_name)
        elif zone != books.zone_name:
            raise UnusableDatabase(
                f"the days of its sums are those of {zone}, and TIME_ZONE={books.zone_name}: set it back, or run "
                "'fleet ledger rebuild'"
            )
        await store_prices(connection, books, now_ms)
        await roll_up(connection, state, books.yesterday(now_ms))


async def store_prices(connection: AsyncConnection, books: Books, now_ms: int) -> None:
    """Keep the prices under their version."""
    row = {"version": books.prices.version, "content": books.prices.content, "first_ms": now_ms}
    await connection.execute(insert(connection.dialect.name, PRICE_LISTS).on_conflict_do_nothing(), [row])
