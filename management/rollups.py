"""Sums by fewer columns: how they follow from those by day, and which questions they are enough for. Pure."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from management.sums import Sums, keys_of, sums_of
from store.fleet_tables import ERRORS_DAILY, ERRORS_ROLLUP
from store.money_tables import MONEY_DAILY, MONEY_ROLLUP
from store.rollups import DIMENSIONS, ROLLUPS
from store.tables import USAGE_DAILY, USAGE_ROLLUP

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import FromClause, Table

Row = dict[str, Any]

_ROLLUP_OF = {USAGE_DAILY: USAGE_ROLLUP, MONEY_DAILY: MONEY_ROLLUP, ERRORS_DAILY: ERRORS_ROLLUP}


def source(daily: Table, needed: Iterable[str]) -> FromClause:
    """Where to look for sums of ``daily`` by these columns, or filtered by them: the smallest that has them."""
    wanted = DIMENSIONS & frozenset(needed)
    rollup = next((name for name, kept in ROLLUPS.items() if wanted <= kept), None)
    if rollup is None:
        return daily
    table = _ROLLUP_OF[daily]
    return select(table).where(table.c.rollup == rollup).subquery()


def shortened(rows: Sequence[Row], table: Table) -> Iterator[tuple[tuple[Any, ...], Row]]:
    """Each row of sums by day once for each rollup, behind its key there."""
    for rollup, kept in ROLLUPS.items():
        names = [None if name in DIMENSIONS - kept else name for name in keys_of(table)[1:]]
        for row in rows:
            # A list first: this runs some ten times for each charge, and a generator would take twice as long.
            yield (rollup, *[row[name] if name else "" for name in names]), row


def rolled_up(rows: Sequence[Row], table: Table) -> list[Row]:
    """The rows of a table of rollups that these rows of sums by day add up to."""
    sums, amounts = Sums(table), itemgetter(*sums_of(table))
    for key, row in shortened(rows, table):
        sums.add(key, amounts(row))
    return sums.rows
