"""The REST API of usage and money: sums, costs, prices and budgets. It only reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query

from management.api.money_answers import Budgets, Costs, Prices, Usages
from management.ledger.sums import UNPRICED
from management.reading import sum_queries
from management.reading.questions import (  # noqa: TC001 (FastAPI reads annotations when a route is made)
    CostsQuestion,
    NoQuestion,
    UsageQuestion,
)
from process.identity import now_ms
from store import amount, budgets
from store.database import reading

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.ext.asyncio import AsyncEngine

    from management.ledger.books import Books
    from store.budgets import Budget, Standing
    from store.prices import Price

_AMOUNTS = ("input", "cached_input", "output", "reasoning", "per_request", "per_image")


def money_api(engine: AsyncEngine, books: Books) -> APIRouter:
    """The routes below ``/api/v1``."""
    router = APIRouter()

    @router.get("/usage", summary="Sums of charges", response_model=Usages, response_model_exclude_unset=True)
    async def usage(question: Annotated[UsageQuestion, Query()]) -> dict[str, Any]:
        async with reading(engine) as connection:  # one state of the database for both
            found = [dict(row) for row in (await connection.execute(sum_queries.usage(question))).mappings()]
            page = found[: question.limit]
            money = (await connection.execute(sum_queries.amounts(question, page))).mappings().all() if page else []
        names = sum_queries.groups(question.by)
        _add_amounts(page, money, names)
        more = len(found) > question.limit
        return {"data": page, "next_cursor": sum_queries.cursor_of_group(page[-1], names) if more else None}

    @router.get("/costs", summary="What attempts cost", response_model=Costs, response_model_exclude_unset=True)
    async def costs(question: Annotated[CostsQuestion, Query()]) -> dict[str, Any]:
        async with reading(engine) as connection:
            found = [dict(row) for row in (await connection.execute(sum_queries.costs(question))).mappings()]
        page = found[: question.limit]
        more = len(found) > question.limit
        cursor = sum_queries.cursor_of_group(page[-1], sum_queries.cost_groups(question)) if more else None
        return {"data": [_cost(row) for row in page], "next_cursor": cursor}

    @router.get("/prices", summary="The prices that hold now", response_model=Prices)
    async def prices(_: Annotated[NoQuestion, Query()]) -> dict[str, Any]:
        held = books.prices
        return {"version": held.version, "prices": prices_shown(held.prices), "costs": prices_shown(held.costs)}

    @router.get("/budgets", summary="Budgets, and how they stand", response_model=Budgets)
    async def budgets_(_: Annotated[NoQuestion, Query()]) -> dict[str, Any]:
        now = now_ms()
        async with reading(engine) as connection:
            found = await budgets.listed(connection)
            standing = await budgets.standings(connection, found, await budgets.today(connection, now), now)
        return {"data": [budget_shown(budget, standing[budget.id]) for budget in found]}

    return router


def budget_shown(budget: Budget, standing: Standing) -> dict[str, Any]:
    """A budget as it is answered."""
    return {
        **budget.id._asdict(),
        "currency": budget.currency,
        "limit": amount.shown(budget.amount_max),
        "spent": amount.shown(standing.spent),
        "reserved": amount.shown(standing.held),
        "left": amount.shown(max(0, budget.amount_max - standing.spent - standing.held)),
        "warn_percent": budget.warn_percent,
        "state": standing.state(budget),
    }


def _add_amounts(page: list[dict[str, Any]], money: Iterable[Any], names: list[str]) -> None:
    priced: dict[tuple[Any, ...], list[Any]] = {}
    for row in money:
        if row["currency"] != UNPRICED:
            priced.setdefault(tuple(row[name] for name in names), []).append(row)
    for row in page:
        found = priced.get(tuple(row[name] for name in names), [])
        row["amounts"] = [
            {"currency": each["currency"], "amount": amount.shown(sum_queries.amount_of(each))} for each in found
        ]
        row["unpriced_requests"] = row["requests"] - sum(each["requests"] for each in found)


def _cost(row: dict[str, Any]) -> dict[str, Any]:
    is_priced = row["currency"] != UNPRICED
    shown = {name: value for name, value in row.items() if name not in ("side", "requests", "units", "rest")}
    return shown | {
        "wasted": row["side"] == "waste",
        "attempts": row["requests"],
        "currency": row["currency"] if is_priced else None,
        "amount": amount.shown(sum_queries.amount_of(row)) if is_priced else None,
    }


def prices_shown(prices: Iterable[Price]) -> list[dict[str, Any]]:
    """Prices as they are answered."""
    return [
        {
            "model": price.model,
            "provider": price.provider,
            "currency": price.currency,
            "valid_from_ms": price.valid_from,
            **{name: None if (nanos := getattr(price, name)) is None else amount.shown(nanos) for name in _AMOUNTS},
        }
        for price in prices
    ]
