"""The statements behind the page of cost and usage: sums by one thing, the largest first, and by day."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, literal, select, tuple_

from management.sum_queries import exact_sum, sums_for, total, wanted
from store.money_tables import MONEY_DAILY
from store.tables import USAGE_DAILY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, FromClause

    from management.questions import UsageQuestion

COLUMNS = {"model": "model", "key": "key_id", "tag": "tag", "node": "node", "day": "day"}
MEASURES = ("tokens", "requests")


def sums(question: UsageQuestion, measure: str, after: tuple[int, str] | None, limit: int) -> Select[Any]:
    """A page of sums by ``question.by[0]`` and one more, the largest first; days, the latest first."""
    table = sums_for(USAGE_DAILY, question)
    column = table.c[COLUMNS[question.by[0]]]
    statement = select(column.label("name"), *_sums(table)).where(*wanted(table, question, question.tag))
    grouped = statement.group_by(column).subquery()
    order: list[ColumnElement[Any]] = [grouped.c.name]
    if question.by[0] != "day":
        order.insert(0, grouped.c[measure])
    statement = select(grouped).order_by(*(each.desc() for each in order)).limit(limit + 1)
    if after is not None and len(order) == 2:
        statement = statement.where(tuple_(*order) < tuple_(*map(literal, after)))
    return statement


def of_names(question: UsageQuestion, names: Sequence[str]) -> Select[Any]:
    """Sums by ``question.by[0]``, of these names only."""
    table = sums_for(USAGE_DAILY, question)
    column = table.c[COLUMNS[question.by[0]]]
    statement = select(column.label("name"), *_sums(table)).where(column.in_(names))
    return statement.where(*wanted(table, question, question.tag)).group_by(column)


def daily(question: UsageQuestion, names: Sequence[str]) -> Select[Any]:
    """By day and name, for these names; by day alone without names."""
    table = sums_for(USAGE_DAILY, question)
    keys: list[Any] = [table.c.day]
    statement = select(table.c.day)
    if names:
        column = table.c[COLUMNS[question.by[0]]]
        keys.append(column)
        statement = select(table.c.day, column.label("name")).where(column.in_(names))
    return statement.add_columns(*_sums(table)).where(*wanted(table, question, question.tag)).group_by(*keys)


def charged(question: UsageQuestion, by: str, names: Sequence[Any] = ()) -> Select[Any]:
    """What customers pay, by currency and by a column that the question asks for; ``''`` stands for no price."""
    table = sums_for(MONEY_DAILY, question)
    column, currency = table.c[by], table.c.currency
    statement = select(column.label("name"), currency, *_amounts(table)).where(table.c.side == "charge")
    if names:
        statement = statement.where(column.in_(names))
    return statement.where(*wanted(table, question, question.tag)).group_by(column, currency).order_by(currency)


def money(question: UsageQuestion) -> Select[Any]:
    """By day, currency and side: what customers pay, and what attempts cost; costs are known without tags only."""
    table = sums_for(MONEY_DAILY, question)
    column = table.c
    statement = select(column.day.label("name"), column.side, column.currency, *_amounts(table))
    return statement.where(*wanted(table, question, question.tag)).group_by(column.day, column.side, column.currency)


def _amounts(table: FromClause) -> list[ColumnElement[Any]]:
    return [total(table.c.requests).label("requests"), *exact_sum(table)]


def _sums(table: FromClause) -> list[ColumnElement[Any]]:
    column = table.c
    return [
        total(column.requests).label("requests"),
        total(column.prompt_tokens + column.completion_tokens).label("tokens"),
        *(
            total(column[name]).label(name)
            for name in (
                "prompt_tokens",
                "completion_tokens",
                "cached_tokens",
                "reasoning_tokens",
                "estimated_requests",
            )
        ),
    ]
