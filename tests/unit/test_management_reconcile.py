"""Reconciling finds what does not fit, and nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text
from sqlalchemy.event import listen, remove

import management.ledger.reconcile
from management.ledger.books import Books
from management.ledger.journal import WrongTimeZone, read, write
from management.ledger.opening import open_books
from management.ledger.reconcile import reconcile
from store import database
from store.database import reading, writing
from store.ledger_state import set_horizon
from store.migrate import upgrade
from tests.billing import NOON, NOON_MS, billed, event, request_data, request_id_of
from wire import codec
from wire.event import AcceptedData

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

DAY_MS = 86_400_000
BOOKS = Books()


def accepted(number: int, requests: range, *, time: str = NOON) -> bytes:
    data = AcceptedData(
        gateway="gateway-a", since_ms=NOON_MS, until_ms=NOON_MS + 1000, requests=[request_id_of(n) for n in requests]
    )
    return event(f"accepted-gateway-a-{number}", "gateway.accepted", codec.encode_event_data(data), time=time)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """Ten requests, all of them accepted and charged, and one that failed."""
    engine = database.open(database_url)
    await upgrade(engine)
    await open_books(engine, BOOKS, 1)
    told = [accepted(1, range(6)), accepted(2, range(6, 11)), *(billed(number) for number in range(10))]
    told.append(event("failed-x", "request.failed", request_data(10, status="failed")))
    # Some of it is told when its day has been rolled up.
    await write(engine, [read(payload) for payload in told[:7]], 1, BOOKS)
    await write(engine, [read(payload) for payload in told[7:]], NOON_MS + DAY_MS, BOOKS)
    yield engine
    await engine.dispose()


async def _found(engine: AsyncEngine) -> dict[str, list[str]]:
    found = await reconcile(engine, BOOKS, NOON_MS - DAY_MS // 2, NOON_MS + 2 * DAY_MS)
    assert (found.requests, found.charges) == (11 + (found.requests > 11), 10 + (found.charges > 10))
    return {name: finding.examples for name, finding in found.findings.items() if finding.count}


async def test_a_ledger_that_fits_has_nothing_to_find(engine: AsyncEngine) -> None:
    assert await _found(engine) == {}


async def test_by_days_of_another_zone_nothing_is_compared(engine: AsyncEngine) -> None:
    with pytest.raises(WrongTimeZone):
        await reconcile(engine, Books(ZoneInfo("Europe/Berlin")), NOON_MS - DAY_MS // 2, NOON_MS + 2 * DAY_MS)


async def test_a_request_without_an_end_is_found(engine: AsyncEngine) -> None:
    await write(engine, [read(accepted(3, range(50, 51)))], 1, BOOKS)
    assert await _found(engine) == {"requests without an end": [request_id_of(50)]}


async def test_an_end_without_a_request_is_found(engine: AsyncEngine) -> None:
    await write(engine, [read(billed(77))], 1, BOOKS)
    assert await _found(engine) == {"ends without a request": [request_id_of(77)]}


async def test_a_request_that_may_still_be_open_is_not_found(engine: AsyncEngine) -> None:
    await write(engine, [read(accepted(3, range(50, 51), time="2026-03-04T00:00:00Z"))], 1, BOOKS)
    assert await _found(engine) == {}


async def test_what_was_accepted_on_the_day_before_ends_rightly(engine: AsyncEngine) -> None:
    told = [accepted(3, range(50, 51), time="2026-02-28T23:59:59Z"), billed(50, time="2026-03-01T00:00:01Z")]
    await write(engine, [read(payload) for payload in told], 1, BOOKS)
    found = await reconcile(engine, BOOKS, NOON_MS - DAY_MS // 2, NOON_MS + 2 * DAY_MS)
    assert (found.requests, found.charges) == (11, 11)
    assert not any(finding.count for finding in found.findings.values())


async def test_a_letter_that_is_replayed_days_after_it_was_accepted_ends_rightly(engine: AsyncEngine) -> None:
    told = [
        accepted(3, range(50, 51), time="2026-02-20T12:00:00Z"),
        billed(50),
        event("replayed-50", "request.replayed", request_data(50)),
    ]
    await write(engine, [read(payload) for payload in told], 1, BOOKS)
    assert (await reconcile(engine, BOOKS, NOON_MS - DAY_MS // 2, NOON_MS + 2 * DAY_MS)).without_request.count == 0


async def test_of_what_was_told_long_before_nothing_is_read(database_url: str) -> None:
    engine = database.open(database_url)
    await upgrade(engine)
    await open_books(engine, BOOKS, 1)
    old, new = [billed(number, time="2025-03-01T12:00:00Z") for number in range(40)], [billed(50), billed(51)]
    await write(engine, [read(payload) for payload in [*old, *new]], NOON_MS, BOOKS)
    asked: list[tuple[str, Any]] = []

    def ask(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if "events.raw" in statement:
            asked.append((statement, parameters))

    listen(engine.sync_engine, "before_cursor_execute", ask)
    found = await reconcile(engine, BOOKS, NOON_MS - DAY_MS // 2, NOON_MS + 2 * DAY_MS)
    remove(engine.sync_engine, "before_cursor_execute", ask)
    assert found.charges == 2
    assert asked
    for statement, parameters in asked:
        assert any(value in range(40, 43) for value in parameters), (statement, parameters)
    plan = "EXPLAIN QUERY PLAN SELECT min(position + 0) FROM events WHERE time_ms >= 1"
    if engine.dialect.name == "sqlite":
        async with reading(engine) as connection:
            assert "ix_events_time_ms (time_ms>?)" in str((await connection.exec_driver_sql(plan)).all())
    await engine.dispose()


async def test_nobody_waits_for_it(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = management.ledger.reconcile._pages
    written = 0

    async def slow(*asked: Any) -> AsyncIterator[list[tuple[int, str]]]:
        nonlocal written
        async for page in pages(*asked):
            async with asyncio.timeout(2):
                await write(engine, [read(billed(100 + written))], NOON_MS + DAY_MS, BOOKS)
            written += 1
            yield page

    monkeypatch.setattr(management.ledger.reconcile, "_pages", slow)
    assert await _found(engine) == {}, "it sees one state"
    assert written


async def test_a_charge_and_a_sum_that_were_changed_are_found(engine: AsyncEngine) -> None:
    async with writing(engine) as connection:
        await connection.execute(text("UPDATE charges SET completion_tokens = 6000 WHERE prompt_tokens = 10 AND "
                                      f"request_id = '{request_id_of(4)}'"))  # fmt: skip
        await connection.execute(text("UPDATE usage_daily SET requests = 9"))
    assert await _found(engine) == {
        "charges that differ from their event": [request_id_of(4)],
        "sums that differ from their charges": ["2026-03-01 small key-a node-a"],
    }


async def test_a_sum_by_fewer_columns_that_was_changed_is_found(engine: AsyncEngine) -> None:
    async with writing(engine) as connection:
        await connection.execute(text("UPDATE usage_rollup SET requests = 9 WHERE rollup = 'key'"))
    assert await _found(engine) == {"sums that differ from their charges": ["key 2026-03-01 key-a"]}


async def test_a_charge_or_a_sum_that_is_gone_or_was_made_up_is_found(engine: AsyncEngine) -> None:
    async with writing(engine) as connection:
        await connection.execute(text(f"DELETE FROM charges WHERE request_id = '{request_id_of(4)}'"))
        await connection.execute(text("DELETE FROM usage_rollup WHERE rollup = 'key'"))
        columns = "requests, estimated_requests, prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens"
        await connection.execute(
            text(
                f"INSERT INTO usage_daily (tag, day, model, key_id, node, {columns}, body_bytes, answer_bytes)"
                f" SELECT tag, day, 'made-up', key_id, node, {columns}, body_bytes, answer_bytes FROM usage_daily"
            )
        )
    assert await _found(engine) == {
        "charges that differ from their event": [request_id_of(4)],
        "sums that differ from their charges": ["2026-03-01 made-up key-a node-a", "key 2026-03-01 key-a"],
    }


async def test_nothing_is_said_of_ends_that_are_young_or_whose_requests_may_be_deleted(
    engine: AsyncEngine,
) -> None:
    young, early, deleted = "2026-03-03T12:00:01Z", "2026-03-01T23:00:00Z", "2026-02-01T12:00:00Z"
    told = [read(billed(70, time=young)), read(billed(71, time=early)), read(billed(72, time=deleted))]
    await write(engine, told, NOON_MS + DAY_MS, BOOKS)
    until_ms = NOON_MS + 2 * DAY_MS

    async def without_request(since_ms: int) -> list[str]:
        return (await reconcile(engine, BOOKS, since_ms, until_ms)).without_request.examples

    assert await without_request(NOON_MS - 40 * DAY_MS) == [request_id_of(72), request_id_of(71)]
    async with writing(engine) as connection:
        await set_horizon(connection, NOON_MS - DAY_MS // 2)
    # Of what was accepted on the day before the horizon nothing is known: it may have ended on the day after.
    assert await without_request(NOON_MS - 40 * DAY_MS) == []


async def test_of_days_whose_events_are_deleted_the_sums_are_not_compared(engine: AsyncEngine) -> None:
    async with writing(engine) as connection:
        await set_horizon(connection, NOON_MS + DAY_MS // 2)
        await connection.execute(text("DELETE FROM events"))
    found = await reconcile(engine, BOOKS, NOON_MS - DAY_MS // 2, NOON_MS + 2 * DAY_MS)
    assert not any(finding.count for finding in found.findings.values())
