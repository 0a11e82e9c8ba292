"""Looks for what does not fit together: accepted requests without an end, ends without an accepted request, and charges
or sums that are not those of their events. It changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import Column, MetaData, String, Table, func, select

from management.ledger.facts import ACCEPTED, BILLED, Unreadable, fact_of
from management.ledger.journal import check_zone
from management.ledger.rollups import rolled_up
from management.ledger.sums import Sums, daily_usage, keys_of
from store.database import reading
from store.insertion import insert as insert_or
from store.ledger_state import state_of
from store.tables import CHARGES, ENDS, EVENTS, USAGE_DAILY, USAGE_ROLLUP
from wire import codec
from wire.event import PREFIX

if TYPE_CHECKING:
    import datetime
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from management.ledger.books import Books
    from management.ledger.facts import Fact
    from management.ledger.sums import Row

OPEN_MS_MAX = 86_400_000
PAGE_EVENTS = 500
EXAMPLES_MAX = 20

_OPEN = Table("reconciled_requests", MetaData(), Column("request_id", String, primary_key=True), prefixes=["TEMPORARY"])


@dataclass
class Finding:
    """How many there are, and the first of them."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, what: str) -> None:
        """One more."""
        self.count += 1
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(what)


@dataclass
class Reconciled:
    """What was looked at, and what does not fit."""

    requests: int = 0
    charges: int = 0
    without_end: Finding = field(default_factory=Finding)
    without_request: Finding = field(default_factory=Finding)
    differing_charges: Finding = field(default_factory=Finding)
    differing_sums: Finding = field(default_factory=Finding)

    @property
    def findings(self) -> dict[str, Finding]:
        """By what they are."""
        return {
            "requests without an end": self.without_end,
            "ends without a request": self.without_request,
            "charges that differ from their event": self.differing_charges,
            "sums that differ from their charges": self.differing_sums,
        }


async def reconcile(engine: AsyncEngine, books: Books, since_ms: int, until_ms: int) -> Reconciled:
    """Of the time from ``since_ms``, the beginning of a day, until ``until_ms``: younger requests may still be open.
    None is open for longer than :data:`OPEN_MS_MAX`.

    A gateway tells each second which requests it took in, and what it took in during its last second is lost with it:
    after a kill, ends without a request are to be expected. Of events that are deleted nothing is known. Raises
    :class:`management.ledger.journal.WrongTimeZone`: by days of another zone every sum would differ.
    """
    found = Reconciled()
    # A temporary table is no writing: nobody waits for this.
    async with reading(engine) as connection:
        state = await state_of(connection)
        check_zone(state, books)
        horizon_ms = state.horizon_ms
        since_ms = max(since_ms, horizon_ms)
        await connection.run_sync(_OPEN.create)
        try:
            await _requests(connection, found, max(since_ms - OPEN_MS_MAX, horizon_ms), since_ms, until_ms)
            await _charges(connection, books, found, since_ms, until_ms)
        finally:
            await connection.run_sync(_OPEN.drop)
    return found


async def _requests(connection: AsyncConnection, found: Reconciled, told_ms: int, since_ms: int, until_ms: int) -> None:
    """``told_ms``: from when on what was accepted is read, for what ends from ``since_ms`` on."""
    statement = insert_or(connection.dialect.name, _OPEN).on_conflict_do_nothing()
    async for page in _pages(connection, told_ms, None, [PREFIX + ACCEPTED]):
        early: list[str] = []
        others: list[str] = []
        for time_ms, raw in page:
            requests = codec.decode_accepted_data(codec.decode_event(raw.encode()).data).requests
            (early if since_ms <= time_ms < until_ms else others).extend(requests)
        ids = sorted({*early, *others})
        if ids:
            await connection.execute(statement, [{"request_id": id_} for id_ in ids])
        found.requests += len(set(early))
        for start in range(0, len(early), PAGE_EVENTS):
            asked = early[start : start + PAGE_EVENTS]
            ended = set(await connection.scalars(select(ENDS.c.request_id).where(ENDS.c.request_id.in_(asked))))
            for id_ in asked:
                if id_ not in ended:
                    found.without_end.add(id_)
    # A dead letter may be replayed, and then answered, long after a gateway told that it had taken the request in.
    replayed = select(EVENTS.c.request_id).where(EVENTS.c.type == f"{PREFIX}request.replayed")
    unknown = select(ENDS.c.request_id).where(
        ENDS.c.time_ms >= max(since_ms, told_ms + OPEN_MS_MAX),
        ENDS.c.time_ms < until_ms,
        ENDS.c.request_id.not_in(select(_OPEN.c.request_id)),
        ENDS.c.request_id.not_in(replayed),
    )
    for id_ in await connection.scalars(unknown.order_by(ENDS.c.time_ms)):
        found.without_request.add(id_)


