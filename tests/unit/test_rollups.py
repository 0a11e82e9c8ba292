"""Sums by fewer columns are those by day added up, however they came to be, and answer as those do."""

from __future__ import annotations

import itertools
import re
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text

import store.rollups
from management.ledger.books import Books
from management.ledger.journal import read, write
from management.ledger.opening import open_books
from management.ledger.rebuild import rebuild
from management.pages import usage_sums
from management.pages.errors import OF_REQUESTS, events_told
from management.reading import fleet_queries, queries, sum_queries
from management.reading.error_view import errors
from management.reading.fleet_questions import AlertsQuestion, DeadLettersQuestion, ErrorsQuestion
from management.reading.questions import CostsQuestion, EndsQuestion, EventsQuestion, UsageQuestion
from store import database
from store.database import reading, writing
from store.fleet_tables import ERRORS_ROLLUP
from store.migrate import upgrade
from store.money_tables import MONEY_ROLLUP
from store.prices import Price, PriceList
from store.tables import USAGE_ROLLUP
from tests.billing import NOON_MS, billed, event, request_data
from wire.usage import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncEngine

MODELS, KEYS = ("small", "large"), ("key-a", "key-b", None)
TAGS: tuple[dict[str, str], ...] = ({}, {"team": "x"}, {"team": "y", "app": "z"})
BOOKS = Books(
    prices=PriceList(
        [Price(model="small", currency="USD", input=10**9)], [Price(model="large", currency="EUR", input=7)]
    )
)
TABLES = (USAGE_ROLLUP, MONEY_ROLLUP, ERRORS_ROLLUP)
DAY_MS = 86_400_000
DAYS = {"since": "2026-03-01", "until": "2026-03-02"}


def _told() -> list[bytes]:
    told = []
    places = itertools.product(MODELS, KEYS, TAGS, ("node-a", "node-b"), (1, 2))
    for number, (model, key, tags, node, day) in enumerate(places):
        place = {"model": model, "key_id": key, "node": node, "provider": f"{node}.example"}
        time = f"2026-03-0{day}T12:00:{number % 60:02}Z"
        usage = Usage(prompt_tokens=2**number % 1009, completion_tokens=number)
        told.append(billed(number, time=time, usage=usage, tags=tags, **place))
        wasted = request_data(number, status="superseded", usage=usage, error_code=f"code_{number % 3}", **place)
        told.append(event(f"cost-{number}", "request.cost", wasted, time=time))
    return told


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = database.open(database_url)
    await upgrade(engine)
    told = _told()
    # Both days are today, then the first one is over, and there is more to tell of it.
    for begin in range(0, len(told), 31):
        now_ms = 1 if begin < len(told) // 2 else NOON_MS + DAY_MS
        await write(engine, [read(payload) for payload in told[begin : begin + 31]], now_ms, BOOKS)
    yield engine
    await engine.dispose()


async def _rows(engine: AsyncEngine, *statements: Any) -> list[Any]:
    async with reading(engine) as connection:
        return [sorted(await connection.execute(each), key=repr) for each in statements]


def _statements() -> list[Any]:
    filters: list[dict[str, str]] = [
        {}, {"model": "small"}, {"key_id": "key-a"}, {"node": "node-b"}, {"model": "large", "key_id": "key-b"},
        {"tag": "team=x"}, {"tag": "team", "key_id": "key-a"}, {"since": "2026-03-02"}, {"until": "2026-03-01"},
    ]  # fmt: skip
    found: list[Any] = []
    for each in filters:
        for by in (
            "", "day", "model", "key", "tag", "node", "day key", "model key", "key node", "key tag", "day model key tag"
        ):  # fmt: skip
            question = UsageQuestion.model_validate({"by": by.split(), **each})
            if sum_queries.days_max(question) is not None:
                question = UsageQuestion.model_validate({"by": by.split(), **DAYS, **each})
            found.append(sum_queries.usage(question))
            if by in usage_sums.COLUMNS:
                found.append(usage_sums.sums(question, "tokens", None, 50))
                found.append(usage_sums.charged(question, usage_sums.COLUMNS[by]))
                found.append(usage_sums.daily(question, [*MODELS, "key-a", "team=x"] if by != "day" else []))
        found.append(usage_sums.money(UsageQuestion.model_validate({"by": ["day"], **each})))
        if "tag" not in each:
            question = UsageQuestion.model_validate({"by": ["tag"], "cursor": '["app=z"]', **each})
            found.append(sum_queries.usage(question))
            found.append(sum_queries.amounts(question, [{"tag": "app=z"}, {"tag": "team=x"}]))
            costs: tuple[list[str], ...] = ([], ["provider"], ["key"], ["key", "provider"], ["model", "key"])
            found.extend(sum_queries.costs(CostsQuestion.model_validate({"by": by, **each})) for by in costs)
    return found


