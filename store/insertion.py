"""``INSERT … ON CONFLICT``, which SQLite and PostgreSQL write alike, and many rows by one statement."""

from __future__ import annotations

from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Table
    from sqlalchemy.ext.asyncio import AsyncConnection

    Statement = Callable[[str, Table], postgresql.Insert]
    Row = tuple[Any, ...]

_DIALECTS = {"sqlite": sqlite.aiosqlite.dialect(), "postgresql": postgresql.asyncpg.dialect()}  # type: ignore[no-untyped-call]


def insert(dialect: str, table: Table) -> postgresql.Insert:
    """An insert that knows ``on_conflict_do_nothing`` and ``on_conflict_do_update``, for the dialect of this name.

    The two constructs have the same methods, so they are typed as one of them.
    """
    if dialect == "sqlite":
        made: Any = sqlite.insert(table)
        return made  # type: ignore[no-any-return]
    return postgresql.insert(table)


async def insert_rows(
    connection: AsyncConnection, table: Table, rows: Sequence[Row], statement: Statement = insert
) -> None:
    """Execute ``statement`` for each of the rows, whose values are those of the table's columns in their order.

    SQLAlchemy itself would look at every value of every row, which takes longer than the database does to store it.
    """
    if rows:
        sql, stored = _compiled(connection.dialect.name, table, statement)
        await connection.exec_driver_sql(sql, [stored(row) for row in rows] if stored else list(rows))


@cache
def row_of(table: Table) -> Callable[[dict[str, Any]], Row]:
    """What makes a row for :func:`insert_rows` of values by name."""
    return itemgetter(*(column.name for column in table.columns))


@cache
def _compiled(dialect_name: str, table: Table, statement: Statement) -> tuple[str, Callable[[Row], Row] | None]:
    """Its text, and what the driver is given instead of a row, unless it takes the row itself."""
    dialect = _DIALECTS[dialect_name]
    names = [column.name for column in table.columns]
    compiled = statement(dialect_name, table).compile(dialect=dialect, column_keys=names)
    assert compiled.positiontup == names
    converters = [column.type.dialect_impl(dialect).bind_processor(dialect) for column in table.columns]
    converted = [(place, convert) for place, convert in enumerate(converters) if convert is not None]

    def stored(row: Row) -> Row:
        values = list(row)
        for place, convert in converted:
            values[place] = convert(values[place])
        return tuple(values)

    return str(compiled), stored if converted else None
