"""How long what is kept: old rows are deleted in small transactions, and the sums by day stay."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import and_, delete, exists, not_, select

from management.reading.fleet_queries import IS_DISCARDED
from management.reading.queries import Unindexed
from process.identity import now_ms
from process.logging import Log
from store.budgets import forget_expired
from store.database import writing
from store.fleet_tables import ACTIONS, ALERTS, NODE_ERRORS
from store.ledger_state import alone, set_horizon
from store.money_tables import PRICED
from store.tables import CHARGES, ENDS, EVENTS, NODES, PROMPTS, QUARANTINE
from wire.event import PREFIX

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from sqlalchemy import Column, ColumnElement, Table
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from management.fleet.nodes import NodeRegistry
    from management.ledger.books import Books
    from management.settings import Retention

log = Log("management")

EVERY_S = 3600.0
FIRST_S = 60.0
"""After the start, which has other things to do."""
BATCH_ROWS = 500
BETWEEN_S = 0.05
"""Between two transactions, so that the ledger is written meanwhile."""


async def keep(engine: AsyncEngine, retention: Retention, books: Books, registry: NodeRegistry) -> None:
    """Sweep for ever. A database that is away is swept the next time."""
    await asyncio.sleep(FIRST_S)
    while True:
        try:
            present = [presence.node for presence, _ in registry.present()]
            deleted = await sweep(engine, retention, books, now_ms(), present)
        except Exception as error:
            log.warning("Old rows could not be deleted.", action="retention_failed", error=type(error).__name__)
        else:
            if deleted:
                log.info("Old rows were deleted.", action="retention", **deleted)
        await asyncio.sleep(EVERY_S)


async def sweep(
    engine: AsyncEngine, retention: Retention, books: Books, now: int, present: Collection[str] = ()
) -> Counter[str]:
    """Delete what is too old; how many rows of which table that were. Nodes that are ``present`` are never too old."""
    deleted: Counter[str] = Counter()
    events_before = None
    async with writing(engine) as connection:
        # Before any row, as the ledger does, which may be about to release the same ones.
        await alone(connection)
        await forget_expired(connection, now)
        if retention.events_days is not None and (taken_in_ms := await _taken_in_ms(connection)) is not None:
            # First the line, then the rows: what is told of an earlier time might have been counted, and is refused.
            # It follows what was taken in, and not the clock: after days away, all that waits was never counted. So
            # the last event stays, too, without which SQLite would number the next one like one that was deleted.
            events_before = _before(retention.events_days, books, min(now, taken_in_ms))
            await set_horizon(connection, events_before)
    for table, time, before_ms in _classes(retention, books, now, events_before):
        while count := await _batch(engine, table, time, before_ms, present):
            deleted[table.name] += count
            await asyncio.sleep(BETWEEN_S)
    return deleted


async def _taken_in_ms(connection: AsyncConnection) -> int | None:
    """The time that the last event tells, in the order of the topic; None before the first one."""
    return await connection.scalar(select(EVENTS.c.time_ms).order_by(EVENTS.c.position.desc()).limit(1))


def _classes(
    retention: Retention, books: Books, now: int, events_before: int | None
) -> Iterator[tuple[Table, Column[int], int]]:
    """Which rows are deleted: those of an earlier time."""

    def before(days: int | None) -> int | None:
        return None if days is None else _before(days, books, now)

    requests_before, priced_before = before(retention.requests_days), None
    fleet_before = before(retention.fleet_days)
    if events_before is not None and requests_before is not None:
        # A rebuild asks by which prices an event was priced, for as long as there is the event.
        priced_before = min(events_before, requests_before)
    for table, time, before_ms in (
        (EVENTS, EVENTS.c.time_ms, events_before),
        (CHARGES, CHARGES.c.time_ms, requests_before),
        (ENDS, ENDS.c.time_ms, requests_before),
        (PRICED, PRICED.c.time_ms, priced_before),
        (PROMPTS, PROMPTS.c.time_ms, before(retention.prompts_days)),
        (QUARANTINE, QUARANTINE.c.last_seen_ms, before(retention.quarantine_days)),
        (NODES, NODES.c.last_ms, fleet_before),
        (NODE_ERRORS, NODE_ERRORS.c.time_ms, fleet_before),
        (ALERTS, ALERTS.c.cleared_ms, fleet_before),
        (ACTIONS, ACTIONS.c.at_ms, fleet_before),
    ):
        if before_ms is not None:
            yield table, time, before_ms


async def _batch(engine: AsyncEngine, table: Table, time: Column[int], before_ms: int, present: Collection[str]) -> int:
    (key,) = table.primary_key.columns
    old = select(key).where(time < before_ms, *_but(table, present)).limit(BATCH_ROWS)
    async with writing(engine) as connection:
        return (await connection.execute(delete(table).where(key.in_(old)))).rowcount


def _but(table: Table, present: Collection[str]) -> list[ColumnElement[bool]]:
    """Which rows are kept, however old: a dead letter waits for a person, and a decision stands as long as its end; an
    alert waits until it is over and that was told."""
    if table is ENDS:
        return [not_(and_(ENDS.c.status == "dead", not_(IS_DISCARDED)))]
    if table is EVENTS:
        is_decision = EVENTS.c.type == f"{PREFIX}request.discarded"
        return [not_(and_(is_decision, exists().where(ENDS.c.request_id == EVENTS.c.request_id)))]
    if table in (NODES, NODE_ERRORS):
        return [table.c.node.not_in(present)]
    if table is ALERTS:
        return [Unindexed(ALERTS.c.told) == "cleared"]
    return []


def _before(days: int, books: Books, now: int) -> int:
    return books.begins_ms(books.day(now) - timedelta(days=days))
