"""Which budgets came to their threshold, or to their end, by what a batch added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from store.budgets import Standing, of_subjects, standings, today

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from management.ledger.sums import Row
    from store.budgets import Budget


@dataclass(frozen=True)
class Crossing:
    """``state`` is ``warning`` or ``exhausted``, and was something else before."""

    budget: Budget
    state: str


async def crossings(connection: AsyncConnection, added: Sequence[Row], now_ms: int) -> list[Crossing]:
    """``added`` are rows of ``spent_daily`` that this transaction has just added."""
    if not added:
        return []
    touched = {(scope, subject, currency) for scope, subject, currency, _, _ in added}
    of_touched = await of_subjects(connection, {(scope, subject) for scope, subject, _ in touched})
    budgets = [each for each in of_touched if (*each.id[:2], each.currency) in touched]
    if not budgets:
        return []
    day = await today(connection, now_ms)
    standing = await standings(connection, budgets, day, now_ms)
    found = []
    for budget in budgets:
        after = standing[budget.id]
        first = {"day": day, "month": day.replace(day=1), "total": day.min}[budget.id.period]
        share = sum(
            amount
            for scope, subject, currency, added_to, amount in added
            if (scope, subject, currency) == (*budget.id[:2], budget.currency) and added_to >= first
        )
        state = after.state(budget)
        if state not in ("ok", Standing(after.spent - share).state(budget)):
            found.append(Crossing(budget, state))
    return found
