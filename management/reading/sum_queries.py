"""The statements behind the REST API's sums, for both databases."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from sqlalchemy import Select, func, literal, tuple_

from management.ledger.rollups import rollup_for, summed, total
from management.ledger.sums import USAGE_SUMS
from management.reading.queries import Unindexed, wrong_cursor
from store.amount import NANOS
from store.money_tables import MONEY_DAILY
from store.tables import USAGE_DAILY
from wire.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import ColumnElement, FromClause, Table
    from sqlalchemy.sql.expression import Tuple

    from management.reading.questions import CostsQuestion, UsageQuestion

By = Literal["day", "model", "key", "node", "tag", "provider"]
_COLUMNS = {"day": "day", "model": "model", "key": "key_id", "node": "node", "tag": "tag", "provider": "provider"}
_FILTERS = ("model", "key_id", "node", "provider")
_COST_KEYS = ("side", "currency")
DAYS_MAX, FEW_DAYS_MAX = 31, 7
"""Of which sums of keys by their nodes or their tags are told at once, and of which those by models or nodes and tags:
the ledger has no rollup of them that is much smaller than its sums by day."""


def groups(by: Sequence[str]) -> list[str]:
    """The columns to group by, in one order whatever the order asked for."""
    return [column for name, column in _COLUMNS.items() if name in by]


def sums_for(
    daily: Table,
    question: UsageQuestion | CostsQuestion,
    keys: Sequence[str],
    sums: Callable[[FromClause], Sequence[ColumnElement[int]]],
    also: Callable[[FromClause], Sequence[ColumnElement[bool]]] = lambda _: (),
    page: Callable[[Select[Any]], Select[Any]] = lambda statement: statement,
) -> Select[Any]:
    """Sums by ``keys`` of what a question asks for and ``also`` wants; for ``page`` see :func:`summed`."""
    filters = [name for name in _FILTERS if getattr(question, name, None) is not None]
    rollup = rollup_for(daily, [*groups(question.by), *filters])

    def wanted(table: FromClause) -> list[ColumnElement[bool]]:
        return [*_wanted(table, question), *also(table)]

    return summed(daily, rollup, keys, sums, wanted, page, any_tag=_any_tag(question))


def usage(question: UsageQuestion) -> Select[Any]:
    """A page of sums of usage and one more, ordered by their groups.

    Raises :class:`wire.errors.InvalidRequest` for those of more days than are told at once.
    """
    _check_days(question)
    names = groups(question.by)
    return sums_for(USAGE_DAILY, question, names, _usage_sums, page=lambda each: _page(each, names, question))


def amounts(question: UsageQuestion, page: Sequence[dict[str, Any]]) -> Select[Any]:
    """What the charges of these sums come to, by currency: the rows of a page of :func:`usage`."""
    names = groups(question.by)
    keys = [*names, "currency"]
    statement = sums_for(MONEY_DAILY, question, keys, amount_sums, lambda table: [table.c.side == "charge"])
    if names:
        place = _place(statement, names)
        first, last = (_literals(place, [row[name] for name in names]) for row in (page[0], page[-1]))
        statement = statement.where(place >= first, place <= last)
    return statement.order_by(*keys)


def costs(question: CostsQuestion) -> Select[Any]:
    """A page of sums of what attempts cost the operator and one more, ordered by their groups; see :func:`usage`."""
    _check_days(question)
    names = cost_groups(question)

    def are_costs(table: FromClause) -> list[ColumnElement[bool]]:
        return [table.c.side.in_(("cost", "waste"))]

    return sums_for(MONEY_DAILY, question, names, _cost_sums, are_costs, lambda each: _page(each, names, question))


def cost_groups(question: CostsQuestion) -> list[str]:
    """The columns that :func:`costs` groups by."""
    return [*groups(question.by), *_COST_KEYS]


def amount_of(row: Any) -> int:
    """The nanos of a row of :func:`amounts` or :func:`costs`."""
    return int(row["units"]) * NANOS + int(row["rest"])


def cursor_of_group(row: dict[str, Any], names: Sequence[str]) -> str:
    """Where the page after this row of sums begins."""
    return msgspec.json.encode([row[name] for name in names]).decode()


def amount_sums(money: FromClause) -> list[ColumnElement[int]]:
    """How many requests, and the two columns that :func:`amount_of` puts together."""
    # In two parts: a sum of nanos might not fit into 64 bits.
    amount = money.c.amount
    parts = [total(amount // NANOS).label("units"), total(amount % NANOS).label("rest")]
    return [total(money.c.requests).label("requests"), *parts]


def _cost_sums(money: FromClause) -> list[ColumnElement[int]]:
    return [*amount_sums(money), total(money.c.tokens).label("tokens")]


def _usage_sums(table: FromClause) -> list[ColumnElement[int]]:
    return [total(table.c[name]).label(name) for name in USAGE_SUMS]


def _wanted(table: FromClause, question: UsageQuestion | CostsQuestion) -> list[ColumnElement[bool]]:
    columns, tag = table.c, getattr(question, "tag", None)
    found = [columns[name] == value for name in _FILTERS if (value := getattr(question, name, None)) is not None]
    if tag is not None and "=" not in tag:
        # No LIKE: to SQLite, and not to PostgreSQL, capital and small letters would be the same.
        found.append(func.substr(columns.tag, 1, len(tag) + 1) == f"{tag}=")
    elif tag is not None:
        found.append(columns.tag == tag)
    else:
        found.append(columns.tag != "" if "tag" in question.by else columns.tag == "")
    if question.since is not None:
        found.append(columns.day >= question.since)
    if question.until is not None:
        found.append(columns.day <= question.until)
    return found


def days_max(question: UsageQuestion | CostsQuestion) -> int | None:
    """How many days it may be about; None for any number."""
    filters = {name for name in ("model", "key", "node") if getattr(question, _COLUMNS[name]) is not None}
    by, any_tag = set(question.by) - filters, _any_tag(question)
    if "key" in by and any_tag and by & {"model", "node"}:
        return FEW_DAYS_MAX
    if "key" in by and (any_tag or "node" in by):
        return DAYS_MAX
    # Few rows, but they are found among those of all keys, nodes and tags.
    return DAYS_MAX if any_tag and {"key", "node"} <= by | filters else None


def _any_tag(question: UsageQuestion | CostsQuestion) -> bool:
    tag = getattr(question, "tag", None)
    return "tag" in question.by if tag is None else "=" not in tag


def _check_days(question: UsageQuestion | CostsQuestion) -> None:
    if (most := days_max(question)) is None:
        return
    since, until = question.since, question.until
    if since is None or until is None or (until - since).days >= most:
        raise InvalidRequest(
            f"by: sums of so many rows are told for {most} days at most: set since and until, or ask for one key, node "
            "or tag.",
            param="by",
        )


def _page(statement: Select[Any], names: Sequence[str], question: UsageQuestion | CostsQuestion) -> Select[Any]:
    keys = [statement.selected_columns[name] for name in names]
    if question.cursor is not None:
        place = _place(statement, names)
        statement = statement.where(place > _literals(place, _values(question.cursor, keys)))
    # One more than asked for tells whether there is another page.
    return statement.order_by(*keys).limit(question.limit + 1)


def _place(statement: Select[Any], names: Sequence[str]) -> Tuple:
    """Of a row, in the order of the pages."""
    columns = statement.selected_columns
    # No bare tag: SQLite would look for tags by an index that has every day of each.
    return tuple_(*(Unindexed(columns[name]) if name == "tag" else columns[name] for name in names))


def _literals(keys: Tuple, values: Sequence[Any]) -> Tuple:
    return tuple_(*(literal(value, key.type) for key, value in zip(keys.clauses, values, strict=True)))


def _values(cursor: str, keys: Sequence[ColumnElement[Any]]) -> list[Any]:
    try:
        values = msgspec.json.decode(cursor, type=list[str])
        if not keys or len(values) != len(keys) or any("\0" in value for value in values):
            raise ValueError
        return [
            datetime.date.fromisoformat(value) if key.type.python_type is datetime.date else value
            for key, value in zip(keys, values, strict=True)
        ]
    except (ValueError, msgspec.DecodeError):
        raise wrong_cursor() from None
