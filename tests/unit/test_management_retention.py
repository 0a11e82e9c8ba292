"""Old rows go, sums stay, and nothing is counted twice because its event is gone."""

from __future__ import annotations

import asyncio
import datetime
import re
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Table, func, insert, select, text
from sqlalchemy.event import listen, remove

from management import retention
from management.fleet.nodes import NodeRegistry
from management.ledger.books import Books
from management.ledger.journal import Entry, WrongTimeZone, read, write
from management.ledger.opening import open_books
from management.ledger.rebuild import ZoneIsFixed, rebuild, reprice
from management.reading.fleet_queries import dead_letters
from management.reading.fleet_questions import DeadLettersQuestion
from management.retention import keep, sweep
from management.settings import ManagementSettings, Retention
from process.settings import load
from store import actions, alerts, database
from store.budgets import Ask, Budget, BudgetId, put, release, reserve
from store.database import reading, writing
from store.fleet_tables import ACTIONS, ALERTS, ERRORS_DAILY, NODE_ERRORS
from store.ledger_state import alone
from store.migrate import upgrade
from store.money_tables import MONEY_DAILY, MONEY_ROLLUP, PRICED, RESERVATIONS
from store.prices import Price, PriceList
from store.tables import CHARGES, ENDS, EVENTS, NODES, PROMPTS, QUARANTINE, USAGE_DAILY, USAGE_ROLLUP
from tests.billing import NOON_MS, billed, event, node_event, request_data, request_id_of
from tests.waiting import until
from wire.presence import Presence

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

DAY_MS = 86_400_000
BERLIN = ZoneInfo("Europe/Berlin")
BOOKS = Books(BERLIN, PriceList([Price(model="small", currency="USD", input=10**9, output=10**9)]))
NOW_MS = NOON_MS + 9 * DAY_MS


def _time(days: int) -> str:
    return (datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC) + datetime.timedelta(days=days)).isoformat()


@pytest.fixture
async def engine(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncEngine]:
    """Ten days of ten charges each."""
    monkeypatch.setattr(retention, "BETWEEN_S", 0)
    monkeypatch.setattr(retention, "BATCH_ROWS", 7)
    engine = database.open(database_url)
    await upgrade(engine)
    await open_books(engine, BOOKS, 1)
    for day in range(10):
        told = [read(billed(10 * day + number, time=_time(day))) for number in range(10)]
        await write(engine, [*told, read(b"garbage")], NOON_MS + day * DAY_MS, BOOKS)
    yield engine
    await engine.dispose()


async def _count(engine: AsyncEngine, table: Table) -> int:
    async with reading(engine) as connection:
        return await connection.scalar(select(func.count()).select_from(table)) or 0


async def _sums(engine: AsyncEngine) -> list[Any]:
    async with reading(engine) as connection:
        return [
            (await connection.execute(select(table).order_by(*table.primary_key))).all()
            for table in (USAGE_DAILY, MONEY_DAILY, USAGE_ROLLUP, MONEY_ROLLUP)
        ]


async def test_each_class_of_tables_has_its_own_age_and_sums_have_none(engine: AsyncEngine) -> None:
    before = await _sums(engine)
    deleted = await sweep(engine, Retention(events_days=3, requests_days=5, quarantine_days=4), BOOKS, NOW_MS)
    assert deleted == {"events": 60, "charges": 40, "ends": 40, "priced": 40}
    counts = [await _count(engine, table) for table in (EVENTS, CHARGES, ENDS, PRICED, QUARANTINE)]
    assert counts == [40, 60, 60, 60, 1]
    assert await _sums(engine) == before
    assert not await sweep(engine, Retention(events_days=3, requests_days=5), BOOKS, NOW_MS)


async def test_the_days_that_are_kept_begin_at_midnight_and_not_a_moment_later(engine: AsyncEngine) -> None:
    midnight = datetime.datetime(2026, 3, 7, tzinfo=BERLIN)
    before = midnight - datetime.timedelta(milliseconds=1)

    def told(number: int, time: datetime.datetime) -> Entry:
        return read(billed(number, time=time.isoformat()))

    last = read(billed(1004, time=_time(9)))  # what is old follows what was told last
    await write(engine, [told(1000, midnight), told(1001, before), last], NOW_MS, BOOKS)
    await write(engine, [read(b"rubbish")], int(midnight.timestamp() * 1000), BOOKS)
    await sweep(engine, Retention(events_days=3, requests_days=3, quarantine_days=3), BOOKS, NOW_MS)
    for table in (EVENTS, CHARGES, ENDS):
        left = await _all(engine, table.c.request_id)
        assert (request_id_of(1000) in left, request_id_of(1001) in left) == (True, False)
    assert await _count(engine, QUARANTINE) == 2
    written = await write(engine, [told(1002, midnight), told(1003, before)], NOW_MS, BOOKS)
    assert (written.stored, written.quarantined) == ({"request.billed": 1}, {"too_old": 1})


