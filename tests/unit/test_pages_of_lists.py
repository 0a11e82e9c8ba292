"""Lists in pages: every row that is asked for is on one of them, and is found without reading the others."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text

from management.ledger.books import Books
from management.ledger.journal import read, write
from management.ledger.opening import open_books
from management.pages.errors import OF_REQUESTS, events_told
from management.reading import fleet_queries, queries
from management.reading.fleet_questions import DeadLettersQuestion
from management.reading.questions import ChargesQuestion, EndsQuestion, EventsQuestion
from store import database
from store.database import reading, writing
from store.migrate import upgrade
from store.tables import CHARGES, ENDS, EVENTS
from tests.billing import billed, event, request_data, request_id_of
from wire.event import PREFIX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sqlalchemy import Select, Table
    from sqlalchemy.ext.asyncio import AsyncEngine

Row = dict[str, Any]
COUNT, LIMIT = 60, 7
MODELS, KEYS, NODES = ("small", "großes/modell"), ("key-a", "key-b", None), ("node-a", "node-b", None)
MINUTE_MS = 60_000


def _time(number: int) -> str:
    return f"2026-03-01T12:{number // 4:02}:00Z"  # four of each time


def _told(number: int) -> bytes:
    fields: Row = {"model": MODELS[number % 2], "key_id": KEYS[number % 3], "node": NODES[number // 2 % 3]}
    if number % 5:
        return billed(number, time=_time(number), **fields)
    id_ = request_id_of(number)
    kind = ("failed", "dead")[number % 2]
    data = request_data(number, status=kind, **fields)
    return event(f"{kind}-{id_}", f"request.{kind}", data, time=_time(number), subject=id_)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = database.open(database_url)
    await upgrade(engine)
    await open_books(engine, Books(), 1)
    await write(engine, [read(_told(number * 7 % COUNT)) for number in range(COUNT)], 1)
    yield engine
    await engine.dispose()


async def _all(engine: AsyncEngine, statement: Select[Any]) -> list[Row]:
    async with reading(engine) as connection:
        return [dict(row) for row in (await connection.execute(statement)).mappings()]


async def _paged(
    engine: AsyncEngine, ask: Callable[[str | None], Select[Any]], cursor: Callable[[Row], str]
) -> list[int]:
    """The positions on all pages, in their order."""
    found: list[int] = []
    place: str | None = None
    while True:
        rows = await _all(engine, ask(place))
        found += [row["position"] for row in rows[:LIMIT]]
        if len(rows) <= LIMIT:
            return found
        place = cursor(rows[LIMIT - 1])


def _positions(rows: list[Row], order: tuple[str, ...], **wanted: Any) -> list[int]:
    kept = [row for row in rows if all(value is None or row[name] == value for name, value in wanted.items())]
    return [row["position"] for row in sorted(kept, key=lambda row: [row[name] for name in order], reverse=True)]


@pytest.mark.parametrize("table", [CHARGES, ENDS])
async def test_every_charge_and_end_that_is_asked_for_is_on_one_page(engine: AsyncEngine, table: Table) -> None:
    rows = await _all(engine, select(table))
    assert len(rows) == (COUNT if table is ENDS else COUNT * 4 // 5)
    since, until = _time(9), _time(49)
    begin = min(row["time_ms"] for row in rows)
    between = [row for row in rows if 2 <= (row["time_ms"] - begin) // MINUTE_MS < 12]
    states = (None, "answered", "failed") if table is ENDS else (None,)
    for model, key_id, node, status in itertools.product((None, MODELS[1]), (None, "key-b"), (None, "node-a"), states):
        wanted = {"model": model, "key_id": key_id, "node": node} | ({"status": status} if table is ENDS else {})
        for span, expected in (({}, rows), ({"since": since, "until": until}, between)):

            def ask(cursor: str | None, also: Row = wanted | span) -> Select[Any]:
                asked = {**also, "limit": LIMIT, "cursor": cursor}
                if table is CHARGES:
                    return queries.charges(ChargesQuestion.model_validate(asked))
                return queries.ends(EndsQuestion.model_validate(asked))

            found = await _paged(engine, ask, queries.cursor_of_time)
            assert found == _positions(expected, ("time_ms", "position"), **wanted), (wanted, span)


async def test_every_event_and_dead_letter_that_is_asked_for_is_on_one_page(engine: AsyncEngine) -> None:
    rows = await _all(engine, select(EVENTS))
    for model, node, kind in itertools.product((None, MODELS[1]), (None, "node-a"), (None, "billed", "failed", "dead")):
        asked = {"model": model, "node": node, "type": kind and f"request.{kind}"}

        def ask(cursor: str | None, also: Row = asked) -> Select[Any]:
            return queries.events(EventsQuestion.model_validate({**also, "limit": LIMIT, "cursor": cursor}))

        found = await _paged(engine, ask, lambda row: str(row["position"]))
        whole = asked | {"type": kind and f"{PREFIX}request.{kind}"}
        assert found == _positions(rows, ("position",), **whole), asked
    ends = await _all(engine, select(ENDS))
    for model in (None, *MODELS):

        def letters(cursor: str | None, model: str | None = model) -> Select[Any]:
            asked = DeadLettersQuestion(model=model, limit=LIMIT, cursor=cursor)
            return fleet_queries.dead_letters(asked)

        expected = _positions(ends, ("time_ms", "position"), model=model, status="dead")
        assert await _paged(engine, letters, queries.cursor_of_time) == expected
    failed = [row for row in rows if row["type"].removeprefix(PREFIX) in OF_REQUESTS]
    filters: list[dict[str, str]] = [{}, {"model": MODELS[0]}, {"key_id": "key-b"}]
    for filter_ in filters:
        found = [row["position"] for row in await _all(engine, events_told(OF_REQUESTS, filter_, None))]
        assert found == _positions(failed, ("position",), **filter_)
        later = [row["position"] for row in await _all(engine, events_told(OF_REQUESTS, filter_, found[1]))]
        assert later == found[2:]


async def test_what_many_old_rows_have_is_not_looked_for_among_all_that_came_later(postgres_url: str) -> None:
    """As PostgreSQL plans, which believes that common values are common among the newest rows, too."""
    engine = database.open(postgres_url)
    await upgrade(engine)
    async with writing(engine) as connection:
        await connection.execute(
            text(
                "INSERT INTO ends (request_id, position, rank, event_id, status, time_ms, model, key_id, node) SELECT "
                "'req_' || n, n, 0, 'e' || n, 'answered', n, CASE WHEN n < 10000 THEN 'old' ELSE 'new' END, 'key', "
                "CASE WHEN n < 10000 THEN 'gone' ELSE 'here' END FROM generate_series(1, 30000) AS n"
            )
        )
        await connection.execute(text("ANALYZE ends"))
    for asked, index in (
        ({"node": "gone"}, "ix_ends_node_time_ms_position"),
        ({"model": "old"}, "ix_ends_model_time_ms_position"),
        ({"model": "old", "status": "answered", "cursor": "9000-9000"}, "ix_ends_model_time_ms_position"),
        ({"key_id": "key"}, "ix_ends_key_id_time_ms_position"),
    ):
        statement = queries.ends(EndsQuestion.model_validate(asked))
        compiled = statement.compile(engine.sync_engine, compile_kwargs={"literal_binds": True})
        async with reading(engine) as connection:
            plan = str((await connection.exec_driver_sql(f"EXPLAIN (ANALYZE) {compiled}")).all())
        assert f"Index Scan Backward using {index}" in plan, plan
        assert "Rows Removed" not in plan, plan
    await engine.dispose()
