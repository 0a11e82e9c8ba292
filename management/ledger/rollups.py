"""Sums by fewer columns: how they follow from those by day, and which questions they are enough for.

Those of errors are written with the errors. Of usage and of money only one is written with each charge; the others
have the days until :attr:`store.ledger_state.LedgerState.rolled_up_until`, which are over: each charge belongs to a
dozen sums anyway, and one day's rows are few beside those of a year.
"""

from __future__ import annotations

import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Select, cast, delete, func, insert, literal, select, union_all

from management.ledger.sums import Sums, add_up, keys_of, sums_of
from store.insertion import insert_rows
from store.ledger_state import set_rolled_up_until
from store.money_tables import MONEY_DAILY, MONEY_ROLLUP
from store.rollups import ALWAYS, DIMENSIONS, rollups_of
from store.tables import LEDGER_STATE, USAGE_DAILY, USAGE_ROLLUP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy import ColumnElement, FromClause, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

    from management.ledger.sums import Row
    from store.ledger_state import LedgerState

ROLLUP_OF = {USAGE_DAILY: USAGE_ROLLUP, MONEY_DAILY: MONEY_ROLLUP}


def rollup_for(daily: Table, needed: Iterable[str]) -> str | None:
    """The smallest rollup that tells these columns of a table of sums apart; None if only the table itself does."""
    wanted = DIMENSIONS & frozenset(needed)
    return next((name for name, kept in rollups_of(daily).items() if wanted <= kept), None)


def summed(
    daily: Table,
    rollup: str | None,
    keys: Sequence[str],
    sums: Callable[[FromClause], Sequence[ColumnElement[int]]],
    wanted: Callable[[FromClause], Sequence[ColumnElement[bool]]],
    page: Callable[[Select[Any]], Select[Any]] = lambda statement: statement,
    *,
    any_tag: bool = False,
) -> Select[Any]:
    """Sums by ``keys`` of those rows of a table of sums by day that are ``wanted``.

    They come from a rollup, if there is one that is enough, and from the table itself for the days that it lacks.
    ``page`` may order them by ``keys`` and take the first ones behind a place. ``any_tag``: more than one is wanted.
    """

    def part(table: FromClause, *conditions: ColumnElement[bool]) -> Select[Any]:
        columns = [table.c[key] for key in keys]
        return select(*columns, *sums(table)).where(*conditions, *wanted(table)).group_by(*columns)

    if rollup is None:
        return page(part(daily))
    rolled = ROLLUP_OF[daily]
    is_in = [rolled.c.rollup == rollup]
    if rollup == ALWAYS:
        return page(part(rolled, *is_in))
    if any_tag:
        # By name, so that each tag's days are looked up. Behind "any but none" SQLite would read all days.
        every = rolled.alias()
        is_in.append(rolled.c.tag.in_(select(every.c.tag).where(every.c.rollup == ALWAYS).distinct()))
    until = select(LEDGER_STATE.c.rolled_up_until).scalar_subquery()
    # Both bounds, or SQLite takes them for half of all days, and reads those in the order of their tags.
    later = (daily.c.day > until, daily.c.day <= datetime.date.max)
    # What is on the page of both is on the page of each of them.
    parts = (part(rolled, *is_in, rolled.c.day <= until), part(daily, *later))
    both = union_all(*(select(page(each).subquery()) for each in parts)).subquery()
    columns = [both.c[key] for key in keys]
    added = [total(column).label(name) for name, column in both.c.items() if name not in keys]
    return page(select(*columns, *added).group_by(*columns))


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
            if rollup == ALWAYS:
                continue
            left_out = DIMENSIONS - kept
            _, *names = keys_of(rolled)
            keys = [literal("") if name in left_out else daily.c[name] for name in names]
            groups = [daily.c[name] for name in names if name not in left_out]
            rows = select(literal(rollup), *keys, *sums).where(*days).group_by(*groups)
            await connection.execute(insert(rolled).from_select([*keys_of(rolled), *sums_of(rolled)], rows))
    return await set_rolled_up_until(connection, state, until)


async def forget_since(connection: AsyncConnection, state: LedgerState, day: datetime.date) -> LedgerState:
    """Delete the rollups of this day and those after it, but for the one that has every day."""
    for rolled in ROLLUP_OF.values():
        await connection.execute(delete(rolled).where(rolled.c.day >= day, rolled.c.rollup != ALWAYS))
    before = min(state.rolled_up_until, day - datetime.timedelta(days=1))
    return await set_rolled_up_until(connection, state, before)


async def add_rolled_up(connection: AsyncConnection, state: LedgerState, daily: Table, rows: Sequence[Row]) -> None:
    """Add new rows of sums by day to those rollups that have their day."""
    await insert_rows(connection, ROLLUP_OF[daily], rolled_up(daily, rows, state.rolled_up_until), add_up)


def rolled_up(daily: Table, rows: Iterable[Row], until: datetime.date) -> list[Row]:
    """The rows that these rows of sums by day add up to, in rollups of which all but one have the days until this."""
    rolled = ROLLUP_OF[daily]
    sums, keys, day = Sums(rolled), len(keys_of(daily)), keys_of(daily).index("day")
    for row in rows:
        for key in shortened(daily, rolled, row[:keys], is_over=row[day] <= until):
            sums.add(key, row[keys:])
    return sums.rows


def shortened(daily: Table, rolled: Table, key: Row, *, is_over: bool = True) -> list[Row]:
    """The key of a row of sums by day as each rollup has it; :data:`store.rollups.ALWAYS` alone for a day that is not
    over."""
    return [
        (rollup, *["" if place is None else key[place] for place in places])
        for rollup, places in _places(daily, rolled)
        if is_over or rollup == ALWAYS
    ]


@cache
def _places(daily: Table, rolled: Table) -> list[tuple[str, list[int | None]]]:
    """For each rollup, where in a key by day the columns of its own key stand; None for those that it leaves out."""
    names, (_, *own) = keys_of(daily), keys_of(rolled)
    return [
        (rollup, [None if name in DIMENSIONS - kept else names.index(name) for name in own])
        for rollup, kept in rollups_of(daily).items()
    ]
