"""Sums by fewer columns: how they follow from those by day, and which questions they are enough for.

Those of errors are written with the errors. Those of usage and of money have the days until
:attr:`store.ledger_state.LedgerState.rolled_up_until`, which are over: each charge belongs to a dozen sums, and one
day's rows are few beside those of a year.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Select, case, cast, delete, func, insert, literal, select, union_all

from management.sums import Sums, add_up, keys_of, sums_of
from store.insertion import insert_rows
from store.ledger_state import set_rolled_up_until
from store.money_tables import MONEY_DAILY, MONEY_ROLLUP
from store.rollups import DIMENSIONS, OF_TAGS, rollups_of
from store.tables import LEDGER_STATE, USAGE_DAILY, USAGE_ROLLUP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy import ColumnElement, FromClause, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

    from management.sums import Row
    from store.ledger_state import LedgerState

ROLLUP_OF = {USAGE_DAILY: USAGE_ROLLUP, MONEY_DAILY: MONEY_ROLLUP}


def rollup_for(daily: Table, needed: Iterable[str]) -> str | None:
    """The smallest rollup that tells these columns of a table of sums apart; None if only the table itself does."""
    needed = frozenset(needed)
    for name, kept in rollups_of(daily).items():
        if DIMENSIONS & needed <= kept:
            return name + OF_TAGS if "tag" in needed else name
    return None


def summed(
    daily: Table,
    rollup: str | None,
    keys: Sequence[str],
    sums: Callable[[FromClause], Sequence[ColumnElement[int]]],
    wanted: Callable[[FromClause], Sequence[ColumnElement[bool]]],
) -> Select[Any]:
    """Sums by ``keys`` of those rows of a table of sums by day that are ``wanted``.

    They come from a rollup, if there is one that is enough, and from the table itself for the days that it lacks.
    """

    def part(table: FromClause, *conditions: ColumnElement[bool]) -> Select[Any]:
        columns = [table.c[key] for key in keys]
        return select(*columns, *sums(table)).where(*conditions, *wanted(table)).group_by(*columns)

    if rollup is None:
        return part(daily)
    until = select(LEDGER_STATE.c.rolled_up_until).scalar_subquery()
    rolled = ROLLUP_OF[daily]
    # Both bounds, or SQLite takes them for half of all days, and reads those in the order of their tags.
    later = (daily.c.day > until, daily.c.day <= datetime.date.max)
    both = union_all(part(rolled, rolled.c.rollup == rollup, rolled.c.day <= until), part(daily, *later)).subquery()
    columns = [both.c[key] for key in keys]
    added = [total(column).label(name) for name, column in both.c.items() if name not in keys]
    return select(*columns, *added).group_by(*columns)


def total(column: ColumnElement[int]) -> ColumnElement[int]:
    """A sum in 64 bits; of nothing it is 0."""
    # PostgreSQL sums 64-bit integers into a numeric, which would come back as a Decimal.
    return cast(func.coalesce(func.sum(column), 0), BigInteger)


async def roll_up(connection: AsyncConnection, state: LedgerState, until: datetime.date) -> LedgerState:
    """Make the rollups of the days until this one that have none yet. The caller writes alone, and commits."""
    if until <= state.rolled_up_until:
        return state
    for daily, rolled in ROLLUP_OF.items():
        days = (daily.c.day > state.rolled_up_until, daily.c.day <= until)
        sums = [total(daily.c[name]) for name in sums_of(daily)]
        for rollup, kept in rollups_of(daily).items():
            left_out = DIMENSIONS - kept
            _, *names = keys_of(rolled)
            keys = [literal("") if name in left_out else daily.c[name] for name in names]
            groups = [daily.c[name] for name in names if name not in left_out]
            place = case((daily.c.tag == "", rollup), else_=rollup + OF_TAGS)
            rows = select(place, *keys, *sums).where(*days).group_by(*groups)
            await connection.execute(insert(rolled).from_select([*keys_of(rolled), *sums_of(rolled)], rows))
    return await set_rolled_up_until(connection, state, until)


async def forget_since(connection: AsyncConnection, state: LedgerState, day: datetime.date) -> LedgerState:
    """Delete the rollups of this day and those after it."""
    for rolled in ROLLUP_OF.values():
        await connection.execute(delete(rolled).where(rolled.c.day >= day))
    before = min(state.rolled_up_until, day - datetime.timedelta(days=1))
    return await set_rolled_up_until(connection, state, before)


async def add_rolled_up(connection: AsyncConnection, state: LedgerState, daily: Table, rows: Sequence[Row]) -> None:
    """Add those of new rows of sums by day whose day was rolled up before."""
    day = keys_of(daily).index("day")
    late = [row for row in rows if row[day] <= state.rolled_up_until]
    await insert_rows(connection, ROLLUP_OF[daily], rolled_up(daily, late), add_up)


def rolled_up(daily: Table, rows: Iterable[Row]) -> list[Row]:
    """The rows of rollups that these rows of sums by day add up to."""
    sums, keys = Sums(ROLLUP_OF[daily]), len(keys_of(daily))
    for row in rows:
        for key in shortened(daily, ROLLUP_OF[daily], row[:keys]):
            sums.add(key, row[keys:])
    return sums.rows


def shortened(daily: Table, rolled: Table, key: Row) -> list[Row]:
    """The key of a row of sums by day as each rollup has it."""
    known = dict(zip(keys_of(daily), key, strict=True))
    _, *names = keys_of(rolled)
    end = OF_TAGS if known.get("tag") else ""
    return [
        (rollup + end, *("" if name in DIMENSIONS - kept else known[name] for name in names))
        for rollup, kept in rollups_of(daily).items()
    ]