async def _charges(connection: AsyncConnection, books: Books, found: Reconciled, since_ms: int, until_ms: int) -> None:
    told = Sums(USAGE_DAILY)
    # Whole days only: sums have no smaller parts.
    until_ms = books.begins_ms(books.day(until_ms))
    async for page in _pages(connection, since_ms, until_ms, [PREFIX + BILLED]):
        facts = [fact for _, raw in page if (fact := _fact(raw)) is not None and fact.charge is not None]
        wanted = {fact.charge["request_id"]: fact.charge for fact in facts if fact.charge is not None}
        stored = select(CHARGES).where(CHARGES.c.request_id.in_(sorted(wanted)))
        rows = {row["request_id"]: dict(row) for row in (await connection.execute(stored)).mappings()}
        for id_, charge in wanted.items():
            row = rows.get(id_)
            if row is None or any(row[name] != value for name, value in charge.items()):
                found.differing_charges.add(id_)
        found.charges += len(facts)
        told.add_rows(daily_usage(facts, books))
    first, end = books.day(since_ms), books.day(until_ms)
    await _sums(connection, found, USAGE_DAILY, told.rows, first, end)
    rolled = rolled_up(USAGE_DAILY, told.rows, (await state_of(connection)).rolled_up_until)
    await _sums(connection, found, USAGE_ROLLUP, rolled, first, end)


async def _sums(
    connection: AsyncConnection,
    found: Reconciled,
    table: Table,
    told: list[Row],
    first: datetime.date,
    end: datetime.date,
) -> None:
    keys = len(keys_of(table))
    stored = select(table).where(table.c.day >= first, table.c.day < end)
    have = {tuple(row[:keys]): tuple(row) for row in await connection.execute(stored)}
    want = {row[:keys]: row for row in told}
    for key in sorted(have.keys() | want.keys()):
        if have.get(key) != want.get(key):
            found.differing_sums.add(" ".join(str(part) for part in key if part != ""))


def _fact(raw: str) -> Fact | None:
    try:
        return fact_of(raw.encode())
    except Unreadable:
        return None


async def _pages(
    connection: AsyncConnection, since_ms: int, until_ms: int | None, types: list[str]
) -> AsyncIterator[list[tuple[int, str]]]:
    # From the first of them on, or every event of these types that was ever told would be read on the way to it. The
    # sum has databases look for it by the time, and not along all positions.
    first = await connection.scalar(select(func.min(EVENTS.c.position + 0)).where(EVENTS.c.time_ms >= since_ms))
    if first is None:
        return
    position = first - 1
    while True:
        statement = select(EVENTS.c.position, EVENTS.c.time_ms, EVENTS.c.raw).where(
            EVENTS.c.type.in_(types), EVENTS.c.position > position, EVENTS.c.time_ms >= since_ms
        )
        if until_ms is not None:
            statement = statement.where(EVENTS.c.time_ms < until_ms)
        page = (await connection.execute(statement.order_by(EVENTS.c.position).limit(PAGE_EVENTS))).all()
        if not page:
            return
        position = page[-1][0]
        yield [(time_ms, raw) for _, time_ms, raw in page]