async def test_a_dead_letter_waits_for_a_person_and_a_decision_stands_as_long_as_its_end(engine: AsyncEngine) -> None:
    told = []
    for number in (1001, 1002):
        data = request_data(number, status="dead")
        told.append(read(event(f"dead-{number}", "request.dead", data, time=_time(0), subject=request_id_of(number))))
    discarded = request_data(1002, status="dead")
    told.append(
        read(event("discarded-1002", "request.discarded", discarded, time=_time(0), subject=request_id_of(1002)))
    )
    told.append(read(billed(1003, time=_time(9))))  # what is old follows what was told last
    await write(engine, told, NOON_MS, BOOKS)

    async def listed() -> list[str]:
        async with reading(engine) as connection:
            rows = await connection.execute(dead_letters(DeadLettersQuestion()))
            return [row["request_id"] for row in rows.mappings()]

    assert await listed() == [request_id_of(1001)]
    await sweep(engine, Retention(events_days=2, requests_days=30), BOOKS, NOW_MS)
    assert await listed() == [request_id_of(1001)], "a decision outlives the other events of its request"
    for _ in range(2):  # decisions go after their ends
        await sweep(engine, Retention(events_days=2, requests_days=2), BOOKS, NOW_MS)
    assert await listed() == [request_id_of(1001)]
    async with reading(engine) as connection:
        left = (await connection.execute(select(EVENTS.c.type).where(EVENTS.c.type.contains("discarded")))).all()
    assert left == []


async def test_a_rebuild_leaves_the_sums_of_days_whose_events_are_gone(engine: AsyncEngine) -> None:
    before = await _sums(engine)
    await sweep(engine, Retention(events_days=3), BOOKS, NOW_MS)
    assert (await rebuild(engine, BOOKS)).events == 40
    assert await _sums(engine) == before
    assert await _count(engine, CHARGES) == 100
    with pytest.raises(ZoneIsFixed):
        await rebuild(engine, Books(ZoneInfo("Asia/Tokyo")))


async def test_a_rebuild_leaves_the_nodes_of_days_whose_events_are_gone(engine: AsyncEngine) -> None:
    told = [
        node_event(
            f"wrong-{node}-{day}", "node.misconfigured", node=node, time=_time(day), error_code="invalid_api_key"
        )
        for node, day in (("gone", 0), ("long", 0), ("long", 8), ("new", 9))
    ]
    await write(engine, [read(payload) for payload in told], NOW_MS, BOOKS)

    async def known() -> list[Any]:
        async with reading(engine) as connection:
            return [
                (await connection.execute(select(table).order_by(*table.primary_key))).all()
                for table in (NODES, NODE_ERRORS)
            ]

    before = await known()
    assert [len(rows) for rows in before] == [3, 3]
    await sweep(engine, Retention(events_days=3), BOOKS, NOW_MS)
    await rebuild(engine, BOOKS)
    assert await known() == before


@pytest.mark.parametrize("since", [None, datetime.date(2026, 3, 1), datetime.date(2026, 3, 8)])
async def test_new_prices_leave_the_money_of_days_whose_events_are_gone(
    engine: AsyncEngine, since: datetime.date | None
) -> None:
    horizon = datetime.date(2026, 3, 7)
    await sweep(engine, Retention(events_days=3), BOOKS, NOW_MS)
    dearer = Books(BERLIN, PriceList([Price(model="small", currency="USD", input=2 * 10**9, output=2 * 10**9)]))

    async def amounts() -> dict[datetime.date, int]:
        async with reading(engine) as connection:
            wanted = select(MONEY_DAILY.c.day, MONEY_DAILY.c.amount).where(MONEY_DAILY.c.side == "charge")
            return dict((await connection.execute(wanted)).all())

    before = await amounts()
    await reprice(engine, dearer, since)
    changed = max(since or horizon, horizon)
    assert await amounts() == {day: amount * (2 if day >= changed else 1) for day, amount in before.items()}
    assert len(before) == 10


