"""The statements behind the REST API's sums, for both databases."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from sqlalchemy import BigInteger, Select, cast, func, literal, select, tuple_

from management.queries import wrong_cursor
from management.rollups import source
from management.sums import USAGE_SUMS
from store.amount import NANOS
from store.money_tables import MONEY_DAILY
from store.tables import USAGE_DAILY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, FromClause, Table

    from management.questions import CostsQuestion, UsageQuestion

By = Literal["day", "model", "key", "node", "tag", "provider"]
_COLUMNS = {"day": "day", "model": "model", "key": "key_id", "node": "node", "tag": "tag", "provider": "provider"}
_FILTERS = ("model", "key_id", "node", "provider")
_COST_KEYS = ("side", "currency")


def groups(by: Sequence[str]) -> list[str]:
    """The columns to group by, in one order whatever the order asked for."""
    return [column for name, column in _COLUMNS.items() if name in by]


def sums_for(daily: Table, question: UsageQuestion | CostsQuestion) -> FromClause:
    """A table of sums by day, or a rollup of it that is enough for the question."""
    filters = [name for name in _FILTERS if getattr(question, name, None) is not None]
    return source(daily, [*groups(question.by), *filters])


def usage(question: UsageQuestion) -> Select[Any]:
    """A page of sums of usage and one more, ordered by their groups."""
    names = groups(question.by)
    table = sums_for(USAGE_DAILY, question)
    statement = _grouped(table, names, USAGE_SUMS).where(*wanted(table, question, question.tag))
    return _page(statement, table, names, question.cursor, question.limit)


def amounts(question: UsageQuestion, page: Sequence[dict[str, Any]]) -> Select[Any]:
    """What the charges of these sums come to, by currency: the rows of a page of :func:`usage`."""
    names = groups(question.by)
    table = sums_for(MONEY_DAILY, question)
    statement = _grouped(table, [*names, "currency"], ("requests",)).add_columns(*exact_sum(table))
    statement = statement.where(*wanted(table, question, question.tag), table.c.side == "charge")
    if names:
        keys = tuple_(*(table.c[name] for name in names))
        first, last = ([row[name] for name in names] for row in (page[0], page[-1]))
        statement = statement.where(keys >= _literals(table, names, first))
        statement = statement.where(keys <= _literals(table, names, last))
    return statement.order_by(*(table.c[name] for name in (*names, "currency")))


def costs(question: CostsQuestion) -> Select[Any]:
    """A page of sums of what attempts cost the operator and one more, ordered by their groups."""
    table, names = sums_for(MONEY_DAILY, question), cost_groups(question)
    statement = _grouped(table, names, ("requests", "tokens")).add_columns(*exact_sum(table))
    statement = statement.where(*wanted(table, question, None), table.c.side.in_(("cost", "waste")))
    return _page(statement, table, names, question.cursor, question.limit)


def cost_groups(question: CostsQuestion) -> list[str]:
    """The columns that :func:`costs` groups by."""
    return [*groups(question.by), *_COST_KEYS]


def amount_of(row: Any) -> int:
    """The nanos of a row of :func:`amounts` or :func:`costs`."""
    return int(row["units"]) * NANOS + int(row["rest"])


def cursor_of_group(row: dict[str, Any], names: Sequence[str]) -> str:
    """Where the page after this row of sums begins."""
    return msgspec.json.encode([row[name] for name in names]).decode()


def _grouped(table: FromClause, names: Sequence[str], sums: Sequence[str]) -> Select[Any]:
    keys = [table.c[name] for name in names]
    statement = select(*keys, *(total(table.c[name]).label(name) for name in sums))
    return statement.group_by(*keys) if keys else statement


def exact_sum(money: FromClause) -> list[ColumnElement[int]]:
    """The two columns that :func:`amount_of` puts together."""
    # In two parts: a sum of nanos might not fit into 64 bits.
    amount = money.c.amount
    return [total(amount // NANOS).label("units"), total(amount % NANOS).label("rest")]


def total(column: ColumnElement[int]) -> ColumnElement[int]:
    """A sum in 64 bits; of nothing it is 0."""
    # PostgreSQL sums 64-bit integers into a numeric, which would come back as a Decimal.
    return cast(func.coalesce(func.sum(column), 0), BigInteger)


def wanted(table: FromClause, question: UsageQuestion | CostsQuestion, tag: str | None) -> list[ColumnElement[bool]]:
    """What a question asks for, as conditions on a table of sums."""
    columns = table.c
    found = [columns[name] == value for name in _FILTERS if (value := getattr(question, name, None)) is not None]
    if tag is not None and "=" not in tag:
        found.append(columns.tag.startswith(f"{tag}=", autoescape=True))
    elif tag is not None:
        found.append(columns.tag == tag)
    else:
        found.append(columns.tag != "" if "tag" in question.by else columns.tag == "")
    if question.since is not None:
        found.append(columns.day >= question.since)
    if question.until is not None:
        found.append(columns.day <= question.until)
    return found


def _page(
    statement: Select[Any], table: FromClause, names: Sequence[str], cursor: str | None, limit: int
) -> Select[Any]:
    keys = [table.c[name] for name in names]
    if cursor is not None:
        statement = statement.where(tuple_(*keys) > _literals(table, names, _values(cursor, table, names)))
    # One more than asked for tells whether there is another page.
    return (statement.order_by(*keys) if keys else statement).limit(limit + 1)


def _literals(table: FromClause, names: Sequence[str], values: Sequence[Any]) -> Any:
    return tuple_(*(literal(value, table.c[name].type) for name, value in zip(names, values, strict=True)))


def _values(cursor: str, table: FromClause, names: Sequence[str]) -> list[Any]:
    try:
        values = msgspec.json.decode(cursor, type=list[str])
        if not names or len(values) != len(names) or any("\0" in value for value in values):
            raise ValueError
        return [
            datetime.date.fromisoformat(value) if table.c[name].type.python_type is datetime.date else value
            for name, value in zip(names, values, strict=True)
        ]
    except (ValueError, msgspec.DecodeError):
        raise wrong_cursor() from None
