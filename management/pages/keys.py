"""Clients' keys with what they used, budgets and how they stand, and the prices that hold."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from management.api.money import budget_shown, prices_shown
from management.pages import usage_sums
from management.pages.filters import link, question_of
from management.reading.questions import UsageQuestion
from process.identity import now_ms
from store import budgets, keys
from store.budgets import PERIODS, SCOPES, BudgetId
from store.database import reading
from wire.errors import InvalidRequest

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection
    from starlette.responses import Response

    from management.pages.site import Visit
    from store.prices import PriceList, Side

ROWS = 50
DAYS = 30


async def show(visit: Visit) -> Response:
    """The page."""
    now, asked, books = now_ms(), visit.asked, visit.sources.books
    async with reading(visit.sources.engine) as connection:
        found = await keys.page(connection, asked.get("after"), ROWS + 1)
        bounds = await budgets.page(connection, _budget_id(asked.get("budgets")), ROWS + 1)
        more_budgets, shown = len(bounds) > ROWS, bounds[:ROWS]
        standing = await budgets.standings(connection, shown, await budgets.today(connection, now), now)
        more, found = len(found) > ROWS, found[:ROWS]
        used = await _used(connection, [key.name for key in found], books.day(now))
    return visit.page(
        "keys.html",
        keys=[(key, key.state(now), used.get(key.name)) for key in found],
        days=DAYS,
        budgets=[budget_shown(budget, standing[budget.id]) | _bar(budget, standing[budget.id]) for budget in shown],
        next_keys=link("/keys", asked, after=found[-1].name) if more else None,
        next_budgets=link("/keys", asked, budgets=_cursor(shown[-1].id)) if more_budgets else None,
        prices=_not_over(books.prices, "price", now),
        costs=_not_over(books.prices, "cost", now),
        price_version=books.prices.version,
    )


async def _used(connection: AsyncConnection, names: list[str], today: datetime.date) -> dict[str, Any]:
    since = (today - datetime.timedelta(days=DAYS - 1)).isoformat()
    question = question_of(UsageQuestion, by=["key"], since=since, until=today.isoformat())
    found = (await connection.execute(usage_sums.of_names(question, names))).mappings()
    return {row["name"]: dict(row) for row in found}


def _not_over(held: PriceList, side: Side, now: int) -> list[dict[str, Any]]:
    """The prices that hold now, and those that will."""
    prices = held.prices if side == "price" else held.costs
    return prices_shown(
        price
        for price in prices
        if price.valid_from > now or held.find(side, price.model, price.provider, now) is price
    )


def _bar(budget: budgets.Budget, standing: budgets.Standing) -> dict[str, Any]:
    """What is drawn. Percents are whole ones: what is not wholly spent is not told to be."""
    whole = budget.amount_max
    spent = min(100.0, 100 * standing.spent / whole) if whole else 100.0
    held = min(100.0 - spent, 100 * standing.held / whole) if whole else 0.0
    return {"spent_part": spent, "held_part": held, "percent": 100 * standing.spent // whole if whole else 100}


def _cursor(id_: BudgetId) -> str:
    return f"{id_.scope}~{id_.period}~{id_.subject}"


def _budget_id(cursor: str | None) -> BudgetId | None:
    if cursor is None:
        return None
    scope, _, rest = cursor.partition("~")
    period, _, subject = rest.partition("~")  # the last, for it may be any text
    if scope not in SCOPES or period not in PERIODS:
        raise InvalidRequest("budgets: it was not made by this page.")
    return BudgetId(scope, subject, period)