async def test_what_is_told_again_of_a_deleted_time_is_not_counted_again(engine: AsyncEngine) -> None:
    before = await _sums(engine)
    await sweep(engine, Retention(events_days=3, requests_days=3), BOOKS, NOW_MS)
    again = [read(billed(number, time=_time(number // 10))) for number in range(100)]
    written = await write(engine, again, NOW_MS, BOOKS)
    assert written.quarantined == {"too_old": 60}
    assert written.duplicates == 40
    assert await _sums(engine) == before


async def test_positions_go_on_although_nothing_was_told_for_long(engine: AsyncEngine) -> None:
    async with reading(engine) as connection:
        last = await connection.scalar(select(func.max(EVENTS.c.position)))
    later = NOW_MS + 100 * DAY_MS
    await sweep(engine, Retention(events_days=1), BOOKS, later)
    assert await _count(engine, EVENTS) == 20
    await write(engine, [read(billed(1000, time=_time(109)))], later, BOOKS)
    async with reading(engine) as connection:
        assert (await connection.scalar(select(func.max(EVENTS.c.position))) or 0) > (last or 0)
    assert await _count(engine, CHARGES) == 101


async def test_what_waited_while_management_was_away_is_counted(engine: AsyncEngine) -> None:
    """However long that was, and although it sweeps before it has taken in all of it."""
    later = NOW_MS + 9 * DAY_MS
    await write(engine, [read(billed(1000, time=_time(10)))], later, BOOKS)
    await sweep(engine, Retention(events_days=1), BOOKS, later)
    written = await write(
        engine, [read(billed(1001, time=_time(10))), read(billed(1002, time=_time(18)))], later, BOOKS
    )
    assert (written.stored["request.billed"], written.quarantined) == (2, {})
    await sweep(engine, Retention(events_days=1), BOOKS, later)
    assert await _count(engine, EVENTS) == 1, "it is swept when all is taken in"


@pytest.mark.parametrize("retention", [Retention(requests_days=3), Retention(events_days=6, requests_days=3)])
async def test_what_was_priced_keeps_its_prices_as_long_as_there_is_its_event(
    engine: AsyncEngine, retention: Retention
) -> None:
    before = await _sums(engine)
    await sweep(engine, retention, BOOKS, NOW_MS)
    dearer = Books(BERLIN, PriceList([Price(model="small", currency="USD", input=2 * 10**9, output=10**9)]))
    await open_books(engine, dearer, NOW_MS)
    await rebuild(engine, dearer)
    assert await _sums(engine) == before


async def test_by_another_time_zone_nothing_is_priced_anew(engine: AsyncEngine) -> None:
    before = await _sums(engine)
    with pytest.raises(WrongTimeZone):
        await reprice(engine, Books(ZoneInfo("America/New_York"), BOOKS.prices), datetime.date(2026, 3, 5))
    assert await _sums(engine) == before


async def test_a_second_charge_of_a_request_whose_event_is_deleted_is_not_counted_and_stops_nobody(
    engine: AsyncEngine,
) -> None:
    """A dead letter that is replayed a second time, say."""
    await sweep(engine, Retention(events_days=3), BOOKS, NOW_MS)
    before = await _sums(engine)
    late = [read(billed(5, time=_time(9))), read(billed(95, time=_time(9)))]
    written = await write(engine, late, NOW_MS, BOOKS)
    assert (written.quarantined, written.duplicates) == ({"too_old": 1}, 1)
    assert await _sums(engine) == before
    assert (await write(engine, [read(billed(1000, time=_time(9)))], NOW_MS, BOOKS)).stored["request.billed"] == 1


async def _all(engine: AsyncEngine, column: Any) -> list[Any]:
    async with reading(engine) as connection:
        return list(await connection.scalars(select(column).order_by(column)))


async def test_nodes_that_are_gone_for_long_are_forgotten_and_those_that_are_there_never(engine: AsyncEngine) -> None:
    told = [
        node_event(f"failed-{name}", "node.quota_exhausted", node=name, time=_time(day), error_code="quota_exhausted")
        for name, day in (("node-gone", 0), ("node-silent", 0), ("node-late", 5), ("node-last", 6))
    ]
    await write(engine, [read(each) for each in told], NOW_MS, BOOKS)
    assert not await sweep(engine, Retention(events_days=30, requests_days=30), BOOKS, NOW_MS)
    deleted = await sweep(engine, Retention(fleet_days=3), BOOKS, NOW_MS, ["node-silent", "node-of-no-row"])
    assert deleted == {"nodes": 2, "node_errors": 2}
    for table in (NODES, NODE_ERRORS):
        assert await _all(engine, table.c.node) == ["node-last", "node-silent"]
    assert await _count(engine, ERRORS_DAILY) == 3, "sums stay: of three days"
    assert await sweep(engine, Retention(fleet_days=3), BOOKS, NOW_MS) == {"nodes": 1, "node_errors": 1}


async def test_an_alert_is_kept_until_it_is_over_for_long_and_that_was_told(engine: AsyncEngine) -> None:
    async with writing(engine) as connection:
        for model, cleared_day, stage in (
            ("open", None, "opened"),
            ("open-untold", None, None),
            ("untold", 0, None),
            ("half-told", 0, "opened"),
            ("over", 0, "cleared"),
            ("over-late", 6, "cleared"),
        ):
            cause = alerts.Cause("quota_exhausted", model, "")
            assert await alerts.open_alert(connection, cause, "It is so.", 1, NOON_MS)
            if cleared_day is not None:
                assert await alerts.clear_alert(connection, cause, NOON_MS + cleared_day * DAY_MS)
            if stage is not None:
                (alert_id,) = await connection.scalars(select(ALERTS.c.alert_id).where(ALERTS.c.model == model))
                await alerts.mark_told(connection, alert_id, stage, "yes")
    assert not await sweep(engine, Retention(events_days=30, quarantine_days=30), BOOKS, NOW_MS)
    assert await sweep(engine, Retention(fleet_days=3), BOOKS, NOW_MS) == {"alerts": 1}
    assert await _all(engine, ALERTS.c.model) == ["half-told", "open", "open-untold", "over-late", "untold"]


async def test_what_operators_did_long_ago_is_forgotten_however_it_ended(engine: AsyncEngine) -> None:
    async with writing(engine) as connection:
        for day in (0, 0, 5, 6, 9):
            row = {"at_ms": NOON_MS + day * DAY_MS, "by": "alice", "action": "pause", "scope": "model", "subject": "m"}
            action_id = await actions.begin(connection, row)
            if day:
                await actions.end(connection, action_id, "done", "It holds.", NOW_MS)
    assert "actions" not in await sweep(engine, Retention(events_days=1, requests_days=1), BOOKS, NOW_MS)
    assert await sweep(engine, Retention(fleet_days=3), BOOKS, NOW_MS) == {"actions": 3}
    assert await _all(engine, ACTIONS.c.at_ms) == [NOON_MS + day * DAY_MS for day in (6, 9)]


async def test_no_row_that_is_kept_is_read_for_those_that_go_or_are_untold(tmp_path: Path) -> None:
    """As SQLite plans, which knows of no numbers."""
    engine = database.open(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")
    await upgrade(engine)
    asked: list[tuple[str, Any]] = []

    def ask(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith(("SELECT", "DELETE")):
            asked.append((statement, parameters))

    listen(engine.sync_engine, "before_cursor_execute", ask)
    await sweep(engine, Retention(quarantine_days=1, fleet_days=1), BOOKS, NOW_MS, ["node-a", "node-b"])
    async with reading(engine) as connection:
        await alerts.untold(connection, NOW_MS)
    remove(engine.sync_engine, "before_cursor_execute", ask)
    tables = {"nodes", "node_errors", "alerts", "actions", "quarantine"}
    seen: set[str] = set()
    async with reading(engine) as connection:
        for statement, parameters in asked:
            plan = str((await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)).all())
            assert not re.search(rf"SCAN ({'|'.join(tables)})\b", plan), (statement, plan)
            # Of all alerts nearly every one was told.
            assert "cleared_ms<?" in plan or "DELETE FROM alerts" not in statement, plan
            seen |= {table for table in tables if f"FROM {table}" in statement}
    await engine.dispose()
    assert seen == tables


async def test_a_clock_that_is_far_ahead_deletes_nothing_and_has_nothing_refused(engine: AsyncEngine) -> None:
    ahead = await write(engine, [read(billed(1000, time="2099-01-01T00:00:00Z"))], NOW_MS, BOOKS)
    assert ahead.stored == {"request.billed": 1}
    assert await sweep(engine, Retention(events_days=20, requests_days=20), BOOKS, NOW_MS) == {}
    written = await write(engine, [read(billed(1001, time=_time(9)))], NOW_MS, BOOKS)
    assert (written.stored, written.quarantined) == ({"request.billed": 1}, {})


async def test_what_was_reserved_for_requests_that_never_ended_is_swept_when_it_has_expired(
    engine: AsyncEngine,
) -> None:
    budget = Budget(id=BudgetId("key", "key-b", "total"), currency="USD", amount_max=100, warn_percent=80, created_ms=1)
    async with writing(engine) as connection:
        await put(connection, budget)
        asks = [Ask(f"req_{after}", {budget.id: 1}, NOW_MS + after) for after in (-1, 0, 1)]
        assert await reserve(connection, asks, NOON_MS) == [None, None, None]
    await sweep(engine, Retention(), BOOKS, NOW_MS)
    assert await _all(engine, RESERVATIONS.c.request_id) == ["req_1"]


async def test_prompts_go_after_their_own_days_and_after_thirty_without_a_setting(engine: AsyncEngine) -> None:
    async with writing(engine) as connection:
        for day in (-40, -20, 0, 7):
            await connection.execute(
                insert(PROMPTS).values(
                    request_id=f"req_{day}",
                    time_ms=NOON_MS + day * DAY_MS,
                    model="small",
                    endpoint="chat/completions",
                    body=b"{}",
                    body_bytes=2,
                )
            )
    assert await sweep(engine, load(ManagementSettings, {}).retention, BOOKS, NOW_MS) == {"prompts": 1}
    assert await sweep(engine, Retention(prompts_days=3), BOOKS, NOW_MS) == {"prompts": 2}
    assert await _all(engine, PROMPTS.c.request_id) == ["req_7"]


async def test_it_sweeps_again_after_a_failure_and_knows_who_is_there(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told = [node_event(f"started-{node}", "node.started", node=node, time=_time(0)) for node in ("node-a", "node-b")]
    await write(engine, [read(each) for each in told], NOON_MS, BOOKS)
    registry = NodeRegistry(nodes_max=10)
    usual: dict[str, Any] = {"model": "small", "type": "static", "version": "1", "slots": 1, "sent_ms": 1}
    registry.hear(Presence(node="node-a", name="a", state="ready", started_ms=1, **usual))
    failures = [OSError("the database is away")]

    async def failing(*asked: Any) -> Counter[str]:
        if failures:
            raise failures.pop()
        return await sweep(*asked)

    monkeypatch.setattr(retention, "FIRST_S", 0)
    monkeypatch.setattr(retention, "EVERY_S", 0)
    monkeypatch.setattr(retention, "sweep", failing)
    keeper = asyncio.create_task(keep(engine, Retention(fleet_days=1), BOOKS, registry))

    async def is_swept() -> bool:
        return await _all(engine, NODES.c.node) == ["node-a"]

    try:
        await until(is_swept)
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
    assert 'action="retention_failed"' in caplog.text
    assert await is_swept()


async def test_a_sweep_and_the_ledger_never_wait_for_each_other_in_a_circle(postgres_url: str) -> None:
    """Both free what was reserved for a request whose end comes after its reservation has expired."""
    engine = database.open(postgres_url)
    await upgrade(engine)
    await open_books(engine, BOOKS, 1)
    await write(engine, [read(billed(1))], NOON_MS, BOOKS)
    id_ = BudgetId("model", "small", "day")
    async with writing(engine) as connection:
        await put(connection, Budget(id=id_, currency="USD", amount_max=10**18, warn_percent=80, created_ms=1))
        assert await reserve(connection, [Ask("req_late", {id_: 1}, NOON_MS)], 1) == [None]

    async def waits() -> bool:
        async with reading(engine) as connection:
            waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            return bool(await connection.scalar(waiting))

    async with writing(engine) as connection:
        await alone(connection)
        sweeping = asyncio.create_task(sweep(engine, Retention(events_days=3), BOOKS, NOW_MS))
        await until(waits)
        await release(connection, ["req_late"])
    assert not await sweeping
    assert await _count(engine, RESERVATIONS) == 0
    await engine.dispose()
