"""Sums by day: of usage and of money. Pure, but for the statement that adds them to what is there."""

from __future__ import annotations

from operator import add
from typing import TYPE_CHECKING, Any

from store.budgets import subjects_of, tags_of
from store.insertion import insert
from store.money_tables import MONEY_DAILY, SPENT_DAILY
from store.tables import CHARGES, USAGE_DAILY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Table
    from sqlalchemy.dialects.postgresql import Insert

    from management.ledger.books import Books, Priced
    from management.ledger.facts import Fact

Row = tuple[Any, ...]
"""Of a table of sums: its key and then its sums, in the order of its columns."""

UNPRICED = ""
"""Stands for the currency of what has no price."""


def keys_of(table: Table) -> tuple[str, ...]:
    """The columns by which a table of sums is grouped."""
    return tuple(column.name for column in table.primary_key.columns)


def sums_of(table: Table) -> tuple[str, ...]:
    """The columns of a table that are sums."""
    return tuple(column.name for column in table.columns if not column.primary_key)


USAGE_SUMS = sums_of(USAGE_DAILY)
_CHARGE_SUMS = tuple(name for name in USAGE_SUMS if name in CHARGES.c)


class Sums:
    """Rows of one table that are added up before they are written."""

    def __init__(self, table: Table) -> None:
        self._keys = len(keys_of(table))  # which come first among the columns
        self._rows: dict[Row, Row] = {}

    def add(self, key: Row, amounts: tuple[int, ...]) -> None:
        """Both in the order of the table's columns."""
        known = self._rows.get(key)
        self._rows[key] = amounts if known is None else tuple(map(add, known, amounts))

    def add_rows(self, rows: Iterable[Row]) -> None:
        """Rows as :attr:`rows` has them."""
        keys = self._keys
        for row in rows:
            self.add(row[:keys], row[keys:])

    @property
    def rows(self) -> list[Row]:
        """Always in one order, so that two writers never wait for each other's rows in a circle."""
        return [key + self._rows[key] for key in sorted(self._rows)]


def daily_usage(facts: Iterable[Fact], books: Books) -> list[Row]:
    """The rows of ``usage_daily`` that the charges among these facts add up to."""
    sums = Sums(USAGE_DAILY)
    for fact in facts:
        if (charge := fact.charge) is None:
            continue
        amounts = (1, int(charge["estimated"]), *(charge[name] or 0 for name in _CHARGE_SUMS))
        key = (books.day(charge["time_ms"]), charge["model"], charge["key_id"] or "", charge["node"] or "")
        for tag in _with_all(fact.tags):
            sums.add((tag, *key), amounts)
    return sums.rows


def daily_money(priced: Iterable[tuple[Fact, Priced]], books: Books) -> tuple[list[Row], list[Row]]:
    """The rows of ``money_daily`` and of ``spent_daily`` that these uses add up to."""
    money, spent = Sums(MONEY_DAILY), Sums(SPENT_DAILY)
    for fact, worth in priced:
        use, event = fact.use, fact.event
        assert use is not None
        day, tokens = books.day(use.time_ms), use.prompt + use.completion
        place = (day, use.model, event["key_id"] or "", event["node"] or "", use.provider or "")
        if fact.charge is not None:
            for tag in _with_all(fact.tags):
                money.add((tag, "charge", *place, worth.currency or UNPRICED), (1, tokens, worth.amount or 0))
            if worth.amount is not None and worth.currency is not None:
                for scope, subject in subjects_of(use.model, event["key_id"], fact.tags):
                    spent.add((scope, subject, worth.currency, day), (worth.amount,))
        side = "waste" if fact.charge is None else "cost"
        money.add(("", side, *place, worth.cost_currency or UNPRICED), (1, tokens, worth.cost or 0))
    return money.rows, spent.rows


def add_up(dialect: str, table: Table) -> Insert:
    """Add rows of sums to those that are there."""
    statement = insert(dialect, table)
    return statement.on_conflict_do_update(
        index_elements=list(keys_of(table)),
        set_={name: table.c[name] + statement.excluded[name] for name in sums_of(table)},
    )


def _with_all(tags: dict[str, str]) -> list[str]:
    return ["", *tags_of(tags)]
