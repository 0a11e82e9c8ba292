"""The statements behind the page of cost and usage: sums by one thing, the largest first, and by day."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, literal, select, tuple_

from management.ledger.rollups import total
from management.ledger.sums import UNPRICED
from management.reading.sum_queries import amount_of, amount_sums, sums_for
from store.money_tables import MONEY_DAILY
from store.tables import USAGE_DAILY

if TYPE_CHECKING:
    import datetime
    from collections.abc import Mapping, Sequence

    from sqlalchemy import ColumnElement, FromClause

    from management.reading.questions import UsageQuestion

COLUMNS = {"model": "model", "key": "key_id", "tag": "tag", "node": "node", "day": "day"}
MEASURES = ("tokens", "requests")
_PARTS = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "estimated_requests")


def sums(
    question: UsageQuestion, measure: str, after: tuple[int, str | datetime.date] | None, limit: int
) -> Select[Any]:
    """A page of sums by ``question.by[0]`` and one more, the largest first; days, the latest first.

    ``after`` is the measure and the name of the row before.
    """
    column = COLUMNS[question.by[0]]
    grouped = _named(sums_for(USAGE_DAILY, question, [column], _sums), column).subquery()
    order: list[ColumnElement[Any]] = [grouped.c.name]
    if column != "day":
        order.insert(0, grouped.c[measure])
    statement = select(grouped).order_by(*(each.desc() for each in order)).limit(limit + 1)
    if after is not None:
        statement = statement.where(tuple_(*order) < tuple_(*map(literal, after[-len(order) :])))
    return statement


def of_names(question: UsageQuestion, names: Sequence[str]) -> Select[Any]:
    """Sums by ``question.by[0]``, of these names only."""
    column = COLUMNS[question.by[0]]
    statement = sums_for(USAGE_DAILY, question, [column], _sums, lambda table: [table.c[column].in_(names)])
    return _named(statement, column)


def daily(question: UsageQuestion, names: Sequence[str]) -> Select[Any]:
    """By day and name, for these names; by day alone without names."""
    if not names:
        return sums_for(USAGE_DAILY, question, ["day"], _sums)
    column = COLUMNS[question.by[0]]
    statement = sums_for(USAGE_DAILY, question, ["day", column], _sums, lambda table: [table.c[column].in_(names)])
    return _named(statement, column)


def charged(question: UsageQuestion, by: str, names: Sequence[Any] = ()) -> Select[Any]:
    """What customers pay, by currency and by a column that the question asks for; ``''`` stands for no price."""

    def of_names(table: FromClause) -> list[ColumnElement[bool]]:
        is_charge = table.c.side == "charge"
        return [is_charge, table.c[by].in_(names)] if names else [is_charge]

    statement = sums_for(MONEY_DAILY, question, [by, "currency"], amount_sums, of_names)
    return _named(statement, by).order_by("currency")


def money(question: UsageQuestion) -> Select[Any]:
    """By day, currency and side: what customers pay, and what attempts cost; costs are known without tags only."""
    return _named(sums_for(MONEY_DAILY, question, ["day", "side", "currency"], amount_sums), "day")


def by_currency(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    """Each currency with the nanos of all rows of it, the largest sum first; what has no price is left out."""
    found: dict[str, int] = {}
    for row in rows:
        if row["currency"] != UNPRICED:
            found[row["currency"]] = found.get(row["currency"], 0) + amount_of(row)
    return sorted(found.items(), key=lambda one: -one[1])


def _named(statement: Select[Any], column: str) -> Select[Any]:
    """The same rows, with this column called ``name``."""
    rows = statement.subquery()
    return select(*(each.label("name") if each.key == column else each for each in rows.c))


def _sums(table: FromClause) -> list[ColumnElement[int]]:
    column = table.c
    tokens = total(column.prompt_tokens + column.completion_tokens).label("tokens")
    return [total(column.requests).label("requests"), tokens, *(total(column[name]).label(name) for name in _PARTS)]
