"""Failures by day and fingerprint, and the last one of each node: projections of the ledger."""

from __future__ import annotations

from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, collate, or_

from management.ledger.rollups import shortened
from management.ledger.sums import keys_of
from store.fleet_tables import ERRORS_DAILY, ERRORS_ROLLUP, NODE_ERRORS
from store.insertion import insert, insert_rows, row_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import ColumnElement, Table
    from sqlalchemy.dialects.postgresql import Insert
    from sqlalchemy.ext.asyncio import AsyncConnection

    from management.ledger.books import Books

Row = dict[str, Any]


async def add_failures(connection: AsyncConnection, failures: Sequence[Row], books: Books) -> None:
    """Add what is new."""
    if not failures:
        return
    daily = daily_errors(failures, books)
    row, rolled = row_of(ERRORS_DAILY), row_of(ERRORS_ROLLUP)
    await insert_rows(connection, ERRORS_DAILY, [row(each) for each in daily], _add_up)
    await insert_rows(connection, ERRORS_ROLLUP, [rolled(each) for each in rolled_up_errors(daily)], _add_up)
    if nodes := _last_of_nodes(failures):
        await connection.execute(_replace_earlier(connection.dialect.name), nodes)


def daily_errors(failures: Iterable[Row], books: Books) -> list[Row]:
    """The rows of ``errors_daily`` that they add up to, always in one order: two writers never wait in a circle."""
    told = (
        {
            **{name: failure[name] for name in ("fingerprint", "model", "scope", "code", "provider")},
            "day": books.day(failure["time_ms"]),
            "key_id": failure["key_id"] or "",
            "count": 1,
            "first_ms": failure["time_ms"],
            "last_ms": failure["time_ms"],
            "last_event_id": failure["event_id"],
            "last_request_id": failure["request_id"],
            "last_message": failure["message"],
        }
        for failure in failures
    )
    keys = keys_of(ERRORS_DAILY)
    return _put_together((tuple(row[name] for name in keys), row) for row in told)


def rolled_up_errors(daily: Sequence[Row]) -> list[Row]:
    """The rows of ``errors_rollup`` that these rows of ``errors_daily`` add up to, always in one order."""
    known, names = itemgetter(*keys_of(ERRORS_DAILY)), keys_of(ERRORS_ROLLUP)
    return _put_together(
        (key, row | dict(zip(names, key, strict=True)))
        for row in daily
        for key in shortened(ERRORS_DAILY, ERRORS_ROLLUP, known(row))
    )


def _put_together(told: Iterable[tuple[tuple[Any, ...], Row]]) -> list[Row]:
    rows: dict[tuple[Any, ...], Row] = {}
    for key, row in told:
        known = rows.get(key)
        if known is None:
            rows[key] = row
            continue
        last = max(known, row, key=lambda each: (each["last_ms"], each["last_event_id"]))
        first_ms = min(known["first_ms"], row["first_ms"])
        rows[key] = last | {"count": known["count"] + row["count"], "first_ms": first_ms}
    return [rows[key] for key in sorted(rows)]


def _last_of_nodes(failures: Iterable[Row]) -> list[Row]:
    last: dict[str, Row] = {}
    for failure in failures:
        if (node := failure["node"]) is None:
            continue
        known = last.get(node)
        if known is None or (known["time_ms"], known["event_id"]) < (failure["time_ms"], failure["event_id"]):
            last[node] = {column.name: failure[column.name] for column in NODE_ERRORS.columns}
    return [last[node] for node in sorted(last)]


def _add_up(dialect: str, table: Table) -> Insert:
    statement = insert(dialect, table)
    told, known = statement.excluded, table.c
    is_later = _is_later(dialect, (told.last_ms, told.last_event_id), (known.last_ms, known.last_event_id))
    changes: dict[str, Any] = {
        name: case((is_later, told[name]), else_=known[name])
        for name in ("last_ms", "last_event_id", "last_request_id", "last_message")
    }
    changes["count"] = known["count"] + told["count"]
    changes["first_ms"] = case((told.first_ms < known.first_ms, told.first_ms), else_=known.first_ms)
    return statement.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=changes)


@cache
def _replace_earlier(dialect: str) -> Insert:
    statement = insert(dialect, NODE_ERRORS)
    told, known = statement.excluded, NODE_ERRORS.c
    return statement.on_conflict_do_update(
        index_elements=["node"],
        set_={column.name: told[column.name] for column in NODE_ERRORS.columns if not column.primary_key},
        where=_is_later(dialect, (told.time_ms, told.event_id), (known.time_ms, known.event_id)),
    )


def _is_later(dialect: str, told: tuple[Any, Any], known: tuple[Any, Any]) -> ColumnElement[bool]:
    # By code points, as Python compares, and not by the rules of a language.
    by_bytes = "C" if dialect == "postgresql" else "BINARY"
    return or_(told[0] > known[0], and_(told[0] == known[0], collate(told[1], by_bytes) > collate(known[1], by_bytes)))
