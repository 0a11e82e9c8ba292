"""Money by day is that of exact fractions, across days, time zones, price changes, replays and repricing."""

from __future__ import annotations

import asyncio
import datetime
import shutil
from collections import Counter
from fractions import Fraction
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from management.ledger.books import Books
from management.ledger.journal import read, write
from management.ledger.opening import open_books
from management.ledger.rebuild import rebuild, reprice
from store import database
from store.database import reading, writing
from store.migrate import upgrade
from store.money_tables import MONEY_DAILY, MONEY_ROLLUP, PRICED, SPENT_DAILY
from store.prices import Price, PriceList
from store.tables import USAGE_DAILY, USAGE_ROLLUP
from tests.billing import billed, event, request_data, request_id_of
from wire.usage import Usage

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

ZONES = ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/New_York", "Pacific/Auckland"]
# Around the changes of clocks of 2026 in Europe and New York.
FIRST_MS = int(datetime.datetime(2026, 3, 7, tzinfo=datetime.UTC).timestamp()) * 1000
SPAN_MS = 25 * 86_400_000
CHANGE_MS = FIRST_MS + SPAN_MS // 2

LATER_MS = FIRST_MS + SPAN_MS + 3 * 86_400_000

Told = tuple[int, int, str, str, int, str | None]
told_charges = st.lists(
    st.tuples(
        st.integers(0, 15),
        st.integers(0, SPAN_MS),
        st.sampled_from(["large", "small"]),
        st.sampled_from(["key-a", "key-b"]),
        st.integers(0, 10_000_000),
        st.sampled_from([None, "search", "größe"]),
    ),
    max_size=25,
    unique_by=lambda told: told[0],
)


def prices(first: int, second: int) -> PriceList:
    """Of model ``large``; ``small`` has none."""
    return PriceList(
        [
            Price(model="large", currency="USD", input=first),
            Price(model="large", currency="EUR", input=second, valid_from=CHANGE_MS),
        ],
        [Price(model="large", currency="USD", input=7)],
    )


def payload(told: Told) -> bytes:
    number, after_ms, model, key, tokens, tag = told
    time = datetime.datetime.fromtimestamp((FIRST_MS + after_ms) / 1000, datetime.UTC).isoformat()
    return billed(
        number,
        time=time,
        model=model,
        key_id=key,
        usage=Usage(prompt_tokens=tokens),
        tags={"team": tag} if tag else {},
    )


