"""The statements behind the page of cost and usage: sums by one thing, the largest first, and by day."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, literal, select, tuple_

from management.sum_queries import exact_sum, total, wanted
from store.money_tables import MONEY_DAILY
from store.tables import USAGE_DAILY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Table

    from management.questions import UsageQuestion

COLUMNS = {"model": "model", "key": "key_id", "tag": "tag", "node": "node", "day": "day"}
MEASURES = ("tokens", "requests")


def sums(question: UsageQuestion, measure: str, after: tuple[int, str] | None, limit: int) -> Select[Any]:
    """A page of sums by ``question.by[0]`` and one more, the largest first; days, the latest first."""
    name = USAGE_DAILY.c[COLUMNS[question.by[0]]].label("name")
    grouped = (
        select(name, *_sums())
        .where(*wanted(USAGE_DAILY, question, question.tag))
        .group_by(USAGE_DAILY.c[COLUMNS[question.by[0]]])
        .subquery()
    )
    order: list[ColumnElement[Any]] = [grouped.c.name]
    if question.by[0] != "day":
        order.insert(0, grouped.c[measure])
    statement = select(grouped).order_by(*(each.desc() for each in order)).limit(limit + 1)
    if after is not None and len(order) == 2:
        statement = statement.where(tuple_(*order) < tuple_(*map(literal, after)))
    return statement


def of_names(question: UsageQuestion, names: Sequence[str]) -> Select[Any]:
    """Sums by ``question.by[0]``, of these names only."""
    column = USAGE_DAILY.c[COLUMNS[question.by[0]]]
    statement = select(column.label("name"), *_sums()).where(column.in_(names))
    return statement.where(*wanted(USAGE_DAILY, question, question.tag)).group_by(column)


def daily(question: UsageQuestion, names: Sequence[str]) -> Select[Any]:
    """By day and name, for these names; by day alone without names."""
    keys: list[Any] = [USAGE_DAILY.c.day]
    statement = select(USAGE_DAILY.c.day)
    if names:
        column = USAGE_DAILY.c[COLUMNS[question.by[0]]]
        keys.append(column)
        statement = select(USAGE_DAILY.c.day, column.label("name")).where(column.in_(names))
    return statement.add_columns(*_sums()).where(*wanted(USAGE_DAILY, question, question.tag)).group_by(*keys)


def charged(question: UsageQuestion, by: str | None, names: Sequence[Any] = ()) -> Select[Any]:
    """What customers pay, by currency and, where ``by`` names a column, by that; ``''`` stands for no price."""
    return _money(question, by, names).where(MONEY_DAILY.c.side == "charge")


def money(question: UsageQuestion) -> Select[Any]:
    """By day, currency and side: what customers pay, and what attempts cost; costs are known without tags only."""
    column = MONEY_DAILY.c
    statement = select(column.day.label("name"), column.side, column.currency, *_amounts(MONEY_DAILY))
    return statement.where(*wanted(MONEY_DAILY, question, question.tag)).group_by(
        column.day, column.side, column.currency
    )


def _money(question: UsageQuestion, by: str | None, names: Sequence[Any]) -> Select[Any]:
    keys = [MONEY_DAILY.c.currency] if by is None else [MONEY_DAILY.c[by], MONEY_DAILY.c.currency]
    labelled = keys if by is None else [MONEY_DAILY.c[by].label("name"), MONEY_DAILY.c.currency]
    statement = select(*labelled, *_amounts(MONEY_DAILY)).group_by(*keys).order_by(MONEY_DAILY.c.currency)
    if by is not None and names:
        statement = statement.where(MONEY_DAILY.c[by].in_(names))
    return statement.where(*wanted(MONEY_DAILY, question, question.tag))


def _amounts(table: Table) -> list[ColumnElement[Any]]:
    return [total(table.c.requests).label("requests"), *exact_sum()]


def _sums() -> list[ColumnElement[Any]]:
    column = USAGE_DAILY.c
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
