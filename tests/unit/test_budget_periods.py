"""When a budget's period begins anew, what fills it, and what frees it."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import insert

from store import budgets, database, keys
from store.budgets import Ask, Budget, BudgetId, Standing
from store.database import reading, writing
from store.ledger_state import set_time_zone
from store.migrate import upgrade
from store.money_tables import RESERVATIONS, SPENT_DAILY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from store.budgets import Period

DAY, MONTH, TOTAL = (BudgetId("key", "app", period) for period in budgets.PERIODS)
LAST_DAY = datetime.date(2026, 3, 31)


def ms(text: str) -> int:
    return int(datetime.datetime.fromisoformat(text).timestamp() * 1000)


NOW_MS = ms("2026-03-31T12:00:00Z")


def budget(id_: BudgetId, amount_max: int = 10, currency: str = "USD") -> Budget:
    return Budget(id=id_, currency=currency, amount_max=amount_max, warn_percent=80, created_ms=1)


class Books:
    """The budgets of a ledger."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    async def put(self, *changed: Budget) -> None:
        async with writing(self.engine) as connection:
            for each in changed:
                await budgets.put(connection, each)

    async def spend(self, amount: int, day: datetime.date = LAST_DAY, currency: str = "USD") -> None:
        row = {"scope": "key", "subject": "app", "currency": currency, "day": day, "amount": amount}
        async with writing(self.engine) as connection:
            await connection.execute(insert(SPENT_DAILY), row)

    async def full(self, *asks: Ask, now_ms: int = NOW_MS) -> list[BudgetId | None]:
        """Which budget has no room for each of them."""
        async with writing(self.engine) as connection:
            found = await budgets.reserve(connection, asks, now_ms)
        return [None if each is None else each.id for each in found]

    async def standing(self, id_: BudgetId, now_ms: int = NOW_MS) -> Standing:
        async with reading(self.engine) as connection:
            found = [each for each in await budgets.listed(connection) if each.id == id_]
            day = await budgets.today(connection, now_ms)
            return (await budgets.standings(connection, found, day, now_ms))[id_]

    async def reserved(self) -> list[str]:
        async with reading(self.engine) as connection:
            return sorted(await connection.scalars(RESERVATIONS.select()))

    async def version(self) -> int:
        async with reading(self.engine) as connection:
            return await keys.version(connection)


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[Books]:
    engine = database.open(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
    await upgrade(engine)
    yield Books(engine)
    await engine.dispose()


def ask(number: int, amount: int = 1, *ids: BudgetId, expires_ms: int = NOW_MS + 1000) -> Ask:
    return Ask(f"req_{number}", dict.fromkeys(ids or (DAY,), amount), expires_ms)


@pytest.mark.parametrize(
    ("zone", "last", "first"),
    [
        (None, "2026-03-31T23:59:59.999Z", "2026-04-01T00:00:00Z"),
        ("Europe/Berlin", "2026-03-31T21:59:59.999Z", "2026-03-31T22:00:00Z"),
        ("America/New_York", "2026-04-01T03:59:59.999Z", "2026-04-01T04:00:00Z"),
        ("Pacific/Kiritimati", "2026-03-31T09:59:59.999Z", "2026-03-31T10:00:00Z"),
    ],
)
async def test_a_day_and_a_month_turn_at_the_ledgers_midnight(
    books: Books, zone: str | None, last: str, first: str
) -> None:
    if zone is not None:
        async with writing(books.engine) as connection:
            await set_time_zone(connection, zone)
    await books.put(*map(budget, (DAY, MONTH, TOTAL)))
    await books.spend(10)
    asks = [
        ask(number, 1, id_, expires_ms=ms("2026-05-01T00:00:00Z")) for number, id_ in enumerate((DAY, MONTH, TOTAL))
    ]
    assert await books.full(*asks, now_ms=ms(last)) == [DAY, MONTH, TOTAL]
    assert await books.full(*asks, now_ms=ms(first)) == [None, None, TOTAL]
    assert await books.standing(MONTH, ms(last)) == Standing(10, 1)
    assert await books.standing(MONTH, ms(first)) == Standing(0, 1)


@pytest.mark.parametrize(("period", "spent"), [("day", 1), ("month", 11), ("total", 111)])
async def test_a_period_has_its_own_days(books: Books, period: Period, spent: int) -> None:
    id_ = BudgetId("key", "app", period)
    await books.put(budget(id_, 1000))
    for amount, day in ((1, LAST_DAY), (10, LAST_DAY.replace(day=1)), (100, datetime.date(2026, 2, 28))):
        await books.spend(amount, day)
    await books.spend(1000, currency="EUR")
    assert await books.standing(id_) == Standing(spent, 0)


async def test_a_request_that_one_budget_has_no_room_for_is_reserved_in_none(books: Books) -> None:
    await books.put(budget(DAY, 10), budget(MONTH, 5))
    asks = [ask(1, 6, DAY, MONTH), ask(2, 5, DAY, MONTH), ask(3, 6, DAY), ask(4, 5, DAY), ask(5, 1, DAY)]
    assert await books.full(*asks) == [MONTH, None, DAY, None, DAY]
    assert await books.reserved() == ["req_2", "req_2", "req_4"]
    assert await books.full(ask(6, 1, MONTH)) == [MONTH], "what others have reserved counts"


async def test_what_is_reserved_for_a_budget_that_is_gone_is_nothing(books: Books) -> None:
    assert await books.full(ask(1, 1000)) == [None]
    assert await books.reserved() == []


async def test_a_reservation_is_free_at_its_end_and_then_forgotten(books: Books) -> None:
    await books.put(budget(DAY))
    assert await books.full(ask(1, 10, expires_ms=NOW_MS + 1), ask(2, 1)) == [None, DAY]
    assert await books.full(ask(3, 10), now_ms=NOW_MS + 1) == [None]
    async with writing(books.engine) as connection:
        await budgets.forget_expired(connection, NOW_MS)
    assert await books.reserved() == ["req_1", "req_3"]
    async with writing(books.engine) as connection:
        await budgets.forget_expired(connection, NOW_MS + 1)
    assert await books.reserved() == ["req_3"]
    async with writing(books.engine) as connection:
        await budgets.release(connection, ["req_0"])
        await budgets.release(connection, [])
    assert await books.reserved() == ["req_3"]
    async with writing(books.engine) as connection:
        await budgets.release(connection, ["req_3"])
    assert await books.reserved() == []


async def test_gateways_see_each_change_of_a_budget_by_the_version(books: Books) -> None:
    versions = [await books.version()]
    await books.put(budget(DAY))
    await books.spend(7)
    versions.append(await books.version())
    await books.put(budget(DAY, 8))
    assert await books.full(ask(1, 1), ask(2, 1)) == [None, DAY], "what was spent stays spent"
    versions.append(await books.version())
    await books.put(budget(DAY, 8, "EUR"))
    assert await books.standing(DAY) == Standing(0, 0), "neither what is spent nor what is reserved is euros"
    assert await books.full(ask(3, 8)) == [None]
    versions.append(await books.version())
    async with writing(books.engine) as connection:
        assert await budgets.remove(connection, DAY)
    async with writing(books.engine) as connection:
        assert not await budgets.remove(connection, DAY)
    versions.append(await books.version())
    assert await books.reserved() == []
    assert versions == sorted(set(versions))


def test_a_state_begins_at_its_percentage_and_ends_with_the_last_billionth() -> None:
    states = [Standing(spent, 1000).state(budget(DAY, 1000)) for spent in (0, 799, 800, 999, 1000, 1001)]
    assert states == ["ok", "ok", "warning", "warning", "exhausted", "exhausted"]


def test_a_request_touches_the_budgets_of_its_key_its_model_and_its_tags() -> None:
    tags = {"team": "search", "job": "a=b"}
    assert budgets.subjects_of("m", "app", tags) == [
        ("key", "app"), ("model", "m"), ("tag", "job=a=b"), ("tag", "team=search")
    ]  # fmt: skip
    assert budgets.subjects_of("m", None, {}) == [("model", "m")]