async def test_every_question_has_the_same_answer_from_sums_by_day(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements = _statements()
    assert sum("_rollup" in str(each) for each in statements) > 100
    by_rollups = await _rows(engine, *statements)
    assert sum(map(len, by_rollups)) > 500
    monkeypatch.setattr(store.rollups, "ROLLUPS", {})
    statements = _statements()
    assert not any("_rollup" in str(each) for each in statements)
    assert await _rows(engine, *statements) == by_rollups


async def test_errors_are_the_same_from_errors_by_day(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    async def found() -> list[Any]:
        filters: tuple[dict[str, Any], ...] = (
            {},
            {"model": "small"},
            {"key_id": "key-a"},
            {"model": "large", "key_id": "key-b"},
            {"limit": 2},
        )
        return [
            await errors(engine, BOOKS, ErrorsQuestion.model_validate(each), NOON_MS + 2 * 86_400_000)
            for each in filters
        ]

    by_rollups = await found()
    assert [len(each["data"]) for each in by_rollups[:2]] == [6, 6]
    assert sum(each["count"] for each in by_rollups[0]["data"]) == len(_told()) // 2
    monkeypatch.setattr(store.rollups, "ROLLUPS", {})
    assert await found() == by_rollups


BY_TIME = (
    "ix_quarantine_last_seen_ms",
    "ix_nodes_model_last_ms",
    "ix_alerts_cleared_ms_alert_id",
    "ix_alerts_told_alert_id",
    "ix_actions_at_ms",
)
"""Indexes of a later revision."""


async def test_a_rebuild_and_a_new_start_make_the_same_rollups_as_the_ledger(engine: AsyncEngine) -> None:
    written = await _rows(engine, *map(select, TABLES))
    assert all(written)
    days = {(row.rollup, row.day.day) for row in (await _rows(engine, select(USAGE_ROLLUP)))[0]}
    assert days == {*((name, 1) for name in store.rollups.ROLLUPS), ("model", 2)}
    await rebuild(engine, BOOKS)
    assert await _rows(engine, *map(select, TABLES)) == written
    async with writing(engine) as connection:
        for table in TABLES:
            await connection.execute(text(f"DROP TABLE {table.name}"))
        for index in ("ix_ends_dead", "ix_usage_daily_day", "ix_money_daily_day", *BY_TIME):
            await connection.execute(text(f"DROP INDEX {index}"))
        await connection.execute(text("ALTER TABLE ledger_state DROP COLUMN rolled_up_until"))
        await connection.execute(text("UPDATE alembic_version SET version_num = '0005'"))
    await upgrade(engine)
    filled = await _rows(engine, *map(select, TABLES))
    assert filled[:2] == [[row for row in rows if row.rollup == "model"] for rows in written[:2]]
    assert filled[2] == written[2]
    await open_books(engine, BOOKS, NOON_MS + DAY_MS)
    assert await _rows(engine, *map(select, TABLES)) == written
    # Before the last revision they had every day.
    async with writing(engine) as connection:
        for index in ("ix_usage_daily_day", "ix_money_daily_day", *BY_TIME):
            await connection.execute(text(f"DROP INDEX {index}"))
        await connection.execute(text("ALTER TABLE ledger_state DROP COLUMN rolled_up_until"))
        await connection.execute(text("UPDATE alembic_version SET version_num = '0006'"))
    await upgrade(engine)
    await open_books(engine, BOOKS, NOON_MS + DAY_MS)
    assert await _rows(engine, *map(select, TABLES)) == written


async def test_of_days_that_are_rolled_up_no_other_sums_are_read(engine: AsyncEngine) -> None:
    if engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL plans by the size of tables, and these are small")
    page: dict[str, Any] = dict.fromkeys(("model", "key_id", "tag"), "x") | {"day": date(2026, 3, 1)}
    filters: list[dict[str, str]] = [
        {}, {"key_id": "key-a"}, {"tag": "team"}, {"tag": "team=x"}, {"since": "2026-03-01"}
    ]  # fmt: skip
    later = re.compile(r"SEARCH \w+_daily USING INDEX \w+ \((?:tag=\? AND )?(?:side=\? AND )?day>\? AND day<")
    for by, also in itertools.product(([], ["tag"], ["day", "tag"], ["key"], ["model", "key"]), filters):
        if "key" in by and "tag" in also:
            continue
        question = UsageQuestion.model_validate({"by": by, **also})
        for statement in (sum_queries.usage(question), sum_queries.amounts(question, [page, page])):
            plan = await _plan(engine, statement)
            assert re.search(r"SEARCH \w+_rollup USING PRIMARY KEY \(rollup=\?", plan), (by, also)
            # Every day is in the rollup by models, and the others have those that are over.
            assert bool(later.search(plan)) is ("daily" in plan) is ("key" in by or "key_id" in also), (by, also, plan)


async def test_dead_letters_of_a_model_are_found_without_looking_at_those_of_others(engine: AsyncEngine) -> None:
    if engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL plans by the size of tables, and these are small")
    statement = fleet_queries.dead_letters(DeadLettersQuestion(model="small"))
    assert "ends USING INDEX ix_ends_dead (model=?)" in await _plan(engine, statement)


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (queries.events(EventsQuestion(type="request.failed", model="small")), "ix_events_type_position (type=?)"),
        (queries.events(EventsQuestion(type="request.billed", node="node-a")), "ix_events_node_position (node=?)"),
        (
            queries.events(EventsQuestion(request_id="req_1", type="request.billed", model="small")),
            "ix_events_request_id (request_id=?)",
        ),
        (queries.ends(EndsQuestion(status="expired", model="small")), "ix_ends_status_time_ms_position (status=?)"),
        (queries.ends(EndsQuestion(status="answered", key_id="key-a")), "ix_ends_key_id_time_ms_position (key_id=?)"),
        (fleet_queries.letters_by_model(), "ix_events_request_id (request_id=?)"),
        (fleet_queries.alerts(AlertsQuestion(open=True)), "ix_alerts_cleared_ms_alert_id (cleared_ms=?)"),
        (queries.nodes(20, "small"), "ix_nodes_model_last_ms (model=?)"),
        (queries.quarantine(50), "ix_quarantine_last_seen_ms"),
        (events_told(OF_REQUESTS, {"model": "small"}, None), "ix_events_type_position (type=?)"),
    ],
)
async def test_what_few_rows_have_is_looked_up_and_not_what_most_have(
    engine: AsyncEngine, statement: Select[Any], index: str
) -> None:
    if engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL plans by the size of tables, and these are small")
    plan = await _plan(engine, statement)
    assert index in plan
    assert set(re.findall(r"SEARCH (?:events|later) USING INDEX (\w+)", plan)) <= {index.split()[0]}


async def _plan(engine: AsyncEngine, statement: Select[Any]) -> str:
    compiled = statement.compile(engine.sync_engine, compile_kwargs={"render_postcompile": True})
    async with reading(engine) as connection:
        values = tuple(str(compiled.params[name]) for name in compiled.positiontup or ())
        return str((await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", values)).all())
