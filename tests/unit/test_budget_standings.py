"""How budgets stand, however many there are."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import Any, get_args

import pytest
from sqlalchemy import insert

from management.ledger.crossings import crossings
from store import budgets, database
from store.budgets import Ask, Budget, BudgetId, Period, Scope, Standing
from store.database import reading, writing
from store.migrate import upgrade
from store.money_tables import SPENT_DAILY

BIG = 9 * 10**18
TODAY = datetime.date(2026, 3, 31)
NOW_MS = int(datetime.datetime(2026, 3, 31, 12, tzinfo=datetime.UTC).timestamp()) * 1000
DAYS = {datetime.date(2026, 2, 28): 1000, datetime.date(2026, 3, 1): 100, TODAY: 10}
SPENT: dict[Period, int] = {"day": 10, "month": 110, "total": 1110}
PERIODS: tuple[Period, ...] = get_args(Period)
SCOPES: tuple[Scope, ...] = get_args(Scope)


@pytest.mark.parametrize("portion", [1_000, 7])
async def test_six_hundred_budgets_stand_as_each_of_them_does(
    database_url: str, portion: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "_PORTION", portion)
    ids = [BudgetId(SCOPES[number % 3], f"subject={number // 9}", PERIODS[number // 3 % 3]) for number in range(600)]
    assert len(set(ids)) == 600
    subjects = sorted({(id_.scope, id_.subject) for id_ in ids})
    engine = database.open(database_url)
    await upgrade(engine)
    spent = [
        {"scope": scope, "subject": subject, "currency": currency, "day": day, "amount": amount * (1 + place)}
        for place, (scope, subject) in enumerate(subjects)
        for day, amount in DAYS.items()
        for currency in ("USD", "EUR")[: 1 + place % 2]
    ]
    try:
        async with writing(engine) as connection:
            await connection.execute(insert(SPENT_DAILY), spent)
            for id_ in ids:
                new = Budget(id=id_, currency="USD", amount_max=10**9, warn_percent=80, created_ms=1)
                await budgets.put(connection, new)
            asks = [
                Ask("req_1", dict.fromkeys(ids, 5), NOW_MS + 1000),
                Ask("req_2", dict.fromkeys(ids[:300], 7), NOW_MS + 1000),
                Ask("req_3", dict.fromkeys(ids, 9), NOW_MS),
            ]
            assert await budgets.reserve(connection, asks, NOW_MS) == [None, None, None]
        async with reading(engine) as connection:
            found = await budgets.standings(connection, await budgets.listed(connection), TODAY, NOW_MS)
            assert await budgets.standings(connection, [], TODAY, NOW_MS) == {}
            wanted = {*subjects[::3], ("key", "unknown")}
            of_some = [each for each in await budgets.listed(connection) if each.id[:2] in wanted]
            assert await budgets.of_subjects(connection, wanted) == of_some
    finally:
        await engine.dispose()
    places = {subject: place for place, subject in enumerate(subjects)}
    assert found == {
        id_: Standing(SPENT[id_.period] * (1 + places[id_[:2]]), 12 if number < 300 else 5)
        for number, id_ in enumerate(ids)
    }


async def test_a_charge_reads_no_budgets_but_those_that_it_touches(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = database.open(database_url)
    await upgrade(engine)
    read: list[str] = []
    made = budgets._budget

    def noted(row: Any) -> Budget:
        read.append(row["subject"])
        return made(row)

    monkeypatch.setattr(budgets, "_budget", noted)
    try:
        async with writing(engine) as connection:
            for subject in ("a", "b", "c"):
                id_ = BudgetId("key", subject, "total")
                new = Budget(id=id_, currency="USD", amount_max=10, warn_percent=80, created_ms=1)
                await budgets.put(connection, new)
            await connection.execute(
                insert(SPENT_DAILY), {"scope": "key", "subject": "b", "currency": "USD", "day": TODAY, "amount": 10}
            )
            (crossing,) = await crossings(connection, [("key", "b", "USD", TODAY, 10)], NOW_MS)
    finally:
        await engine.dispose()
    assert (crossing.budget.id.subject, crossing.state) == ("b", "exhausted")
    assert read == ["b"]


@pytest.mark.parametrize("period", PERIODS)
async def test_what_is_told_late_of_earlier_days_brings_no_budget_to_its_end_again(
    database_url: str, period: Period
) -> None:
    before = datetime.date(2026, 2, 28)
    spent = {"scope": "key", "subject": "a", "currency": "USD"}
    engine = database.open(database_url)
    await upgrade(engine)
    try:
        async with writing(engine) as connection:
            id_ = BudgetId("key", "a", period)
            await budgets.put(connection, Budget(id=id_, currency="USD", amount_max=10, warn_percent=80, created_ms=1))
            rows = [{**spent, "day": TODAY, "amount": 10}, {**spent, "day": before, "amount": 9}]
            await connection.execute(insert(SPENT_DAILY), rows)
            late = ("key", "a", "USD", before, 9)
            assert await crossings(connection, [late], NOW_MS) == []
            both = [late, ("key", "a", "USD", TODAY, 1)]
            assert [found.state for found in await crossings(connection, both, NOW_MS)] == ["exhausted"]
    finally:
        await engine.dispose()


async def test_of_many_budgets_those_in_trouble_are_found_and_counted(database_url: str) -> None:
    """As each of them stands, whatever the amounts: a hundred times the greatest one does not fit into 64 bits."""
    engine = database.open(database_url)
    await upgrade(engine)
    wanted: dict[BudgetId, str] = {}
    try:
        async with writing(engine) as connection:
            for number, (percent, amount_max) in enumerate((p, a) for p in range(78, 103) for a in (100, BIG)):
                for period in PERIODS:
                    id_ = BudgetId("key", f"key {number:03}", period)
                    new = Budget(id=id_, currency="USD", amount_max=amount_max, warn_percent=80, created_ms=1)
                    await budgets.put(connection, new)
                    if percent >= 80:
                        wanted[id_] = "warning" if percent < 100 else "exhausted"
                    if period == "month" and number % 3:
                        wanted.pop(id_, None)
                        await budgets.put(connection, replace(new, amount_max=BIG, currency="EUR"))
                spent = {"scope": "key", "subject": f"key {number:03}", "day": TODAY, "currency": "USD"}
                await connection.execute(
                    insert(SPENT_DAILY), [spent | {"amount": amount_max // 100 * percent + amount_max % 100}]
                )
            zero = Budget(id=BudgetId("tag", "a=b", "day"), currency="USD", amount_max=0, warn_percent=80, created_ms=1)
            await budgets.put(connection, zero)
            wanted[zero.id] = "exhausted"
        async with reading(engine) as connection:
            listed = await budgets.listed(connection)
            standing = await budgets.standings(connection, listed, TODAY, NOW_MS)
            assert {each.id: state for each in listed if (state := standing[each.id].state(each)) != "ok"} == wanted
            found, count = await budgets.in_trouble(connection, TODAY, 1000)
            assert ({budget.id: state for budget, state in found}, count) == (wanted, len(wanted))
            assert [budget.id for budget, _ in found] == sorted(wanted)
            first, count = await budgets.in_trouble(connection, TODAY, 7)
            assert (first, count) == (found[:7], len(wanted))
            later, _ = await budgets.in_trouble(connection, TODAY + datetime.timedelta(days=1), 1000)
            assert {budget.id.period for budget, _ in later} == {"day", "total"}, "the next day is of another month"
            assert [budget.id.subject for budget, _ in later if budget.id.period == "day"] == ["a=b"]
    finally:
        await engine.dispose()


async def test_every_budget_is_on_one_page(database_url: str) -> None:
    engine = database.open(database_url)
    await upgrade(engine)
    try:
        async with writing(engine) as connection:
            for number in range(30):
                id_ = BudgetId(SCOPES[number % 3], f"a~{number % 5}", PERIODS[number // 10])
                await budgets.put(
                    connection, Budget(id=id_, currency="USD", amount_max=1, warn_percent=80, created_ms=1)
                )
        async with reading(engine) as connection:
            listed, found = await budgets.listed(connection), await budgets.page(connection, None, 4)
            while more := await budgets.page(connection, found[-1].id, 4):
                assert len(more) <= 4
                found += more
        assert found == listed
        assert len({each.id for each in found}) == len(found) > 20
    finally:
        await engine.dispose()