def expected(told: list[Told], zone: str, first: int, second: int) -> dict[Any, Any]:
    """Amounts by tag, day, model, key and currency."""
    sums: Counter[Any] = Counter()
    for _, after_ms, model, key, tokens, tag in told:
        time_ms = FIRST_MS + after_ms
        day = datetime.datetime.fromtimestamp(time_ms // 1000, ZoneInfo(zone)).date()
        currency, price = ("EUR", second) if time_ms >= CHANGE_MS else ("USD", first)
        amount = round(Fraction(tokens * price, 10**6))
        if model == "small":
            currency, amount = "", 0
        for each in ("", *([f"team={tag}"] if tag else [])):
            sums[each, day, model, key, currency, "amount"] += amount
            sums[each, day, model, key, currency, "requests"] += 1
    return dict(sums)


async def _money(engine: AsyncEngine) -> dict[Any, Any]:
    sums: dict[Any, Any] = {}
    async with reading(engine) as connection:
        for row in (await connection.execute(select(MONEY_DAILY).where(MONEY_DAILY.c.side == "charge"))).mappings():
            key = (row["tag"], row["day"], row["model"], row["key_id"], row["currency"])
            sums[*key, "amount"], sums[*key, "requests"] = row["amount"], row["requests"]
    return sums


async def _all(engine: AsyncEngine) -> list[Any]:
    async with reading(engine) as connection:
        return [
            (await connection.execute(select(table).order_by(*table.primary_key))).all()
            for table in (USAGE_DAILY, MONEY_DAILY, SPENT_DAILY, USAGE_ROLLUP, MONEY_ROLLUP)
        ]


def _by_key(daily: list[Any]) -> dict[Any, int]:
    sums: Counter[Any] = Counter()
    for row in daily:
        sums[row.tag, row.side, row.day, row.key_id, row.currency] += row.amount
    return dict(sums)


@settings(max_examples=25)
@given(
    told=told_charges,
    zone=st.sampled_from(ZONES),
    lists=st.tuples(*(st.integers(0, 10**10) for _ in range(4))),
    now_ms=st.integers(FIRST_MS, LATER_MS),
    data=st.data(),
)
def test_money_is_that_of_fractions(
    empty: Path, told: list[Told], zone: str, lists: tuple[int, int, int, int], now_ms: int, data: st.DataObject
) -> None:
    order = data.draw(st.permutations([*told, *told]))
    books = Books(ZoneInfo(zone), prices(*lists[:2]))
    dearer = Books(ZoneInfo(zone), prices(*lists[2:]))

    async def check() -> None:
        path = empty.with_name("filled.db")
        shutil.copy(empty, path)
        engine = database.open(f"sqlite+aiosqlite:///{path}")
        try:
            await open_books(engine, books, 1)
            for start in range(0, len(order), 7):
                # What is told of days before this one is told late.
                await write(engine, [read(payload(one)) for one in order[start : start + 7]], now_ms, books)
            await write(engine, [], LATER_MS, books)
            assert await _money(engine) == expected(told, zone, *lists[:2])
            before = await _all(engine)
            # Other prices hold for what comes; a rebuild keeps what was priced as it was priced.
            await rebuild(engine, dearer)
            assert await _all(engine) == before
            await reprice(engine, dearer)
            assert await _money(engine) == expected(told, zone, *lists[2:])
            await reprice(engine, books)
            assert await _all(engine) == before
            assert _by_key(before[1]) == {
                (row.tag, row.side, row.day, row.key_id, row.currency): row.amount
                for row in before[4]
                if row.rollup == "key"
            }
            # Every sum of a key's charges in a currency is what its budgets see.
            spent: Counter[Any] = Counter()
            for row in before[1]:
                if row.side == "charge" and row.currency and not row.tag:
                    spent[row.key_id, row.currency, row.day] += row.amount
            seen = {(r.subject, r.currency, r.day): r.amount for r in before[2] if r.scope == "key"}
            assert seen == dict(spent)
            async with writing(engine) as connection:
                for table in (USAGE_DAILY, MONEY_DAILY, SPENT_DAILY, USAGE_ROLLUP, MONEY_ROLLUP, PRICED):
                    await connection.execute(delete(table))
            await rebuild(engine, books)
            assert await _all(engine) == before
        finally:
            await engine.dispose()
            for name in path.parent.glob("filled.db*"):
                name.unlink()

    asyncio.run(check())


@pytest.mark.parametrize("zone", [*ZONES, "America/Santiago", "Africa/Cairo", "Asia/Beirut"])
def test_a_day_begins_where_the_day_before_ends(zone: str) -> None:
    books = Books(ZoneInfo(zone))
    day = datetime.date(2025, 12, 31)
    for _ in range(400):
        begins = books.begins_ms(day)
        assert (books.day(begins), books.day(begins - 1)) == (day, day - datetime.timedelta(days=1))
        day += datetime.timedelta(days=1)


def test_a_day_that_a_zone_left_out_begins_with_the_one_after_it() -> None:
    books = Books(ZoneInfo("Pacific/Apia"))
    left_out, after = (datetime.date(2011, 12, day) for day in (30, 31))
    assert books.begins_ms(left_out) == books.begins_ms(after)


async def test_what_is_wasted_is_the_operators_cost_and_nobody_is_charged_for_it(database_url: str) -> None:
    books = Books(prices=prices(1000, 1000))
    engine = database.open(database_url)
    await upgrade(engine)
    await open_books(engine, books, 1)
    wasted = request_data(1, model="large", status="superseded", usage=Usage(prompt_tokens=1_000_000))
    told = [
        event("cost-att_1", "request.cost", wasted),
        billed(1, model="large", usage=Usage(prompt_tokens=2_000_000)),
        event(f"failed-{request_id_of(2)}", "request.failed", request_data(2, model="large", usage=Usage())),
    ]
    await write(engine, [read(each) for each in told], 1, books)
    async with reading(engine) as connection:
        rows = (await connection.execute(select(MONEY_DAILY))).mappings().all()
    await engine.dispose()
    assert {row["side"]: (row["requests"], row["tokens"], row["amount"], row["currency"]) for row in rows} == {
        "charge": (1, 2_000_000, 2000, "USD"),
        "cost": (1, 2_000_000, 14, "USD"),
        "waste": (1, 1_000_000, 7, "USD"),
    }
