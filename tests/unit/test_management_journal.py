"""What one transaction makes of a batch."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Table, select, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from management.ledger import rebuild as rebuilding
from management.ledger.journal import Entry, read, write
from management.ledger.rebuild import Rebuilt, rebuild
from store import database
from store.database import reading, writing
from store.fleet_tables import NODE_ERRORS
from store.migrate import upgrade
from store.tables import CHARGES, EVENTS, NODES, QUARANTINE, USAGE_DAILY
from tests.billing import NOON_MS, billed, node_event
from wire.usage import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = database.open(database_url)
    await upgrade(engine)
    yield engine
    await engine.dispose()


async def rows(engine: AsyncEngine, table: Table) -> list[dict[str, Any]]:
    async with reading(engine) as connection:
        return [dict(row) for row in (await connection.execute(select(table).order_by(*table.primary_key))).mappings()]


def entries(*payloads: bytes) -> list[Entry]:
    return [read(payload) for payload in payloads]


async def test_the_first_of_two_contents_counts_and_the_conflict_is_told(engine: AsyncEngine) -> None:
    cheap, dear = (billed(1, usage=Usage(prompt_tokens=tokens)) for tokens in (1, 1000))
    in_one_batch = await write(engine, entries(cheap, dear, cheap), now_ms=5)
    later = await write(engine, entries(dear, cheap), now_ms=6)
    assert (in_one_batch.duplicates, in_one_batch.conflicting) == (2, 1)
    assert (later.duplicates, later.conflicting) == (2, 1)
    assert [row["prompt_tokens"] for row in await rows(engine, CHARGES)] == [1]
    assert [row["prompt_tokens"] for row in await rows(engine, USAGE_DAILY)] == [1]


async def test_an_identical_charge_told_again_is_no_conflict(engine: AsyncEngine) -> None:
    await write(engine, entries(billed(1)), now_ms=5)
    again = await write(engine, entries(billed(1), billed(1)), now_ms=6)
    assert (again.stored, again.duplicates, again.conflicting) == (Counter(), 2, 0)
    assert [row["requests"] for row in await rows(engine, USAGE_DAILY)] == [1]


async def test_quarantine_keeps_a_digest_and_a_count_and_no_content(engine: AsyncEngine) -> None:
    secret = b"my prompt, by mistake"
    await write(engine, entries(secret, billed(1)), now_ms=5)
    written = await write(engine, entries(secret, secret), now_ms=7)
    assert written.quarantined == {"not_an_event": 2}
    assert await rows(engine, QUARANTINE) == [
        {
            "digest": hashlib.sha256(secret).hexdigest(),
            "size_bytes": len(secret),
            "reason": "not_an_event",
            "first_seen_ms": 5,
            "last_seen_ms": 7,
            "count": 3,
        }
    ]
    assert len(await rows(engine, CHARGES)) == 1


async def test_what_the_database_never_takes_is_quarantined_without_its_neighbours(engine: AsyncEngine) -> None:
    batch = entries(billed(1), billed(2), billed(3))
    # As if the checks before the database had missed it.
    batch[1].charge["answer_bytes"] = 2**63  # type: ignore[union-attr,index]
    written = await write(engine, batch, now_ms=5)
    assert written.stored == {"request.billed": 2}
    assert written.quarantined == {"unstorable": 1}
    assert len(await rows(engine, CHARGES)) == 2
    assert len(await rows(engine, EVENTS)) == 2


async def test_a_fault_of_the_database_quarantines_nothing_and_writes_nothing(engine: AsyncEngine) -> None:
    async with writing(engine) as connection:
        await connection.execute(text("ALTER TABLE usage_daily RENAME TO elsewhere"))
    with pytest.raises((OperationalError, ProgrammingError)):
        await write(engine, entries(billed(1), b"garbage"), now_ms=5)
    for table in (EVENTS, CHARGES, QUARANTINE):
        assert await rows(engine, table) == []


@pytest.mark.parametrize("together", [False, True])
async def test_an_older_event_of_a_node_does_not_replace_a_later_one(engine: AsyncEngine, together: bool) -> None:
    later = node_event("b", "node.draining", time="2026-03-01T12:00:09Z")
    older = node_event("a", "node.started", message="Hello.")
    for batch in [[later, older]] if together else [[later], [older]]:
        await write(engine, entries(*batch), now_ms=5)
    (node,) = await rows(engine, NODES)
    assert (node["last_type"], node["message"]) == ("node.draining", None)
    assert (node["first_ms"], node["last_ms"]) == (NOON_MS, NOON_MS + 9_000)


async def test_charges_whose_tokens_a_node_counted_itself_are_counted_as_such(engine: AsyncEngine) -> None:
    told = [billed(number, usage=Usage(prompt_tokens=1, estimated=number < 3)) for number in range(5)]
    await write(engine, entries(*told), now_ms=5)
    (used,) = await rows(engine, USAGE_DAILY)
    assert (used["requests"], used["estimated_requests"]) == (5, 3)


async def test_a_rebuild_gives_the_same_projections(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    payloads = [billed(number, model=f"m{number % 3}") for number in range(10)]
    payloads += [node_event("a", "node.started"), node_event("b", "node.stopped", time="2026-03-01T13:00:00Z")]
    await write(engine, entries(*payloads), now_ms=5)
    before = [await rows(engine, table) for table in (CHARGES, USAGE_DAILY, NODES, NODE_ERRORS)]
    async with writing(engine) as connection:
        await connection.execute(text("UPDATE usage_daily SET requests = 1000"))
        await connection.execute(text("DELETE FROM charges WHERE position > 3"))
        await connection.execute(
            text("INSERT INTO node_errors (node, time_ms, event_id, scope, code) VALUES ('ghost', 5, 'e', 'node', 'c')")
        )
        await connection.execute(
            text(
                "INSERT INTO nodes SELECT 'ghost', name, model, node_type, version, host, provider,"
                " first_ms, last_ms, last_type, message, error_code, until_ms FROM nodes"
            )
        )
    monkeypatch.setattr(rebuilding, "PAGE_EVENTS", 4)
    assert await rebuild(engine) == Rebuilt(events=12, charges=10, unreadable=0)
    assert [await rows(engine, table) for table in (CHARGES, USAGE_DAILY, NODES, NODE_ERRORS)] == before


async def test_a_stored_event_that_is_no_longer_read_is_told_by_a_rebuild(engine: AsyncEngine) -> None:
    await write(engine, entries(billed(1), billed(2)), now_ms=5)
    async with writing(engine) as connection:
        await connection.execute(text("UPDATE events SET raw = '{}' WHERE position = 1"))
    assert await rebuild(engine) == Rebuilt(events=2, charges=1, unreadable=1)
